"""Examples stand in their rows unchanged, and what is around them does not show."""

import numpy as np
import pytest
from examples import (
    EOS,
    documents,
    keys_of,
    parts_for,
    ragged,
    rows_of,
    settings,
    streams_of,
    take,
    vocabulary,
    windows,
)

from t5like.config import Data
from t5like.config.objective import SPECS
from t5like.data.features import features_of, token_features
from t5like.data.objectives import OBJECTIVES, sizes
from t5like.data.ragged import Ragged, RaggedFeatures
from t5like.data.rows.layout import lay_out

PACKED = sorted(kind for kind, spec in SPECS.items() if spec.packs)


def placed(streams: RaggedFeatures, row: list[int], rows: int, data: Data) -> dict[str, np.ndarray]:
    return lay_out(streams, np.array(row, np.int64), rows, data, vocabulary())


def first_fit(lengths: np.ndarray, capacity: list[int]) -> np.ndarray:
    """The row of each example, opened anew when the last one is full."""
    row, room = [0], np.array(capacity)
    for size in lengths:
        if (size > room).any():
            row.append(row[-1] + 1)
            room = np.array(capacity)
        else:
            row.append(row[-1])
        room = room - size
    return np.array(row[1:])


def test_a_window_holds_its_documents_apart():
    features = rows_of(settings("causal", 8), ragged([7, 8, EOS, 5, 6, 9, 4, EOS]))
    assert {name: feature.tolist()[0] for name, feature in features.items()} == {
        "decoder_target_tokens": [7, 8, 1, 5, 6, 9, 4, 1],
        "decoder_input_tokens": [0, 7, 8, 0, 5, 6, 9, 4],
        "decoder_segment_ids": [1, 1, 1, 2, 2, 2, 2, 2],
        "decoder_positions": [0, 1, 2, 0, 1, 2, 3, 4],
        "decoder_loss_weights": [1] * 8,
    }


def test_a_document_is_one_segment_even_if_a_token_within_it_is_eos():
    # In BERT's vocabulary the EOS is [SEP], which stands between two segments.
    features = rows_of(settings("causal", 8, documents=True), ragged([7, EOS, 8, EOS]))
    assert features["decoder_segment_ids"].tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]


@pytest.mark.parametrize("kind", ["causal", "masked"])
def test_each_document_of_a_window_is_a_segment_whose_positions_begin_anew(kind):
    part = windows(20, 64, least=0, most=8)
    features = rows_of(settings(kind, 64), part)
    stack = "decoder" if kind == "causal" else "encoder"
    for row, window in enumerate(part.values.reshape(20, 64).tolist()):
        segment, position = 1, 0
        for column, token in enumerate(window):
            assert features[f"{stack}_segment_ids"][row, column] == segment
            assert features[f"{stack}_positions"][row, column] == position
            segment, position = (segment + 1, 0) if token == EOS else (segment, position + 1)


def test_examples_of_a_row_follow_each_other_and_the_rest_is_padding():
    data = settings("sequence_to_sequence", 8)
    streams = streams_of(data, (ragged([7, EOS], [8, 9, EOS], [6, EOS]), ragged([5, EOS], [4, EOS], [3, 3, 3, EOS])))
    features = placed(streams, [0, 0, 2], 3, data)
    assert {name: feature.tolist() for name, feature in features.items()} == {
        "encoder_input_tokens": [[7, 1, 8, 9, 1, 0, 0, 0], [0] * 8, [6, 1, 0, 0, 0, 0, 0, 0]],
        "encoder_segment_ids": [[1, 1, 2, 2, 2, 0, 0, 0], [0] * 8, [1, 1, 0, 0, 0, 0, 0, 0]],
        "encoder_positions": [[0, 1, 0, 1, 2, 0, 0, 0], [0] * 8, [0, 1, 0, 0, 0, 0, 0, 0]],
        "decoder_target_tokens": [[5, 1, 4, 1], [0] * 4, [3, 3, 3, 1]],
        "decoder_input_tokens": [[0, 5, 0, 4], [0] * 4, [0, 3, 3, 3]],
        "decoder_segment_ids": [[1, 1, 2, 2], [0] * 4, [1] * 4],
        "decoder_positions": [[0, 1, 0, 1], [0] * 4, [0, 1, 2, 3]],
        "decoder_loss_weights": [[1] * 4, [0] * 4, [1] * 4],
    }


@pytest.mark.parametrize("kind", PACKED)
def test_packed_examples_are_those_of_rows_of_their_own(kind):
    data = settings(kind, 64, documents=True)
    parts = take(parts_for(data, 60), range(60))
    parts = tuple(Ragged(p.values, p.lengths) for p in parts)
    short = [n for n in range(60) if all(p.lengths[n] <= 30 for p in parts)]
    parts, keys = take(parts, short), keys_of(60)[short]
    streams = streams_of(data, parts, keys)
    lengths = sizes(np.stack([part.lengths for part in parts], axis=1), keys, data)
    row = first_fit(lengths, list(data.lengths.values()))
    assert row[-1] + 1 < len(short)
    packed = lay_out(streams, row, int(row[-1]) + 1, data, vocabulary())
    alone = rows_of(data, *parts, keys=keys)
    for example, own in enumerate(row):
        number = example - np.searchsorted(row, own) + 1
        for name, feature in packed.items():
            stack = name.split("_")[0]
            here = feature[own][packed[f"{stack}_segment_ids"][own] == number]
            there = alone[name][example][alone[f"{stack}_segment_ids"][example] == 1]
            np.testing.assert_array_equal(here, there * number if name.endswith("segment_ids") else there)


@pytest.mark.parametrize("kind", ["span_corruption", "causal", "masked", "next_sentence"])
def test_rows_may_come_in_any_order(kind):
    data = settings(kind, 64)
    parts, order = parts_for(data, 12), np.random.default_rng(4).permutation(12)
    ordered = rows_of(data, *parts)
    streams = streams_of(data, take(parts, order), keys_of(12)[order])
    for name, feature in placed(streams, order.tolist(), 12, data).items():
        np.testing.assert_array_equal(feature, ordered[name])


def test_examples_of_a_row_keep_their_order_in_whatever_order_the_rows_come():
    data = settings("causal", 8, documents=True)
    streams = streams_of(data, (ragged([7, EOS], [8, EOS], [9, EOS], [6, EOS]),))
    tokens = placed(streams, [1, 0, 1, 0], 2, data)["decoder_target_tokens"]
    assert tokens.tolist() == [[8, 1, 6, 1, 0, 0, 0, 0], [7, 1, 9, 1, 0, 0, 0, 0]]


def test_examples_that_do_not_fit_are_an_error():
    data = settings("causal", 8, documents=True)
    streams = streams_of(data, (documents([5, 4]),))
    with pytest.raises(ValueError, match="have 9 tokens, but it has room for 8"):
        placed(streams, [0, 0], 1, data)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_without_examples_all_rows_are_padding(kind):
    data = settings(kind)
    empty = tuple(ragged() for _ in range(3 if kind == "next_sentence" else data.objective.spec.parts))
    features = placed(streams_of(data, empty), [], 3, data)
    for name, feature in features.items():
        assert len(feature) == 3 and not feature.any(), name


def test_token_sequences_are_laid_out_as_examples_are():
    features = token_features("encoder", [[[7, 8], [5]], [[9, 6, 1]]], [[[0, 1], [1]], [[2, 2, 0]]], multiple=4)
    assert {name: feature.tolist() for name, feature in features.items()} == {
        "encoder_input_tokens": [[7, 8, 5, 0], [9, 6, 1, 0]],
        "encoder_segment_ids": [[1, 1, 2, 0], [1, 1, 1, 0]],
        "encoder_positions": [[0, 1, 0, 0], [0, 1, 2, 0]],
        "encoder_token_types": [[0, 1, 1, 0], [2, 2, 0, 0]],
    }
    assert {feature.dtype for feature in features.values()} == {np.dtype(np.int32)}
    assert token_features("decoder", [[[7]]])["decoder_positions"].shape == (1, 32)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_rows_have_the_described_features_and_their_padding(kind):
    data = settings(kind, documents=True)
    features, described = rows_of(data, *parts_for(data, 6)), features_of(data, vocabulary().pad)
    assert features.keys() == described.keys()
    paddings = {name: feature.padding for name, feature in features_of(data, pad=5).items()}
    labels = "encoder_target_tokens" if kind == "token_classification" else ""
    assert paddings == {name: 5 * (name.endswith("_tokens") and name != labels) for name in features}
    for name, (shape, dtype, padding) in described.items():
        assert (features[name].shape[1:], features[name].dtype) == (shape, dtype)
        if name not in ("labels", "candidates"):
            empty = features[f"{name.split('_')[0]}_segment_ids"] == 0
            assert (features[name][empty] == padding).all()
