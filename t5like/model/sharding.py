"""The mesh, and the mesh axes that the named dimensions of arrays are split over.

Every dimension has one of the names that are the fields of `config.Rules`. `param` and `shard` check the names where
they are written, and `shard` needs a mesh: a misspelt name, a forgotten dimension or a missing mesh is an error here,
while Flax would silently replicate.
"""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
from flax import linen as nn
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from t5like import config
from t5like.config import Rules
from t5like.errors import UserError, did_you_mean

STACKED = {"layers"}
"""Leading dimensions that count parameters of one kind, each trained as if it stood alone."""
Params = dict[str, Any]
"""Parameters by module and name, nested; also their shapes, shardings or gradients in the same tree."""
AnyMesh = jax.sharding.Mesh | AbstractMesh
"""A mesh of devices, or the sizes of one, which is enough to say where arrays would be."""


def make_mesh(sizes: config.Mesh, devices: list[Any] | None = None) -> jax.sharding.Mesh:
    """The device mesh of the config's sizes; an axis of -1 takes the devices that the others leave.

    Neighbours along an axis are neighbours in a TPU's torus, and of several slices each is one step along `slice`.

    Raises:
      UserError: the sizes need another number of devices or slices than there are, or the torus cannot hold them.
    """
    devices = jax.devices() if devices is None else devices
    # GPUs have a number of that name too, for the machine that they are in.
    slices = len({getattr(device, "slice_index", 0) for device in devices if device.platform == "tpu"}) or 1
    shape = _filled(sizes, len(devices), slices)
    if slices > 1 and shape["slice"] != slices:
        raise UserError(f"mesh.slice={shape['slice']}, but there are {slices} slices: set mesh.slice={slices}.")
    try:
        if slices > 1:
            within, between = [1, *list(shape.values())[1:]], [slices, *[1] * (len(shape) - 1)]
            grid = mesh_utils.create_hybrid_device_mesh(within, between, devices)
        else:
            grid = mesh_utils.create_device_mesh(tuple(shape.values()), devices)
    except (NotImplementedError, ValueError) as error:  # what JAX has for shapes that a torus cannot hold
        wanted = " * ".join(f"{name}={size}" for name, size in shape.items() if size != 1)
        raise UserError(f"The torus of {len(devices)} devices cannot hold a mesh of {wanted}: change mesh.") from error
    return jax.sharding.Mesh(grid, tuple(shape), axis_types=(AxisType.Auto,) * len(shape))


def _filled(sizes: config.Mesh, devices: int, slices: int) -> dict[str, int]:
    """The size of each axis, where one of -1 takes what is left; `slice` is the slices that there are, unless given."""
    shape = dataclasses.asdict(sizes)
    if slices > 1 and shape["slice"] == 1:
        shape["slice"] = slices
    fixed, open_axis = math.prod(size for size in shape.values() if size > 0), -1 in shape.values()
    shape = {name: devices // fixed if size == -1 else size for name, size in shape.items()}
    if math.prod(shape.values()) != devices:
        wanted = ", ".join(f"mesh.{name}={size}" for name, size in dataclasses.asdict(sizes).items() if size != 1)
        raise UserError(
            f"{wanted or 'A mesh of 1 everywhere'} needs {'a multiple of ' if open_axis else ''}{fixed} device(s), "
            f"but there {'is' if devices == 1 else 'are'} {devices}: change mesh."
        )
    return shape


def spec(rules: Rules, axes: tuple[str | None, ...]) -> PartitionSpec:
    """The mesh axes of an array whose dimensions have these names.

    Raises:
      ValueError: a name that is no field of `Rules`.
      UserError: rules that split two of the dimensions over one mesh axis.
    """
    known = dataclasses.asdict(rules)
    for axis in axes:
        if axis is not None and axis not in known:
            raise ValueError(f"no dimension is named {axis!r}{did_you_mean(axis, known)}")
    used = [mesh_axis for axis in axes if axis for mesh_axis in known[axis]]
    if len(used) != len(set(used)):
        listed = ", ".join(f"rules.{axis}={known[axis]}" for axis in axes if axis and known[axis])
        raise UserError(f"One mesh axis cannot split two dimensions of an array: change one of {listed}.")
    return PartitionSpec(*(known[axis] or None if axis else None for axis in axes))


def param(
    module: nn.Module,
    name: str,
    rules: Rules,
    shape: tuple[int, ...],
    axes: tuple[str, ...],
    init: nn.initializers.Initializer,
) -> jax.Array:
    """`module.param` of float32 whose dimensions are named."""
    if len(shape) != len(axes):
        raise ValueError(f"parameter {name!r} has shape {shape} but axes {axes}")
    spec(rules, axes)
    value: Any = module.param(name, nn.with_logical_partitioning(init, axes), shape)
    return value


def shard(x: jax.Array, rules: Rules, *axes: str | None) -> jax.Array:
    """Constrain an activation to the mesh axes of its named dimensions; None leaves a dimension whole."""
    if len(axes) != x.ndim:
        raise ValueError(f"axes {axes} for an array of shape {x.shape}")
    if jax.sharding.get_abstract_mesh().empty:
        raise RuntimeError("an activation was sharded without a mesh: run within `jax.set_mesh(make_mesh(...))`")
    return jax.lax.with_sharding_constraint(x, spec(rules, axes))


def shardings(abstract: Params, rules: Rules, mesh: AnyMesh) -> Params:
    """A NamedSharding for every parameter of an abstract tree, as `jax.eval_shape(model.init, ...)` gives it.

    Raises:
      UserError: a dimension that the mesh does not divide.
    """

    def sharding(path: Any, boxed: nn.LogicallyPartitioned) -> NamedSharding:
        placed = spec(rules, boxed.names)
        what = f"Parameter {jax.tree_util.keystr(path, simple=True, separator='/')}"
        for name, size in zip(map(str, boxed.names), boxed.value.shape, strict=True):
            require_divided(what, name, size, rules, mesh)
        return NamedSharding(mesh, placed)

    is_box = lambda leaf: isinstance(leaf, nn.LogicallyPartitioned)  # noqa: E731
    return jax.tree_util.tree_map_with_path(sharding, abstract, is_leaf=is_box)


def stacked(names: Sequence[str]) -> int:
    """The number of leading dimensions that are stacked: 1 of (layers, embed, mlp)."""
    return next((number for number, name in enumerate(names) if name not in STACKED), len(names))


def require_divided(what: str, name: str, size: int, rules: Rules, mesh: AnyMesh) -> None:
    """Raise `UserError` if the mesh axes of a named dimension do not divide its size."""
    axes = getattr(rules, name)
    parts = parts_of(axes, mesh)
    if size % parts:
        raise UserError(
            f"{what} has {name}={size}, which {parts} devices of mesh axes {', '.join(axes)} do not divide: "
            f"change mesh or rules.{name}."
        )


def batch_sharding(rules: Rules, mesh: AnyMesh) -> NamedSharding:
    """The sharding of the features of a batch: rows are split, their tokens only inside the step."""
    return NamedSharding(mesh, spec(rules, ("batch",)))


def parts_of(axes: Iterable[str], mesh: AnyMesh | None = None) -> int:
    """The number of parts into which some axes of a mesh, by default of the current one, split a dimension."""
    shape = jax.sharding.get_abstract_mesh().shape if mesh is None else mesh.shape
    return math.prod(shape[axis] for axis in axes)


def row_parts(rules: Rules, mesh: AnyMesh | None = None) -> int:
    """The number of parts into which the rows of a batch are split."""
    return parts_of(rules.batch, mesh)
