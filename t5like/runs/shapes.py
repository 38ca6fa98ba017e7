"""Paths and shapes of the parameters of a tree, and the first in which two trees differ."""

from collections.abc import Mapping
from typing import Any

import jax

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
