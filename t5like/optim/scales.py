"""Updates from gradients, where optax alone would not see each layer's matrices for themselves."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from t5like.model.adapters import LENGTH
from t5like.model.network import path_name
from t5like.model.sharding import stacked
from t5like.optim.groups import group_of, is_bias
from t5like.optim.matrices import Axes, folded, folded_shape

LEAST_FACTORED = 128
"""Adafactor factors matrices whose both sides have at least this size."""


def adafactor() -> optax.GradientTransformation:
    """Adafactor as T5 uses it (Shazeer and Stern 2018), for one matrix, without the learning rate.

    beta2 = 1 - step^-0.8, factored from 128 x 128 on, the update clipped to a root mean square of 1 and scaled by the
    parameter's own, which counts as at least 1e-3. No momentum.
    """
    return optax.chain(
        optax.scale_by_factored_rms(decay_rate=0.8, min_dim_size_to_factor=LEAST_FACTORED, epsilon=1e-30),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_param_block_rms(1e-3),
    )


def scale_by_matrix_rms(axes: Axes, least: float) -> optax.GradientTransformation:
    """Multiply the update of each layer's matrix by the matrix's root mean square, which counts as at least `least`.

    nanoT5's AdamWScale does so (Nawrot 2023), after Adafactor.
    """

    def scale(path: Any, update: jax.Array, param: jax.Array) -> jax.Array:
        measured = tuple(range(stacked(axes[path_name(path)]), param.ndim))
        size = jnp.sqrt(jnp.mean(jnp.square(param), axis=measured, keepdims=True))
        return update * jnp.maximum(size, least)

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(scale, updates, params))


def is_hidden_matrix(path: str) -> bool:
    """True if Muon is for a parameter: its author leaves embeddings, the output, scales and biases to AdamW."""
    return group_of(path) in ("attention", "mlp") and not is_bias(path) and not path.endswith(LENGTH)


def muon(momentum: float, axes: Axes) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024) for hidden matrices, without the learning rate.

    Each layer's matrix is orthogonalised on its own, over (embed) x (heads, kv) in attention. A root mean square of 0.2
    for every shape makes one rate, and one decay, fit these and what AdamW updates (Liu et al. 2025, 2502.16982).
    """

    def numbers(path: Any) -> MuonDimensionNumbers:
        names = axes[path_name(path)]
        rows, columns = folded(names)[stacked(names) :]
        return MuonDimensionNumbers(rows, columns)

    def resize(path: Any, update: jax.Array) -> jax.Array:
        rows, columns = folded_shape(update.shape, axes[path_name(path)])[-2:]
        return update * (0.2 * math.sqrt(max(rows, columns)))

    def dimension_numbers(updates: optax.Updates) -> Any:
        return jax.tree_util.tree_map_with_path(lambda path, _: numbers(path), updates)

    orthogonal = scale_by_muon(beta=momentum, weight_dimension_numbers=dimension_numbers)
    return optax.chain(orthogonal, optax.stateless(lambda u, _: jax.tree_util.tree_map_with_path(resize, u)))
