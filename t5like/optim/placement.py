"""The sharding of an optimizer's state: split as the parameters that it belongs to are.

Moments have a parameter's shape and its sharding. Adafactor's factors lack one of its dimensions each, have heads and
their width as one, and are split as the dimensions that they keep. Which these are follows from how the state is made
and never from equal sizes: the matrices of attention are often square. A leaf that no rule knows is an error, for it
would be whole on every device.
"""

from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from t5like.model.network import path_name
from t5like.model.sharding import Params, stacked
from t5like.optim.matrices import Axes, folded, folded_shape
from t5like.optim.scales import LEAST_FACTORED

FACTORED = ("count", "v_row", "v_col", "v")
"""Fields of optax.FactoredState, which `per_matrix` keeps for each parameter."""
SMALL = 64
"""Most numbers of a leaf that belongs to no parameter, such as a count of steps."""

Dimensions = tuple[int | None, ...]
"""For each dimension of a leaf, the parameter's dimension that it is, or starts with; None for a size of 1."""


def optimizer_shardings(opt_state: optax.OptState, params: Params, shardings: Params, axes: Axes) -> Any:
    """A NamedSharding for every leaf of an abstract optimizer state.

    `params` are the abstract parameters, `shardings` their NamedShardings, `axes` the names of their dimensions.

    Raises:
      ValueError: a leaf that belongs to a parameter in no known way, or a large one that belongs to none.
    """
    shapes = {path_name(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    placed = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(shardings)}
    mesh = next(iter(placed.values())).mesh

    def sharding(path: Any, leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        owner = "/".join(str(key.key) for key in path if isinstance(key, jax.tree_util.DictKey))
        if owner not in shapes:
            if leaf.size > SMALL:
                raise ValueError(f"optimizer state {path_name(path)!r} of shape {leaf.shape} belongs to no parameter")
            return NamedSharding(mesh, PartitionSpec())
        field = [key.name for key in path if isinstance(key, jax.tree_util.GetAttrKey)][-1]
        dimensions, sizes = kept_dimensions(field, shapes[owner], axes[owner])
        if sizes != leaf.shape:
            raise ValueError(f"optimizer state {path_name(path)!r} has shape {leaf.shape}, not {sizes}")
        spec = (*placed[owner].spec, *[None] * len(shapes[owner]))
        return NamedSharding(mesh, PartitionSpec(*(None if number is None else spec[number] for number in dimensions)))

    return jax.tree_util.tree_map_with_path(sharding, opt_state)


def kept_dimensions(field: str, shape: tuple[int, ...], names: tuple[str, ...]) -> tuple[Dimensions, tuple[int, ...]]:
    """The parameter's dimensions that a field of its optimizer state keeps, and their sizes there.

    A dimension of heads and their width is split as the heads are: they come first in it. So of a query kernel of
    (layers=2, embed=512, heads=8, kv=64), folded to (2, 512, 512), the last of the two largest is dropped from `v_row`:
    ((0, 1), (2, 512)), the other from `v_col`: ((0, 2), (2, 512)), where 2 is the dimension of the heads; `v`, which
    is not used, is ((0, None), (2, 1)).
    """
    if field not in FACTORED:
        return tuple(range(len(shape))), shape
    first, sizes = tuple(numbers[0] for numbers in folded(names)), folded_shape(shape, names)
    layers = stacked(names)
    second, largest = _factored(sizes[layers:]) or (None, None)
    if field == "count":
        kept = ()
    elif (second is None) != (field == "v"):  # the factors of what is not factored, or the whole of what is
        return (*first[:layers], None), (*sizes[:layers], 1)
    else:
        dropped = {"v_row": largest, "v_col": second, "v": None}[field]
        kept = tuple(number for number in range(layers, len(sizes)) if number - layers != dropped)
    kept = (*range(layers), *kept)
    return tuple(first[number] for number in kept), tuple(sizes[number] for number in kept)


def _factored(sizes: tuple[int, ...]) -> tuple[int, int] | None:
    """The second largest and the largest dimension of a matrix that is factored.

    Of equal sizes the sort decides, so it must be the very sort that optax has.
    """
    if len(sizes) < 2:
        return None
    *_, second, largest = np.argsort(sizes)
    return (int(second), int(largest)) if sizes[second] >= LEAST_FACTORED else None
