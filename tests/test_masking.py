"""Masking has BERT's shares and spares special tokens; pairs of segments are BERT's."""

import numpy as np
import pytest
from examples import (
    EOS,
    PIECES,
    keys_of,
    ragged,
    rows_of,
    settings,
    streams_of,
    take,
    vocabulary,
    windows,
    windows_of,
)

from t5like import config
from t5like.data.ragged import Ragged


def special(name: str) -> int:
    return vocabulary().special[name]


def constant(rows: int, tokens: list[int]) -> Ragged:
    return Ragged(np.tile(np.array(tokens, np.int32), rows), np.full(rows, len(tokens)))


def test_masked_is_the_worked_example_of_its_docstring():
    tokens, mask = [7, 8, 9, 6, 1], special(config.MASK)
    streams = streams_of(settings("masked", 8, density=0.4), (constant(500, tokens),))
    inputs, targets, weights = (
        streams[f"encoder_{name}"].values.reshape(500, 5).tolist()
        for name in ("input_tokens", "target_tokens", "loss_weights")
    )
    assert targets == [tokens] * 500
    assert weights[inputs.index([7, mask, 9, mask, 1])] == [0, 1, 0, 1, 0]
    assert len(set(map(tuple, weights))) == 6  # two of the four that are not special


@pytest.mark.parametrize("density", [0.15, 0.5, 0.9])
def test_masked_picks_its_share_and_no_special_token(density):
    part = windows(200, 125, least=0, most=12)
    tokens = part.values.reshape(200, 125)
    tokens[:5] = 1
    tokens[:5, :4] = 7
    chosen = rows_of(settings("masked", 125, density=density), part)["encoder_loss_weights"] == 1
    eligible = ~vocabulary().is_special[tokens]
    assert not chosen[~eligible].any()
    np.testing.assert_array_equal(chosen.sum(1), np.minimum(round(density * 125), eligible.sum(1)))
    assert set(eligible.sum(1)[:5]) == {4}


def test_masked_chooses_every_place_equally_often():
    rows = 8000
    weights = rows_of(settings("masked", 40), windows(rows, 40))["encoder_loss_weights"]
    assert np.abs(weights.mean(0) - 0.15).max() < 5 * np.sqrt(0.15 * 0.85 / rows)


def test_masked_hides_80_replaces_10_and_keeps_10_percent():
    features = rows_of(settings("masked", 512), constant(1000, [7] * 512))
    chosen, inputs = features["encoder_loss_weights"] == 1, features["encoder_input_tokens"]
    assert (inputs[~chosen] == 7).all()
    fates = inputs[chosen]
    kept, hidden = fates == 7, fates == special(config.MASK)
    ordinary = vocabulary().ordinary
    for share, expected in (
        (hidden, 0.8),
        (kept, 0.1 + 0.1 / ordinary.size),
        (~hidden & ~kept, 0.1 * (1 - 1 / ordinary.size)),
    ):
        assert share.mean() == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / len(fates)))
    random = fates[~hidden & ~kept]
    counts = np.bincount(random, minlength=PIECES)[ordinary]
    assert set(random.tolist()) == set(ordinary.tolist()) - {7}
    # Chi-squared with 395 degrees of freedom: 500 is passed once in 4,000 times.
    expected = len(random) / (ordinary.size - 1)
    assert (np.square(counts[ordinary != 7] - expected) / expected).sum() < 500


def test_short_documents_have_one_token_to_predict_and_empty_ones_none():
    weights = streams_of(settings("masked", documents=True), (ragged([7, 8, EOS], [7, EOS], [EOS], []),))
    assert [own.sum() for own in weights["encoder_loss_weights"].sequences()] == [1, 1, 0, 0]


def words_of(tokens: np.ndarray) -> np.ndarray:
    """The number of the word that each token of a row belongs to, special tokens alone."""
    alone = vocabulary().is_special[tokens]
    begins = vocabulary().begins_word[tokens] | alone
    begins[1:] |= alone[:-1]
    return np.cumsum(begins)


@pytest.mark.parametrize("density", [0.15, 0.5])
def test_whole_words_are_chosen_or_left_whole(density):
    data = settings("masked", 96, density=density, whole_words=True, words="pieces")
    part = windows(100, 96)
    part.values[np.random.default_rng(2).random(part.values.size) < 0.05] = EOS
    features = rows_of(data, part)
    chosen = features["encoder_loss_weights"] == 1
    for tokens, row in zip(features["encoder_target_tokens"], chosen, strict=True):
        words = words_of(tokens)
        assert not set(words[row]) & set(words[~row])
        assert not vocabulary().is_special[tokens[row]].any()
        # Whatever word is left out has more tokens than are still wanted.
        left = round(density * 96) - row.sum()
        lengths = np.bincount(words[~row & ~vocabulary().is_special[tokens]])
        assert left >= 0 and (lengths[lengths > 0] > left).all()


def test_whole_words_are_drawn_as_bert_draws_them():
    # Words of 3, 1 and 1 tokens, two wanted. Of six orders, the long word is passed over in all.
    begins, ordinary = vocabulary().begins_word, vocabulary().ordinary
    begin, follow = (int(ordinary[begins[ordinary] == wanted][0]) for wanted in (True, False))
    data = settings("masked", 16, documents=True, density=0.4, whole_words=True, words="pieces")
    two_of_three = [begin, follow, follow, begin, begin]
    weights = streams_of(data, (constant(50, two_of_three),))["encoder_loss_weights"].values.reshape(50, 5)
    assert (weights == [0, 0, 0, 1, 1]).all()
    # Words of 2, 1, 1, two wanted: the first of a random order decides, unless it is a short one.
    rows = 6000
    weights = streams_of(
        settings("masked", 16, documents=True, density=0.5, whole_words=True, words="pieces"),
        (constant(rows, [begin, follow, begin, begin]),),
    )["encoder_loss_weights"].values.reshape(rows, 4)
    assert set(map(tuple, weights.tolist())) == {(1, 1, 0, 0), (0, 0, 1, 1)}
    assert weights[:, 0].mean() == pytest.approx(1 / 3, abs=5 * np.sqrt(2 / 9 / rows))


def pairs_of(rows: int, *parts: list[int], length: int = 64) -> list[tuple[int, list[int], list[int]]]:
    """Label, A and B of each pair before masking, without [CLS] and [SEP]."""
    streams = streams_of(settings("next_sentence", length), tuple(constant(rows, part) for part in parts))
    found = []
    for tokens, types, label in zip(
        streams["encoder_target_tokens"].sequences(),
        streams["encoder_token_types"].sequences(),
        streams["labels"].values,
        strict=True,
    ):
        first, second = tokens[types == 0].tolist(), tokens[types == 1].tolist()
        assert types.tolist() == [0] * len(first) + [1] * len(second)
        assert (first[0], first[-1], second[-1]) == (special(config.CLS), special(config.SEP), special(config.SEP))
        found.append((int(label), first[1:-1], second[:-1]))
    return found


def test_next_sentence_is_the_worked_example_of_its_docstring():
    pairs = pairs_of(40, [5, 9], [6, 7, 9], [8, 3, 9])
    assert {str(pair) for pair in pairs} == {str((0, [5, 9], [6, 7, 9])), str((1, [5, 9], [8, 3, 9]))}


def test_half_the_time_another_b_is_shown():
    rows = 6000
    pairs = pairs_of(rows, [5, 6, 7], [8, 9], [10, 11])
    assert np.mean([label for label, _, _ in pairs]) == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(rows))
    assert all(a == [5, 6, 7] and b == ([10, 11] if label else [8, 9]) for label, a, b in pairs)


def test_another_b_that_is_too_long_loses_its_end():
    assert {len(b) for label, _, b in pairs_of(40, [5] * 8, [6] * 5, [7] * 9, length=16) if label} == {5}


def test_pairs_fit_into_the_row_and_are_masked_like_any_text():
    data = settings("next_sentence", 32)
    features = rows_of(data, *(windows_of(np.full(50, length), length) for length in (14, 15, 15)))
    assert set(features) == {
        *(f"encoder_{n}" for n in ("input_tokens", "target_tokens", "loss_weights", "segment_ids", "positions")),
        "encoder_token_types",
        "labels",
    }
    chosen = features["encoder_loss_weights"] == 1
    assert (features["encoder_segment_ids"] == 1).all() and (chosen.sum(1) == round(0.15 * 32)).all()
    assert not vocabulary().is_special[features["encoder_target_tokens"][chosen]].any()
    padded = rows_of(data, *(windows_of(np.full(50, length), length) for length in (4, 5, 5)))
    assert (padded["encoder_segment_ids"].sum(1) == 12).all()
    assert (padded["encoder_token_types"][padded["encoder_segment_ids"] == 0] == 0).all()


def test_a_pair_does_not_depend_on_the_batch():
    data = settings("next_sentence", 64)
    parts = tuple(windows_of(lengths, n) for n, lengths in enumerate(np.random.default_rng(0).integers(1, 30, (3, 40))))
    whole, keys = streams_of(data, parts), keys_of(40)
    alone = streams_of(data, take(parts, [17]), keys[17:18])
    for name, stream in whole.items():
        np.testing.assert_array_equal(stream.sequences()[17], alone[name].values)
