"""Rows that an imported model gets for tokens of its vocabulary that the checkpoint has none for."""

from collections.abc import Iterable, Mapping

import numpy as np

from t5like.convert.layout import TensorMappings, Tensors

VOCABULARY_AXES = {"embedding": 0, "output": 1, "output_bias": 0}
"""Our parameters with an entry for each token of the vocabulary -> their axis of tokens."""
MULTIPLE = 128


def rows_for(tokens: int, before: int) -> int:
    """Rows for so many tokens: a multiple of 128 where there was one before, so that devices can still share them."""
    return -(-tokens // MULTIPLE) * MULTIPLE if before % MULTIPLE == 0 else tokens


def with_rows(tensors: Tensors, mappings: TensorMappings, added: int) -> Tensors:
    """The tensors with `added` rows more in those that have one for each token of the vocabulary."""
    if not added:
        return tensors
    axes: dict[str, int] = {}  # tensor -> its axis of tokens: a transposed matrix has ours the other way round
    for path, axis in VOCABULARY_AXES.items():
        if path in mappings:
            mapping = mappings[path]
            axes[mapping.name] = mapping.leading + (1 - axis if mapping.transposed else axis)
    return WithRows(tensors, axes, added)


class WithRows:
    """Tensors of which some are longer along an axis (`layout.Tensors`), by the mean of their own rows."""

    def __init__(self, tensors: Tensors, axes: Mapping[str, int], added: int):
        self._tensors, self._axes, self._added = tensors, axes, added

    def names(self) -> Iterable[str]:
        return self._tensors.names()

    def shape(self, name: str) -> tuple[int, ...]:
        shape = list(self._tensors.shape(name))
        if name in self._axes and self._axes[name] < len(shape):
            shape[self._axes[name]] += self._added
        return tuple(shape)

    def read(self, name: str) -> np.ndarray:
        tensor = self._tensors.read(name)
        if name not in self._axes:
            return tensor
        axis = self._axes[name]
        mean = np.mean(tensor, axis=axis, keepdims=True, dtype=np.float32).astype(tensor.dtype)
        return np.concatenate([tensor, np.repeat(mean, self._added, axis=axis)], axis=axis)
