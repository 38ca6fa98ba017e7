"""The tensors of another program's checkpoint that hold one of our parameters, and the way there and back.

Ours are stacked over layers and shaped by named dimensions, `[layers, embed, heads, kv]`; theirs are one matrix for
each layer, often `[out, in]`, sometimes with queries, keys and values side by side. A family is a table from our paths
to `TensorMapping`s; everything that moves numbers reads it, so that import and export cannot disagree.

GPT-2 keeps `decoder/blocks/self/key`, `[layers, embed, heads, kv]`, as the second third of the columns of one tensor
per layer, `[embed, 3 * heads * kv]`: TensorMapping("transformer.h.{layer}.attn.c_attn.weight", 1, part=1, parts=3).
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from t5like.errors import UserError
from t5like.model.sharding import Params


class TensorMapping(NamedTuple):
    """The tensor that holds a parameter, or one of each layer, and how ours is reached from it."""

    name: str
    """Name of the tensor; `{layer}` in it stands for the number of the layer."""
    rows: int = 0
    """Leading dimensions of ours that make the tensor's rows, the others are its columns; 0: the tensor is a vector."""
    transposed: bool = False
    """True if columns come first, as in torch's linear layers, `[out, in]`."""
    part: int = 0
    """Number of the run that is ours, among `parts` equal runs of columns."""
    parts: int = 1
    layer_axis: int | None = None
    """Axis of the layers in a tensor that holds all of them; None: each layer has a tensor of its own."""
    leading: int = 0
    """Dimensions of size 1 that the tensor has in front."""

    @property
    def stacked(self) -> bool:
        """True if ours is stacked over layers: the tensor holds all of them, or each layer has its own."""
        return self.layer_axis is not None or "{layer}" in self.name


TensorMappings = Mapping[str, TensorMapping]
"""Path of each of our parameters, such as `decoder/blocks/self/query`, to its tensor."""


@runtime_checkable
class Tensors(Protocol):
    """Named tensors of a checkpoint, which are read one at a time."""

    def names(self) -> Iterable[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def read(self, name: str) -> np.ndarray: ...


def leaves_of(params: Params) -> dict[str, jax.Array]:
    """The arrays of a tree of parameters by path, such as `decoder/blocks/self/query`."""
    return cast(dict[str, jax.Array], flatten_dict(params, sep="/"))


def linear(path: str, theirs: str, rows: int = 1) -> dict[str, TensorMapping]:
    """Maps `path` and `path`_bias to one of torch's linear layers."""
    return {path: TensorMapping(f"{theirs}.weight", rows, True), f"{path}_bias": TensorMapping(f"{theirs}.bias")}


def layer_norm(path: str, theirs: str) -> dict[str, TensorMapping]:
    """Maps a LayerNorm's scale and bias."""
    return {f"{path}/scale": TensorMapping(f"{theirs}.weight"), f"{path}/bias": TensorMapping(f"{theirs}.bias")}


def their_shape(mapping: TensorMapping, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the tensor that holds a parameter of `shape`, which is that of one layer.

    [embed, heads, kv] with rows=1, parts=3 -> [embed, 3 * heads * kv], or [3 * heads * kv, embed] if transposed.
    """
    if not mapping.rows:
        return (1,) * mapping.leading + (mapping.parts * math.prod(shape),)
    rows, columns = math.prod(shape[: mapping.rows]), mapping.parts * math.prod(shape[mapping.rows :])
    return (columns, rows) if mapping.transposed else (rows, columns)


def to_ours(tensor: np.ndarray, mapping: TensorMapping, shape: tuple[int, ...]) -> np.ndarray:
    """One layer's parameter from its tensor; a view where that is possible."""
    matrix = tensor.T if mapping.transposed else tensor  # [rows, parts * columns], or a vector [parts * columns]
    width = matrix.shape[-1] // mapping.parts
    return matrix[..., mapping.part * width : (mapping.part + 1) * width].reshape(shape)


def to_theirs(parameters: list[np.ndarray], mapping: TensorMapping) -> np.ndarray:
    """The tensor of one layer's parameters, which are the parts of `mapping` in their order."""
    matrices = [
        x.reshape(math.prod(x.shape[: mapping.rows]), -1) if mapping.rows else x.reshape(-1) for x in parameters
    ]
    matrix = matrices[0] if len(matrices) == 1 else np.concatenate(matrices, axis=-1)
    return (matrix.T if mapping.transposed else matrix)[(None,) * mapping.leading]


def layers_of(tensors: Tensors, path: str, mapping: TensorMapping, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yields the parameter of `shape` layer by layer, or whole where it is not stacked, in the tensors' type.

    Raises:
      UserError: a tensor is missing or has another shape than the parameter needs.
    """
    one = shape[1:] if mapping.stacked else shape
    if mapping.layer_axis is not None:
        name, axis, expected = mapping.name, mapping.layer_axis, list(their_shape(mapping, one))
        expected.insert(axis, shape[0])
        _require(tensors, name, tuple(expected), path)
        stacked = np.moveaxis(tensors.read(name), axis, 0)
        yield from (to_ours(layer, mapping, one) for layer in stacked)
        return
    for layer in range(shape[0] if mapping.stacked else 1):
        name = mapping.name.format(layer=layer)
        _require(tensors, name, their_shape(mapping, one), path)
        yield to_ours(tensors.read(name), mapping, one)


def names_of(mapping: TensorMapping, shape: tuple[int, ...]) -> list[str]:
    """The names of the tensors that hold a parameter of `shape`."""
    if mapping.layer_axis is not None or not mapping.stacked:
        return [mapping.name]
    return [mapping.name.format(layer=layer) for layer in range(shape[0])]


def assemble(layers: Iterable[np.ndarray], stacked: bool, abstract: jax.ShapeDtypeStruct) -> jax.Array:
    """Builds a parameter on the devices of `abstract.sharding` from its layers, of which one at a time is in memory.

    Each layer is read once and cut up for all of this host's devices, so a host holds what its devices hold and one
    layer more.
    """
    sharding = abstract.sharding
    assert sharding is not None
    # A parameter without layers is treated as one of a single layer, of which device buffers drop the dimension.
    shape = abstract.shape if stacked else (1, *abstract.shape)
    indices = cast(Mapping[Any, tuple[slice, ...]], sharding.addressable_devices_indices_map(abstract.shape))
    # Devices that hold the same part of a replicated parameter share a buffer: a region is ((start, stop), ...).
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
