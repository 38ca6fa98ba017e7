"""Global arrays from what each process has: its own rows of a batch, or a value that is the same everywhere.

Which rows are a process's own is read off the mesh, whose devices need not be in the order of the processes.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from t5like.model.sharding import AnyMesh


@dataclass(frozen=True)
class Feed:
    """The way of batches of `batch` rows onto the devices: `place` says where each row lives."""

    place: jax.sharding.NamedSharding
    batch: int

    @functools.cached_property
    def rows(self) -> Int[np.ndarray, " rows"]:
        """Which rows of a batch the devices of this process hold, ascending."""
        indices = self.place.addressable_devices_indices_map((self.batch,)).values()
        return np.unique(np.concatenate([np.arange(self.batch)[index] for index in indices if index is not None]))

    def __call__(self, features: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """The features of the whole batch from those of this process's `rows`."""
        return {name: self._global(x) for name, x in features.items()}

    def _global(self, x: np.ndarray) -> jax.Array:
        def shard(index: Any) -> np.ndarray:
            first, end, _ = index[0].indices(self.batch)
            # A device's rows follow each other in the batch, and so they do in what the process has of it.
            own = int(np.searchsorted(self.rows, first))
            return x[(slice(own, own + end - first), *index[1:])]

        with jax.transfer_guard("allow"):  # the one transfer that each step needs
            return jax.make_array_from_callback((self.batch, *x.shape[1:]), self.place, shard)


def everywhere(mesh: AnyMesh, x: np.ndarray) -> jax.Array:
    """A value that every process has, whole on every device."""
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.make_array_from_callback(x.shape, place, lambda index: x[index])
