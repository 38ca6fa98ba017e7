"""Parameters as optimizers think of them: one matrix for each layer, with heads and their width as one dimension.

Our parameters carry all layers of a stack in front, and heads apart from their width. What an optimizer measures of a
matrix (its size, its rows and columns, its directions) must not depend on that, or a scanned stack would be trained
otherwise than an unrolled one.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import optax

from t5like.model.network import path_name
from t5like.model.sharding import stacked

Axes = dict[str, tuple[str, ...]]
"""Path of each parameter -> the names of its dimensions."""


def folded(names: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
    """The dimensions of a parameter, layers included, where heads and their width are one: ((0,), (1,), (2, 3)) for
    (layers, embed, heads, kv)."""
    dimensions: list[tuple[int, ...]] = [(number,) for number in range(len(names))]
    width = names.index("kv") if "kv" in names else 0
    if width and names[width - 1] in ("heads", "kv_heads"):
        dimensions[width - 1 : width + 1] = [(width - 1, width)]
    return tuple(dimensions)


def folded_shape(shape: tuple[int, ...], names: tuple[str, ...]) -> tuple[int, ...]:
    """The sizes of the folded dimensions."""
    return tuple(math.prod(shape[number] for number in numbers) for numbers in folded(names))


def per_matrix(inner: optax.GradientTransformation, axes: Axes) -> optax.GradientTransformation:
    """Apply `inner` to each layer's matrices on their own, with heads and their width as one dimension.

    So a scanned stack is trained as an unrolled one is, and attention kernels are factored as T5's, which are
    matrices. The state is a dict from the parameter's path to the inner state.
    """

    def fold(path: str, x: jax.Array) -> jax.Array:
        return x.reshape(folded_shape(x.shape, axes[path]))

    def by_layer(path: str, function: Callable[..., Any]) -> Callable[..., Any]:
        for _ in range(stacked(axes[path])):
            function = jax.vmap(function)
        return function

    def leaves(tree: optax.Params) -> dict[str, jax.Array]:
        return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}

    def init(params: optax.Params) -> optax.OptState:
        return {path: by_layer(path, inner.init)(fold(path, leaf)) for path, leaf in leaves(params).items()}

    def update(updates: optax.Updates, state: Any, params: Any = None) -> tuple[optax.Updates, optax.OptState]:
        values, new_state, new_updates = leaves(params), {}, []
        for path, gradient in leaves(updates).items():
            arguments = fold(path, gradient), state[path], fold(path, values[path])
            scaled, new_state[path] = by_layer(path, inner.update)(*arguments)
            new_updates.append(scaled.reshape(gradient.shape))
        return jax.tree.unflatten(jax.tree.structure(updates), new_updates), new_state

    return optax.GradientTransformation(init, update)
