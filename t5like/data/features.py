"""Features of a batch: their names, shapes and types, in one place.

The names are SeqIO's: `encoder_input_tokens`, `encoder_segment_ids`, `encoder_positions`, the same of the decoder, and
`*_target_tokens` and `*_loss_weights` of the stack that predicts.
"""

from typing import NamedTuple

import numpy as np

from t5like.config import Data


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
