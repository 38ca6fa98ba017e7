"""Paths and shapes of the parameters of a tree, the first in which two trees differ, and zeros of a shape."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t5like.model.network import path_name

Shapes = Mapping[str, tuple[int, ...]]
"""Path of each parameter, such as `decoder/blocks/self/query`, to its shape."""


def shapes_of(params: Any) -> dict[str, tuple[int, ...]]:
    """Path and shape of every parameter of a tree."""
    return {path_name(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}


def first_difference(there: Shapes, here: Shapes) -> str | None:
    """The first difference of two trees of parameters, as part of a sentence; None where they agree."""
    for path in sorted(there.keys() | here.keys()):
        if there.get(path) != here.get(path):
            return f"the parameter {path} is {there.get(path, 'missing')} there and {here.get(path, 'missing')} here"
    return None


def zeros(abstract: jax.ShapeDtypeStruct) -> jax.Array:
    """Zeros in the place of an abstract array."""
    part = lambda index: np.zeros(abstract.shape, abstract.dtype)[index]  # noqa: E731
    if abstract.sharding is None:
        return jnp.zeros(abstract.shape, abstract.dtype)
    return jax.make_array_from_callback(abstract.shape, abstract.sharding, part)
