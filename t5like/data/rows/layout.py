"""Examples into rows: SeqIO's features, with segments and positions that keep the examples of a row apart."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Integer

from t5like.config import Data
from t5like.data.ragged import Lengths, Ragged, Streams, slices, starts_of
from t5like.data.vocabulary import Vocabulary

MAIN = {"encoder": "encoder_input_tokens", "decoder": "decoder_target_tokens"}
"""The stream of each stack whose lengths are those of its examples."""


def place(
    streams: Streams, row: Integer[np.ndarray, " examples"], rows: int, data: Data, vocabulary: Vocabulary
) -> dict[str, np.ndarray]:
    """The features of a batch: `[rows, length]` int32, loss weights float32, and labels `[rows]`.

    `row` names the row of each example, in any order; examples of a row stand in it in the order in which they come.
    `*_segment_ids` number them from 1, 0 is padding, and positions begin anew in each. Weights are 1 on real targets
    unless the objective gave others; labels are those of the row's only example. A decoder's input is its targets,
    one place later, after the start token.

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
        streams, row = _in_order(streams, row)
    if len(data.lengths) == 1 and not data.by_document:
        streams, row = _documents_apart(streams, row, vocabulary.eos)
    features: dict[str, np.ndarray] = {}
    for stack, length in data.lengths.items():
        features |= _stack_features(
            stack, streams, _layout(streams[MAIN[stack]].lengths, row, rows, length), vocabulary
        )
    if "labels" in streams:
        features["labels"] = np.zeros(rows, np.int32)
        features["labels"][row] = streams["labels"].values
    return features


class Layout(NamedTuple):
    """Where the examples of one stack stand."""

    segments: Int32[np.ndarray, "rows length"]
    positions: Int32[np.ndarray, "rows length"]
    real: Bool[np.ndarray, "rows length"] | None
    """Places that are not padding; None if all are real."""

    def put(self, values: np.ndarray, padding: int) -> np.ndarray:
        """The values of all examples in their rows."""
        if self.real is None:
            return values.reshape(self.segments.shape)
        placed = np.full(self.segments.shape, padding, values.dtype)
        placed[self.real] = values
        return placed


def _layout(lengths: Lengths, row: Lengths, rows: int, length: int) -> Layout:
    first = np.searchsorted(row, np.arange(rows + 1))
    used = np.diff(np.append(starts_of(lengths), lengths.sum())[first])
    if (used > length).any():
        raise ValueError(f"The examples of a row have {used.max()} tokens, but it has room for {length}.")
    # The padding of a row is one more run at its end.
    runs = np.insert(lengths, first[1:], length - used)
    number = np.insert(np.arange(1, len(lengths) + 1) - first[row], first[1:], 0)
    segments = np.repeat(number.astype(np.int32), runs)
    positions = np.arange(rows * length, dtype=np.int32) - np.repeat(starts_of(runs).astype(np.int32), runs)
    shape = (rows, length)
    if (used == length).all():
        return Layout(segments.reshape(shape), positions.reshape(shape), None)
    real = segments > 0
    positions *= real
    return Layout(segments.reshape(shape), positions.reshape(shape), real.reshape(shape))


def _stack_features(stack: str, streams: Streams, layout: Layout, vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    features = {f"{stack}_segment_ids": layout.segments, f"{stack}_positions": layout.positions}
    for name, stream in streams.items():
        if name.startswith(stack):
            kind, padding = (np.float32, 0) if name.endswith("_weights") else (np.int32, vocabulary.pad)
            values = stream.values.astype(kind, copy=False)
            features[name] = layout.put(values, 0 if name.endswith("_types") else padding)
    if stack == "decoder":
        targets = streams[MAIN[stack]]
        features["decoder_input_tokens"] = layout.put(_shifted(targets, vocabulary.start), vocabulary.pad)
        features.setdefault("decoder_loss_weights", (layout.segments > 0).astype(np.float32))
    return features


def _shifted(targets: Ragged, start: int) -> Int32[np.ndarray, " total"]:
    """Each sequence one place later, `start` before it and its last token left out."""
    shifted = np.empty(targets.values.shape, np.int32)
    shifted[1:] = targets.values[:-1]
    shifted[targets.starts[targets.lengths > 0]] = start
    return shifted


def _documents_apart(streams: Streams, row: Lengths, eos: int) -> tuple[Streams, Integer[np.ndarray, " pieces"]]:
    """The same streams, in which each document of an example is an example."""
    name = "decoder_target_tokens" if "decoder_target_tokens" in streams else "encoder_target_tokens"
    tokens, lengths = streams[name]
    until = np.cumsum(lengths)
    last = tokens == eos
    last[until[lengths > 0] - 1] = True
    ends = np.flatnonzero(last)
    pieces = np.diff(ends, prepend=-1)
    split = {name: Ragged(stream.values, pieces) for name, stream in streams.items()}
    return split, row[np.searchsorted(until, ends, side="right")]


def _in_order(streams: Streams, row: Lengths) -> tuple[Streams, Integer[np.ndarray, " pieces"]]:
    """The examples by their rows."""
    order = np.argsort(row, kind="stable")
    sorted_: Streams = {}
    for name, (values, lengths) in streams.items():
        values = slices(values, starts_of(lengths)[order], lengths[order])
        sorted_[name] = Ragged(values, lengths[order])
    return sorted_, row[order]
