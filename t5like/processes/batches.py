"""Global arrays from what each process has: its own rows of a batch, or a value that is the same everywhere.

Which rows are a process's own is read off the mesh, whose devices need not be in the order of the processes.
"""

import functools
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Int, Shaped

from t5like.model.sharding import AnyMesh


@dataclass(frozen=True)
class GlobalBatches:
    """Makes global batches of `rows` rows, split by `sharding` over all devices, of the rows that each process has."""

    sharding: jax.sharding.NamedSharding
    rows: int

    @functools.cached_property
    def local_rows(self) -> Int[np.ndarray, " local_rows"]:
        """The rows of a batch that the devices of this process hold, ascending."""
        indices = self.sharding.addressable_devices_indices_map((self.rows,)).values()
        return np.unique(np.concatenate([np.arange(self.rows)[index] for index in indices if index is not None]))

    def __call__(self, features: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """The features [rows, ...] of the global batch from those [local_rows, ...] of this process."""
        return {name: self._global(x) for name, x in features.items()}

    def _global(self, x: Shaped[np.ndarray, "local_rows ..."]) -> Shaped[jax.Array, "rows ..."]:
        def shard(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None
            # With local rows 0 1 4 5, a device that holds rows 4:6 of the batch gets 2:4 of `x`: the rows of one device
            # follow each other in the batch, and so they do in what the process has of it.
            first, end, _ = index[0].indices(self.rows)
            own = int(np.searchsorted(self.local_rows, first))
            return x[(slice(own, own + end - first), *index[1:])]

        with jax.transfer_guard("allow"):  # the one transfer that each step needs
            return jax.make_array_from_callback((self.rows, *x.shape[1:]), self.sharding, shard)


def replicated(mesh: AnyMesh, x: Shaped[np.ndarray, "..."]) -> Shaped[jax.Array, "..."]:
    """A value that every process has, whole on every device."""
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])
