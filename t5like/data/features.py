"""Features of a batch: their names, shapes, types and padding, and where the tokens of a row stand, in one place.

The names are SeqIO's: `encoder_input_tokens`, `encoder_segment_ids`, `encoder_positions`, the same of the decoder, and
`*_target_tokens` and `*_loss_weights` of the stack that predicts; `labels` belong to a row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Shaped

from t5like.config import Data, Objective
from t5like.config.objective import LABELLED
from t5like.data.ragged import Lengths, starts_of

ROUND = 32
"""Tokens that rows are padded to a multiple of, so that lengths which are near share one compiled program."""


class Feature(NamedTuple):
    """One feature: the shape of a row of it, its type, and the value of positions without a token."""

    shape: tuple[int, ...]
    dtype: np.dtype
    padding: int


def features_of(data: Data, pad: int = 0) -> dict[str, Feature]:
    """The features that the objective of `data` makes of each row, by name; `pad` is the vocabulary's token."""
    features = {}
    for stack, length in data.lengths.items():
        features[f"{stack}_input_tokens"] = Feature((length,), np.dtype(np.int32), pad)
        for name in ("segment_ids", "positions"):
            features[f"{stack}_{name}"] = Feature((length,), np.dtype(np.int32), 0)
    predicting, length = list(data.lengths.items())[-1]
    labelled, by_token = data.objective.kind in LABELLED, data.objective.kind == "token_classification"
    if by_token or not labelled:
        # Of a token's label 0 is the first, of a token's number the pad.
        features[f"{predicting}_target_tokens"] = Feature((length,), np.dtype(np.int32), 0 if by_token else pad)
        features[f"{predicting}_loss_weights"] = Feature((length,), np.dtype(np.float32), 0)
    if data.objective.spec.sentence_pairs or (labelled and predicting == "encoder"):
        features["encoder_token_types"] = Feature((data.length,), np.dtype(np.int32), 0)
    return features | _features_of_rows(data.objective)


def _features_of_rows(objective: Objective) -> dict[str, Feature]:
    """The features that have no value for each token: labels, and 1 for each candidate that a row has."""
    one, whole, real = (), np.dtype(np.int32), np.dtype(np.float32)
    match objective.kind:
        case "next_sentence" | "classification":
            return {"labels": Feature(one, whole, 0)}
        case "multi_label_classification" | "regression":
            return {"labels": Feature((objective.labels,), real, 0)}
        case "span":
            return {"labels": Feature((2,), whole, 0)}
        case "multiple_choice":
            return {"labels": Feature(one, whole, 0), "candidates": Feature((objective.candidates,), whole, 0)}
        case _:
            return {}


class Layout(NamedTuple):
    """The segments of one stack's rows and each token's position in its own; 0 in both is padding."""

    segments: Int32[np.ndarray, "rows length"]
    positions: Int32[np.ndarray, "rows length"]
    real: Bool[np.ndarray, "rows length"] | None
    """True where there is a token; None if all are."""

    def put(self, values: Shaped[np.ndarray, " tokens"], padding: int) -> Shaped[np.ndarray, "rows length"]:
        """The values of all tokens, one segment after the other, in their rows."""
        if self.real is None:
            return values.reshape(self.segments.shape)
        rows = np.full(self.segments.shape, padding, values.dtype)
        rows[self.real] = values
        return rows


def layout_of(lengths: Lengths, row: Lengths, rows: int, length: int) -> Layout:
    """The layout of segments of these lengths in rows of `length` tokens; `row`, ascending, names the row of each.

    Lengths 2 1 3 in rows 0 0 1 of 4 give segments 1 1 2 0 / 1 1 1 0 and positions 0 1 0 0 / 0 1 2 0.

    Raises:
      ValueError: the segments of a row do not fit into it.
    """
    first = np.searchsorted(row, np.arange(rows + 1))  # [rows + 1]: the first segment of each row
    used = np.diff(np.append(starts_of(lengths), lengths.sum())[first])  # [rows]: its tokens
    if (used > length).any():
        raise ValueError(f"The examples of a row have {used.max()} tokens, but it has room for {length}.")
    # The padding of a row is one more run at its end, with the number 0: runs 2 1 1 / 3 1, numbers 1 2 0 / 1 0.
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


def token_features(
    stack: str,
    rows: Sequence[Sequence[Sequence[int]]],
    types: Sequence[Sequence[Sequence[int]]] | None = None,
    multiple: int = ROUND,
) -> dict[str, Int32[np.ndarray, "rows length"]]:
    """The features of one stack from rows of token sequences.

    Each sequence of a row is a segment with positions of its own; zeros pad all rows to the longest, rounded up to a
    multiple of `multiple`. `types` gives each token's type, for models that have them.
    """
    longest = max(sum(map(len, row)) for row in rows)
    lengths = np.array([len(sequence) for row in rows for sequence in row], np.int64)
    owner = np.repeat(np.arange(len(rows)), list(map(len, rows)))
    layout = layout_of(lengths, owner, len(rows), -(-longest // multiple) * multiple)
    features = {f"{stack}_segment_ids": layout.segments, f"{stack}_positions": layout.positions}
    for name, values in {"input_tokens": rows, "token_types": types}.items():
        if values is not None:
            flat = [value for row in values for sequence in row for value in sequence]
            features[f"{stack}_{name}"] = layout.put(np.array(flat, np.int32), 0)
    return features
