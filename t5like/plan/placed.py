"""A run on devices that need not be here: its mesh, and the shapes and shardings of its state."""

import contextlib
import dataclasses
from typing import Any

import jax

from t5like.config import Config
from t5like.errors import UserError
from t5like.model.sharding import AnyMesh, make_mesh
from t5like.plan.topology import Topology
from t5like.train.evaluate import check_rows
from t5like.train.state import Training, make_training


def training_on(config: Config, topology: Topology) -> Training:
    """Shapes and shardings of a run on a topology's devices.

    Raises:
      UserError: the mesh does not fit the devices or their torus, or a dimension or the batch does not fit the mesh.
    """
    mesh = mesh_on(config, topology)
    with _current(mesh):
        check_rows("train.batch / train.accumulate", config.train.batch // config.train.accumulate, config.rules)
        return make_training(config, mesh)


def require_fit(config: Config, topology: Topology) -> None:
    """Check mesh, dimensions and batch of a run by the number of devices, for which no compiler is needed.

    Raises:
      UserError: they do not fit the devices, or the batch does not fit the mesh.
    """
    slices, sizes = topology.slices, config.mesh
    if sizes.slice not in (1, slices):
        raise UserError(f"mesh.slice={sizes.slice}, but there are {slices} slices: set mesh.slice={slices}.")
    counted = dataclasses.replace(config, mesh=dataclasses.replace(sizes, slice=slices))
    training_on(counted, Topology("devices", topology.device, topology.count))


def mesh_of(training: Training) -> contextlib.AbstractContextManager[Any]:
    """Make the plan's mesh the current one, whether it has devices or is only counted."""
    return _current(training.mesh)


def _current(mesh: AnyMesh) -> contextlib.AbstractContextManager[Any]:
    has_devices = isinstance(mesh, jax.sharding.Mesh)
    return jax.set_mesh(mesh) if has_devices else jax.sharding.use_abstract_mesh(mesh)


def mesh_on(config: Config, topology: Topology) -> AnyMesh:
    """The mesh of a topology's devices, or its sizes alone where these are only counted.

    Raises:
      UserError: what `make_mesh` raises.
    """
    if topology.compiles:
        return make_mesh(config.mesh, topology.devices())
    return make_mesh(config.mesh, jax.devices()[:1] * topology.count).abstract_mesh
