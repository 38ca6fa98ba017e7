"""What every objective keeps, and the worked examples of those that neither corrupt nor mask."""

import itertools
import typing

import numpy as np
import pytest
from examples import (
    EOS,
    documents,
    keys_of,
    labelled_parts,
    parts_for,
    ragged,
    rows_of,
    settings,
    streams_of,
    take,
    vocabulary,
    windows,
)

from t5like import config
from t5like.config.objective import SPECS
from t5like.data.objectives import OBJECTIVES, require_special_tokens, sizes, trained_frame
from t5like.data.objectives.text import prefixes
from t5like.data.ragged import Ragged
from t5like.data.rows.layout import MAIN
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError

UNLABELLED = [kind for kind, spec in SPECS.items() if spec.parts < 3]
REAL = ("multi_label_classification", "regression")
WIDTHS = {**dict.fromkeys(REAL, (3,)), "span": (2,)}
"""Kinds whose labels are float32, and labels that are several numbers of a row."""
BOTH = [(kind, by_document) for kind in OBJECTIVES for by_document in (False, True)]


def as_lists(stream: Ragged) -> list[list[int]]:
    return [sequence.tolist() for sequence in stream.sequences()]


def test_every_kind_of_the_config_is_an_objective():
    kind = typing.get_type_hints(config.Objective)["kind"]
    assert [*OBJECTIVES] == [*SPECS] == [*typing.get_args(kind)]


def test_targets_are_answers_exactly_where_documents_are_an_input_and_its_target():
    assert {kind for kind, spec in SPECS.items() if spec.answers} == {k for k, spec in SPECS.items() if spec.parts == 2}


def test_a_vocabulary_without_the_pieces_of_the_objective_is_refused():
    bare = Vocabulary(vocabulary().pieces, ("[MASK]",), 200)
    require_special_tokens(settings("masked"), bare)
    with pytest.raises(
        UserError, match=r"data\.store=unused has no \[CLS\] \[SEP\], which .*'next_sentence' needs: add"
    ):
        require_special_tokens(settings("next_sentence"), bare)


@pytest.mark.parametrize("kind", UNLABELLED)
def test_a_prompt_is_framed_as_texts_are_in_rows(kind):
    data = settings(kind, documents=True)
    features, frame = rows_of(data, *parts_for(data, 6)), trained_frame(data, vocabulary())
    stack = "encoder" if "encoder" in data.lengths else "decoder"
    rows = zip(features[f"{stack}_input_tokens"], features[f"{stack}_segment_ids"], strict=True)
    texts = [row[segments == 1].tolist() for row, segments in rows]
    for text in texts:
        assert text[: len(frame.before)] == [*frame.before]
        assert text[len(text) - len(frame.behind) :] == [*frame.behind]
    for at, side in ((0, frame.before), (-1, frame.behind)):  # the rest is the text's own
        assert bool(side) == (len({text[at] for text in texts}) == 1)


@pytest.mark.parametrize(("kind", "by_document"), BOTH)
def test_features_are_contiguous_int32_and_float32_of_the_configs_lengths(kind, by_document):
    data = settings(kind, documents=by_document)
    features = rows_of(data, *parts_for(data, 6))
    for name, feature in features.items():
        real = name.endswith("_weights") or (name == "labels" and kind in REAL)
        assert feature.dtype == (np.float32 if real else np.int32), name
        assert feature.flags.c_contiguous, name
        own = {"labels": WIDTHS.get(kind, ()), "candidates": (4,)}
        assert feature.shape == (6, *own.get(name, (data.lengths.get(name.split("_")[0]),))), name


@pytest.mark.parametrize(("kind", "by_document"), BOTH)
def test_an_example_is_the_same_whatever_else_is_in_the_batch(kind, by_document):
    data = settings(kind, documents=by_document)
    parts, keys = parts_for(data, 12), keys_of(12)
    whole = streams_of(data, parts)
    for chosen in ([3], [11, 4, 0, 7]):
        for name, stream in streams_of(data, take(parts, chosen), keys[chosen]).items():
            for own, number in zip(stream.sequences(), chosen, strict=True):
                np.testing.assert_array_equal(own, whole[name].sequences()[number])


@pytest.mark.parametrize("kind", sorted({*UNLABELLED} - {"causal", "sequence_to_sequence", "prompt_target"}))
def test_another_key_is_another_choice(kind):
    data = settings(kind, 128)
    parts = tuple(take((part,), [5] * 50)[0] for part in parts_for(data, 6))
    rows = np.concatenate([feature for name, feature in rows_of(data, *parts).items() if name != "labels"], axis=1)
    assert len(np.unique(rows, axis=0)) > 15


@pytest.mark.parametrize(("kind", "by_document"), BOTH)
def test_sizes_are_those_of_the_streams(kind, by_document):
    data = settings(kind, documents=by_document)
    if data.objective.spec.parts == 2 or kind == "next_sentence":
        lengths = np.array(list(itertools.product(range(1, 30, 3), range(1, 30, 3))))
    elif data.objective.spec.parts == 3:
        lengths = np.arange(8, data.length)[:, None]
    else:
        lengths = np.arange(1, data.window + 1).repeat(4)[:, None] if by_document else np.full((9, 1), data.window)
    parts = tuple(documents(column, n) for n, column in enumerate(lengths.T))
    if kind == "next_sentence":
        parts = (*parts, documents(lengths[:, 1], 5))
    if data.objective.spec.parts == 3:
        parts = labelled_parts(data, lengths[:, 0])
    streams = streams_of(data, parts)
    found = np.stack([streams[MAIN[stack]].lengths for stack in data.lengths], axis=1)
    expected = sizes(lengths, keys_of(len(lengths)), data)
    assert (expected <= list(data.lengths.values())).all()
    # A document as long as the window counts as one that was cut, and has no EOS of its own.
    whole = lengths.sum(axis=1) < data.window if data.objective.spec.parts == 1 and data.by_document else slice(None)
    np.testing.assert_array_equal(found[whole], expected[whole])
    assert (found <= expected).all()


@pytest.mark.parametrize("kind", sorted(k for k, spec in SPECS.items() if spec.parts == 1))
def test_a_document_that_was_cut_fits_as_well(kind):
    data = settings(kind, documents=True)
    lengths = np.full((20, 1), data.window) if kind != "next_sentence" else np.full((20, 2), data.window // 2)
    parts = tuple(windows(20, own[0]) for own in lengths.T)
    streams = streams_of(data, (*parts, *parts[:1]) if kind == "next_sentence" else parts)
    found = np.stack([streams[MAIN[stack]].lengths for stack in data.lengths], axis=1)
    np.testing.assert_array_equal(found, sizes(lengths, keys_of(20), data))


def test_a_prefix_that_the_table_cut_is_that_of_the_text():
    data = settings("prefix", documents=True)
    whole, keys = documents(np.arange(2, 60)), keys_of(58)
    cut = prefixes(whole.lengths - 1, keys)
    halves = [(text[:at].tolist(), text[at:].tolist()) for text, at in zip(whole.sequences(), cut, strict=True)]
    cut_before = streams_of(data, tuple(ragged(*half) for half in zip(*halves, strict=True)))
    for name, stream in streams_of(data, (whole,), keys).items():
        np.testing.assert_array_equal(stream.values, cut_before[name].values)


def test_causal_targets_are_the_text():
    part = documents([3, 1, 7])
    assert as_lists(streams_of(settings("causal"), (part,))["decoder_target_tokens"]) == as_lists(part)


def test_a_prefix_ends_at_every_place_equally_often_and_loses_nothing():
    rows, text = 8000, [7, 8, 9, 6, 5]
    streams = streams_of(settings("prefix", documents=True), (ragged(*[[*text, EOS]] * rows),))
    pairs = list(zip(*(as_lists(streams[name]) for name in MAIN.values()), strict=True))
    assert ([7, 8, 1], [9, 6, 5, 1]) in pairs
    assert all(inputs[:-1] + targets[:-1] == text and inputs[-1] == targets[-1] == EOS for inputs, targets in pairs)
    counts = np.bincount([len(inputs) - 1 for inputs, _ in pairs], minlength=6)
    assert counts[0] == counts[5] == 0
    # Chi-squared with 3 degrees of freedom: 22 is passed once in 10,000 times.
    assert (np.square(counts[1:5] - rows / 4) / (rows / 4)).sum() < 22


def test_a_text_of_one_token_has_no_prefix():
    streams = streams_of(settings("prefix", documents=True), (ragged([7, EOS], [EOS], [7, 8, EOS]),))
    assert as_lists(streams["encoder_input_tokens"]) == [[1], [1], [7, 1]]
    assert as_lists(streams["decoder_target_tokens"]) == [[7, 1], [1], [8, 1]]


def test_a_pair_is_cut_to_its_rows_and_keeps_its_eos():
    data = settings("sequence_to_sequence", 8)
    source, target = ragged([7, 8, EOS], [*range(10, 20), EOS], [EOS]), ragged([*range(20, 29), EOS], [5, EOS], [EOS])
    streams = streams_of(data, (source, target))
    assert as_lists(streams["encoder_input_tokens"]) == [[7, 8, 1], [*range(10, 17), 1], [1]]
    assert as_lists(streams["decoder_target_tokens"]) == [[20, 21, 22, 1], [5, 1], [1]]


@pytest.mark.parametrize(
    ("prompt", "target", "shown", "kept"),
    [
        (2, 2, 2, 2),
        (0, 0, 0, 0),
        (20, 2, 5, 2),
        (2, 20, 2, 5),
        (20, 20, 4, 3),
        (4, 3, 4, 3),
        (5, 3, 4, 3),
        (4, 4, 4, 3),
    ],
)
def test_a_prompt_loses_its_beginning_and_a_target_its_end(prompt, target, shown, kept):
    first, second = [*range(10, 10 + prompt)], [*range(50, 50 + target)]
    streams = streams_of(settings("prompt_target", 8), (ragged([*first, EOS]), ragged([*second, EOS])))
    assert as_lists(streams["decoder_target_tokens"]) == [[*first[prompt - shown :], *second[:kept], EOS]]
    assert as_lists(streams["decoder_loss_weights"]) == [[0] * shown + [1] * (kept + 1)]


def test_loss_is_on_the_target_alone_and_inputs_begin_with_the_start():
    features = rows_of(settings("prompt_target", 8), ragged([7, 8, EOS]), ragged([9, 6, EOS]))
    assert features["decoder_target_tokens"].tolist() == [[7, 8, 9, 6, 1, 0, 0, 0]]
    assert features["decoder_input_tokens"].tolist() == [[0, 7, 8, 9, 6, 0, 0, 0]]
    assert features["decoder_loss_weights"].tolist() == [[0, 0, 1, 1, 1, 0, 0, 0]]


def rearranged(middle_rate: float, rows: int, text: list[int], **more: float) -> list[list[int]]:
    data = settings("fill_in_the_middle", 32, middle_rate=middle_rate, **more)
    return as_lists(streams_of(data, (ragged(*[[*text, EOS]] * rows),))["decoder_target_tokens"])


def test_the_middle_of_a_text_moves_behind_its_end_between_any_two_cuts():
    before, middle, after = (vocabulary().special[name] for name in config.FIM)
    rows, text = 8000, [7, 8, 9, 6, 5]
    found = rearranged(1.0, rows, text)
    assert [before, 7, after, 6, 5, middle, 8, 9, EOS] in found
    counts = np.zeros((6, 6))
    for tokens in found:
        assert tokens[0] == before and tokens[-1] == EOS
        low, high = tokens.index(after), tokens.index(middle)
        first, last, between = tokens[1:low], tokens[low + 1 : high], tokens[high + 1 : -1]
        assert first + between + last == text
        counts[len(first), len(first) + len(between)] += 1
    # Two independent cuts at 0..5: different ones come in two orders.
    expected = np.triu(np.full((6, 6), 2.0), 1) + np.eye(6)
    drawn = expected > 0
    expected = (expected * rows / 36)[drawn]
    # Chi-squared with 20 degrees of freedom: 53 is passed once in 10,000 times.
    assert (np.square(counts[drawn] - expected) / expected).sum() < 53


def test_a_share_of_the_texts_is_rearranged_and_the_rest_stays():
    rows, text = 4000, [7, 8, 9, 6, 5]
    stayed = np.mean([tokens == [*text, EOS] for tokens in rearranged(0.3, rows, text)])
    assert stayed == pytest.approx(0.7, abs=5 * np.sqrt(0.21 / rows))


def test_an_empty_text_has_an_empty_middle():
    before, middle, after = (vocabulary().special[name] for name in config.FIM)
    assert rearranged(1.0, 1, []) == [[before, after, middle, EOS]]


def test_a_share_of_the_rearranged_texts_has_the_end_first_and_the_others_stay_as_they_were():
    before, middle, after = (vocabulary().special[name] for name in config.FIM)
    rows, text = 4000, [7, 8, 9, 6, 5]
    plain, mixed = (rearranged(1.0, rows, text, suffix_first_rate=rate) for rate in (0.0, 0.3))
    assert [before, after, 6, 5, middle, 7, 8, 9, EOS] in mixed
    turned = [tokens[:2] == [before, after] and one != tokens for tokens, one in zip(mixed, plain, strict=True)]
    for own, one, other in zip(turned, plain, mixed, strict=True):
        low, high = one.index(after), one.index(middle)
        spm = [before, after, *one[low + 1 : high], middle, *one[1:low], *one[high + 1 :]]
        assert other == (spm if own else one) and len(one) == len(other)
    # Where the prefix is empty both orders are the same tokens.
    visible = np.mean([one.index(after) > 1 for one in plain])
    assert np.mean(turned) == pytest.approx(0.3 * visible, abs=5 * np.sqrt(0.21 / rows))
