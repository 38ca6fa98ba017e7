"""Masking has BERT's shares and spares special tokens; pairs of segments are BERT's."""

import numpy as np
import pytest
from examples import (
    EOS,
    EXTRA,
    PIECES,
    documents,
    keys_of,
    ragged,
    rows_of,
    settings,
    streams_of,
    take,
    vocabulary,
    windows,
)

from t5like import config
from t5like.data.masking import next_sentence
from t5like.data.ragged import Ragged
from t5like.data.vocabulary import Vocabulary, train_pieces


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
    data = settings("masked", 96, density=density, whole_words=True)
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
    data = settings("masked", 16, documents=True, density=0.4, whole_words=True)
    two_of_three = [begin, follow, follow, begin, begin]
    weights = streams_of(data, (constant(50, two_of_three),))["encoder_loss_weights"].values.reshape(50, 5)
    assert (weights == [0, 0, 0, 1, 1]).all()
    # Words of 2, 1, 1, two wanted: the first of a random order decides, unless it is a short one.
    rows = 6000
    weights = streams_of(
        settings("masked", 16, documents=True, density=0.5, whole_words=True),
        (constant(rows, [begin, follow, begin, begin]),),
    )["encoder_loss_weights"].values.reshape(rows, 4)
    assert set(map(tuple, weights.tolist())) == {(1, 1, 0, 0), (0, 0, 1, 1)}
    assert weights[:, 0].mean() == pytest.approx(1 / 3, abs=5 * np.sqrt(2 / 9 / rows))


def end_of_sentence() -> int:
    return int(np.flatnonzero(vocabulary().ends_sentence)[0])


def plain(count: int) -> list[int]:
    """Tokens that end no sentence, all different."""
    return [int(n) for n in vocabulary().ordinary if not vocabulary().ends_sentence[n]][:count]


def pairs_of(rows: int, chunk: list[int], other: list[int], length: int = 64) -> list[tuple[int, list[int], list[int]]]:
    """Label, A and B of each pair before masking, without [CLS] and [SEP]."""
    data = settings("next_sentence", length)
    streams = streams_of(data, (constant(rows, chunk), constant(rows, other)))
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
    stop, (five, six, seven) = end_of_sentence(), plain(3)
    pairs = pairs_of(40, [five, stop, six, seven, stop, EOS], [five, EOS])
    assert (0, [five, stop], [six, seven, stop]) in pairs
    assert (1, [five, stop], [five]) in pairs
    assert {tuple(a) for _, a, _ in pairs} == {(five, stop)}


def test_a_chunk_is_cut_after_any_of_its_sentences_and_half_the_time_goes_on_elsewhere():
    stop, word = end_of_sentence(), plain(40)
    chunk = [*word[:2], stop, *word[2:5], stop, *word[5:9], stop, *word[9:11], EOS]
    other = [*word[20:24], stop, *word[24:29], stop, *word[29:33], stop, word[33], EOS]
    rows = 6000
    pairs = pairs_of(rows, chunk, other)
    assert np.mean([label for label, _, _ in pairs]) == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(rows))
    cuts = {3, 7, 12}
    for cut in cuts:
        share = np.mean([len(a) == cut for _, a, _ in pairs])
        assert share == pytest.approx(1 / 3, abs=5 * np.sqrt(2 / 9 / rows))
    assert all(a + b == chunk[:-1] for label, a, b in pairs if label == 0)
    begins = {0: set(), 5: set(), 11: set()}
    for label, a, b in pairs:
        if label == 1:
            assert a == chunk[: len(a)] and len(a) in cuts and len(b) == len(chunk) - 1 - len(a)
            begin = other.index(b[0])
            assert other[begin : begin + len(b)] == b
            begins[begin].add(len(b))
    # A sentence near the end of the other document is where only a short B begins.
    assert begins == {0: {2, 7, 11}, 5: {2, 7, 11}, 11: {2}}


def test_marks_in_a_row_end_one_sentence():
    stop, word = end_of_sentence(), plain(6)
    pairs = pairs_of(50, [word[0], stop, stop, stop, word[1], EOS], [word[2], stop, stop, word[3], EOS])
    assert {len(a) for _, a, _ in pairs} == {4}
    assert {b[0] for label, _, b in pairs if label == 1} == {word[2], word[3]}


def test_chinese_sentences_are_told_apart():
    poem = "床前明月光，疑是地上霜。举头望明月，低头思故乡。白日依山尽，黄河入海流。欲穷千里目，更上一层楼。"
    settled = config.Vocabulary(kind="unigram", size=300, coverage=1.0)
    chinese = Vocabulary(train_pieces(settled, [poem]), EXTRA, 200)
    part = ragged(*[chinese.encode_document(poem)] * 60)
    streams = next_sentence((part, part), keys_of(60), settings("next_sentence", 128), chinese)
    types = streams["encoder_token_types"].sequences()
    segments = zip(streams["encoder_target_tokens"].sequences(), types, strict=True)
    firsts = {chinese.decode(tokens[own == 0][1:-1].tolist()) for tokens, own in segments}
    ends = [at + 1 for at, character in enumerate(poem[:-1]) if character == "。"]
    assert firsts == {poem[:end] for end in ends}


def test_a_chunk_of_one_sentence_is_cut_in_the_middle_and_one_of_one_token_has_no_second():
    word = plain(9)
    assert {(len(a), len(b)) for _, a, b in pairs_of(20, [*word[:7], EOS], [word[8], EOS])} == {(4, 3), (4, 1)}
    assert set(map(str, pairs_of(20, [word[0], EOS], [word[8], EOS]))) == {str((0, [word[0]], []))}
    assert {label for label, _, _ in pairs_of(20, [*word[:7], EOS], [EOS])} == {0}


def test_pairs_fit_into_the_row_and_are_masked_like_any_text():
    data = settings("next_sentence", 32)
    parts = documents(np.full(50, data.window)), documents(np.full(50, data.window), seed=5)
    for part in parts:
        part.values[np.cumsum(part.lengths) - 1] = 7  # cut from a longer document
    features = rows_of(data, *parts)
    assert set(features) == {
        *(f"encoder_{n}" for n in ("input_tokens", "target_tokens", "loss_weights", "segment_ids", "positions")),
        "encoder_token_types",
        "labels",
    }
    chosen = features["encoder_loss_weights"] == 1
    same = (features["labels"] == 0) | (features["encoder_segment_ids"].sum(1) == 32)
    assert same.any() and (chosen[same].sum(1) == round(0.15 * 32)).all()
    assert not vocabulary().is_special[features["encoder_target_tokens"][chosen]].any()
    assert features["encoder_segment_ids"].max() == 1
    assert (features["encoder_token_types"][features["encoder_segment_ids"] == 0] == 0).all()


def test_a_pair_does_not_depend_on_the_batch():
    data = settings("next_sentence", 64)
    parts = documents(np.arange(2, 42)), documents(np.arange(42, 2, -1), seed=3)
    whole, keys = streams_of(data, parts), keys_of(40)
    alone = streams_of(data, take(parts, [17]), keys[17:18])
    for name, stream in whole.items():
        np.testing.assert_array_equal(stream.sequences()[17], alone[name].values)
