"""Features of a batch: their names, shapes and types, in one place.

The names are SeqIO's: `encoder_input_tokens`, `encoder_segment_ids`, `encoder_positions`, the same of the decoder, and
`*_target_tokens` and `*_loss_weights` of the stack that predicts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from t5like.config import Data

ROUND = 32
"""Tokens that rows outside of training are padded to a multiple of, so that most of them share a compiled program."""


class Feature(NamedTuple):
    """One feature: the shape of a row of it, and its type."""

    shape: tuple[int, ...]
    dtype: np.dtype


def features_of(data: Data) -> dict[str, Feature]:
    """The features that the objective of `data` makes of each row, by name."""
    features = {}
    for stack, length in data.lengths.items():
        for name in ("input_tokens", "segment_ids", "positions"):
            features[f"{stack}_{name}"] = Feature((length,), np.dtype(np.int32))
    predicting, length = list(data.lengths.items())[-1]
    features[f"{predicting}_target_tokens"] = Feature((length,), np.dtype(np.int32))
    features[f"{predicting}_loss_weights"] = Feature((length,), np.dtype(np.float32))
    if data.objective.kind == "next_sentence":
        features["encoder_token_types"] = features["encoder_input_tokens"]
        features["labels"] = Feature((), np.dtype(np.int32))
    return features


def token_features(
    stack: str,
    rows: Sequence[Sequence[Sequence[int]]],
    types: Sequence[Sequence[Sequence[int]]] | None = None,
    multiple: int = ROUND,
) -> dict[str, np.ndarray]:
    """The features of one stack, `[rows, length]` int32, from rows of token sequences.

    Each sequence of a row is a segment with positions of its own; zeros pad all rows to the longest, rounded up to a
    multiple of `multiple`. `types` gives each token's type, for models that have them.
    """
    longest = max(sum(map(len, row)) for row in rows)
    shape = len(rows), -(-longest // multiple) * multiple
    names = ("input_tokens", "segment_ids", "positions", *(("token_types",) if types is not None else ()))
    features = {f"{stack}_{name}": np.zeros(shape, np.int32) for name in names}
    for number, row in enumerate(rows):
        lengths = [len(sequence) for sequence in row]
        real = number, slice(sum(lengths))
        features[f"{stack}_input_tokens"][real] = [token for sequence in row for token in sequence]
        features[f"{stack}_segment_ids"][real] = np.repeat(np.arange(1, len(row) + 1), lengths)
        features[f"{stack}_positions"][real] = [position for length in lengths for position in range(length)]
        if types is not None:
            features[f"{stack}_token_types"][real] = [kind for sequence in types[number] for kind in sequence]
    return features
