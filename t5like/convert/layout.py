"""How one of our parameters lies in another program's checkpoint, and the way there and back.

Ours are stacked over layers and shaped by named dimensions, `[layers, embed, heads, kv]`; theirs are one matrix for
each layer, often `[out, in]`, sometimes with queries, keys and values side by side. A family is a table from our paths
to `Place`s; everything that moves numbers reads it, so that import and export cannot disagree.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from t5like.errors import UserError


class Place(NamedTuple):
    """Where a parameter lies: a tensor, and how to reach ours from it."""

    name: str
    """Name of the tensor; `{layer}` in it stands for the number of the layer."""
    rows: int = 0
    """Leading dimensions of ours that make the tensor's rows, the others are its columns; 0: the tensor is a vector."""
    transposed: bool = False
    """Whether columns come first, as in torch's linear layers, `[out, in]`."""
    part: int = 0
    """Which of `parts` equal runs of columns is ours."""
    parts: int = 1
    layer_axis: int | None = None
    """Axis of the layers in a tensor that holds all of them; None: each layer has a tensor of its own."""
    leading: int = 0
    """Dimensions of size 1 that the tensor has in front."""


Places = Mapping[str, Place]
"""Path of each of our parameters, such as `decoder/blocks/self/query`, to its place."""


@runtime_checkable
class Tensors(Protocol):
    """Named tensors of a checkpoint, which are read one at a time."""

    def names(self) -> Iterable[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def read(self, name: str) -> np.ndarray: ...


def linear(path: str, theirs: str, rows: int = 1) -> dict[str, Place]:
    """The places of `path` and `path`_bias in one of torch's linear layers."""
    return {path: Place(f"{theirs}.weight", rows, True), f"{path}_bias": Place(f"{theirs}.bias")}


def layer_norm(path: str, theirs: str) -> dict[str, Place]:
    """The places of a LayerNorm's scale and bias."""
    return {f"{path}/scale": Place(f"{theirs}.weight"), f"{path}/bias": Place(f"{theirs}.bias")}


def is_stacked(path: str) -> bool:
    """Whether a parameter of ours has the layers in front."""
    return "/blocks/" in path


def their_shape(place: Place, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the tensor that holds a parameter of `shape`, which is that of one layer."""
    if not place.rows:
        return (1,) * place.leading + (place.parts * math.prod(shape),)
    rows, columns = math.prod(shape[: place.rows]), place.parts * math.prod(shape[place.rows :])
    return (columns, rows) if place.transposed else (rows, columns)


def to_ours(tensor: np.ndarray, place: Place, shape: tuple[int, ...]) -> np.ndarray:
    """One layer's parameter from its tensor; a view where that is possible."""
    matrix = tensor.T if place.transposed else tensor
    width = matrix.shape[-1] // place.parts
    return matrix[..., place.part * width : (place.part + 1) * width].reshape(shape)


def to_theirs(parameters: list[np.ndarray], place: Place) -> np.ndarray:
    """The tensor of one layer's parameters, the parts of `place` in their order."""
    matrices = [x.reshape(math.prod(x.shape[: place.rows]), -1) if place.rows else x.reshape(-1) for x in parameters]
    matrix = matrices[0] if len(matrices) == 1 else np.concatenate(matrices, axis=-1)
    return (matrix.T if place.transposed else matrix)[(None,) * place.leading]


def layers_of(tensors: Tensors, path: str, place: Place, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The parameter of `shape`, layer for layer where it is stacked, as they stand in the tensors.

    Raises:
      UserError: a tensor is missing or has another shape than the parameter needs.
    """
    one = shape[1:] if is_stacked(path) else shape
    if place.layer_axis is not None:
        name, axis, expected = place.name, place.layer_axis, list(their_shape(place, one))
        expected.insert(axis, shape[0])
        _require(tensors, name, tuple(expected), path)
        stacked = np.moveaxis(tensors.read(name), axis, 0)
        yield from (to_ours(layer, place, one) for layer in stacked)
        return
    for layer in range(shape[0] if is_stacked(path) else 1):
        name = place.name.format(layer=layer)
        _require(tensors, name, their_shape(place, one), path)
        yield to_ours(tensors.read(name), place, one)


def names_of(path: str, place: Place, shape: tuple[int, ...]) -> list[str]:
    """The tensors that a parameter of `shape` lies in."""
    if place.layer_axis is not None or not is_stacked(path):
        return [place.name]
    return [place.name.format(layer=layer) for layer in range(shape[0])]


def assemble(layers: Iterable[np.ndarray], stacked: bool, abstract: jax.ShapeDtypeStruct) -> jax.Array:
    """A parameter on the devices that `abstract` names, from its layers, of which one at a time is in memory.

    Each layer is read once and cut up for all of this host's devices, so a host holds what its devices hold and one
    layer more.
    """
    sharding: Any = abstract.sharding
    shape = abstract.shape if stacked else (1, *abstract.shape)
    indices = sharding.addressable_devices_indices_map(abstract.shape)
    regions = {device: _bounds(index if stacked else (slice(None), *index), shape) for device, index in indices.items()}
    buffers = {
        region: np.empty([stop - start for start, stop in region], abstract.dtype) for region in regions.values()
    }
    for number, layer in enumerate(layers):
        for region, buffer in buffers.items():
            (first, last), *rest = region
            if first <= number < last:
                buffer[number - first] = layer[tuple(slice(*bounds) for bounds in rest)]
    own = [
        jax.device_put(buffers[region] if stacked else buffers[region][0], device) for device, region in regions.items()
    ]
    return jax.make_array_from_single_device_arrays(abstract.shape, sharding, own)


def _bounds(index: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))


def _require(tensors: Tensors, name: str, expected: tuple[int, ...], path: str) -> None:
    if name not in set(tensors.names()):
        raise UserError(f"The tensor {name!r}, which {path} is filled from, is missing in the checkpoint.")
    if (found := tensors.shape(name)) != expected:
        raise UserError(
            f"The tensor {name!r} has the shape {found}, but its config makes it {expected}: the two do not belong "
            "together."
        )
