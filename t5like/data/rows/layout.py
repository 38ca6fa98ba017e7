"""Examples into rows: SeqIO's features, with segments and positions that keep the examples of a row apart."""

import numpy as np
from jaxtyping import Integer, Shaped

from t5like.config import Data
from t5like.data.features import Feature, features_of, layout_of
from t5like.data.ragged import Lengths, Ragged, RaggedFeatures, slices, starts_of
from t5like.data.vocabulary import Vocabulary

MAIN = {"encoder": "encoder_input_tokens", "decoder": "decoder_target_tokens"}
"""The feature of each stack that has as many values as its examples have tokens."""
PER_TOKEN = ("_tokens", "_types", "_weights")
"""Ends of the names of features with a value for each token."""


def lay_out(
    features: RaggedFeatures, row: Integer[np.ndarray, " examples"], rows: int, data: Data, vocabulary: Vocabulary
) -> dict[str, np.ndarray]:
    """The features of a batch: `[rows, length]` int32, loss weights float32, and labels `[rows]` or `[rows, labels]`.

    `row` is the row of each example, in any order; examples of a row stand in it in the order in which they come.
    `*_segment_ids` number them from 1, 0 is padding, and positions begin anew in each. Weights are 1 on real targets
    unless the objective gave others; labels are those of the row's only example. A decoder's input is its targets,
    one position later, after the start token, unless the objective gave it. An example for which the objective gives
    the lengths of several `segments` is as many of them.

    A window of running text, of which a decoder or an encoder alone learns, may hold several documents; each of them
    is a segment of its own. With start 0 and EOS 1:

        decoder_target_tokens  7 8 1 5 6 9
        decoder_input_tokens   0 7 8 0 5 6
        decoder_segment_ids    1 1 1 2 2 2
        decoder_positions      0 1 2 0 1 2

    Raises:
      ValueError: the examples of a row do not fit into it.
    """
    if (row[1:] < row[:-1]).any():
        features, row = _in_order(features, row)
    if len(data.lengths) == 1 and not data.by_document:
        features, row = _documents_apart(features, row, vocabulary.eos)
    if "decoder" in data.lengths and "decoder_input_tokens" not in features:
        features = _of_decoder(features["decoder_target_tokens"], vocabulary.start) | features
    described = features_of(data, vocabulary.pad)
    batch = {
        name: _by_row(feature, features[name].values, row, rows)
        for name, feature in described.items()
        if name in ("labels", "candidates")
    }
    if "segments" in features:
        features, row = _segments_apart(features, row)
    for stack, length in data.lengths.items():
        layout = layout_of(features[f"{stack}_input_tokens"].lengths, row, rows, length)
        batch |= {f"{stack}_segment_ids": layout.segments, f"{stack}_positions": layout.positions}
        for name, (values, _) in features.items():
            if name.startswith(stack):
                _, dtype, padding = described[name]
                batch[name] = layout.put(values.astype(dtype, copy=False), padding)
    return batch


def _by_row(
    feature: Feature, values: Shaped[np.ndarray, " values"], row: Lengths, rows: int
) -> Shaped[np.ndarray, "rows ..."]:
    """The values of the rows' only examples, in rows of the feature's shape and type."""
    found = np.zeros((rows, *feature.shape), feature.dtype)
    found[row] = values.reshape(len(row), *feature.shape)
    return found


def _segments_apart(features: RaggedFeatures, row: Lengths) -> tuple[RaggedFeatures, Integer[np.ndarray, " segments"]]:
    """Divide examples into segments of the lengths that `segments` has, which name the features of tokens alone."""
    lengths, counts = features["segments"]
    divided = {name: Ragged(values, lengths) for name, (values, _) in features.items() if name.endswith(PER_TOKEN)}
    return divided, np.repeat(row, counts)


def _of_decoder(targets: Ragged, start: int) -> RaggedFeatures:
    """A decoder's inputs, which are its targets one position later with `start` before them, and weights of 1."""
    inputs = np.empty(targets.values.shape, np.int32)
    inputs[1:] = targets.values[:-1]
    inputs[targets.starts[targets.lengths > 0]] = start
    weights = np.ones(targets.values.shape, np.float32)
    return {
        "decoder_input_tokens": Ragged(inputs, targets.lengths),
        "decoder_loss_weights": Ragged(weights, targets.lengths),
    }


def _documents_apart(
    features: RaggedFeatures, row: Lengths, eos: int
) -> tuple[RaggedFeatures, Integer[np.ndarray, " documents"]]:
    """Divide examples at their EOS: each document of a window becomes an example, and so does a rest without EOS.

    The tokens 7 8 1 5 6 9 of a window with EOS 1 have the lengths 3 3.
    """
    name = "decoder_target_tokens" if "decoder_target_tokens" in features else "encoder_target_tokens"
    tokens, lengths = features[name]
    until = np.cumsum(lengths)  # [examples]: the end of each window among all tokens
    last = tokens == eos
    last[until[lengths > 0] - 1] = True
    ends = np.flatnonzero(last)  # [documents]
    lengths = np.diff(ends, prepend=-1)
    divided = {name: Ragged(feature.values, lengths) for name, feature in features.items()}
    return divided, row[np.searchsorted(until, ends, side="right")]


def _in_order(features: RaggedFeatures, row: Lengths) -> tuple[RaggedFeatures, Integer[np.ndarray, " examples"]]:
    """Sort examples by their rows; those of a row stay in order."""
    order = np.argsort(row, kind="stable")
    return {
        name: Ragged(slices(values, starts_of(lengths)[order], lengths[order]), lengths[order])
        for name, (values, lengths) in features.items()
    }, row[order]
