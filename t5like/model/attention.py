"""Attention: one `attend`, and the cache of keys and values that decoding carries along as a plain value."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from t5like.model.layers import dropout

Query = Float[Array, "batch query heads kv"]
Keys = Float[Array, "batch key kv_heads kv"]


class KeysValues(NamedTuple):
    """Keys and values of one layer, `[batch, key, kv_heads, kv]`, or of a stack with the layers in front."""

    keys: Array
    values: Array


def attend(
    query: Query,
    keys: Keys,
    values: Keys,
    allowed: Bool[Array, "batch query key"],
    bias: Float[Array, "#batch heads query key"] | None = None,
    drop: tuple[float, Array] | None = None,
) -> Query:
    """Softmax attention; scores and softmax are float32 whatever the inputs are.

    `allowed` says which keys a query sees, `bias` is added to the scores, `drop` is a rate and a key for dropout of
    the weights. Where keys have fewer heads, heads / kv_heads successive queries share one (Ainslie et al. 2023). The
    mask adds -1e10, as in T5, so that a query that sees nothing attends evenly instead of to NaN.
    """
    groups = query.shape[2] // keys.shape[2]
    if groups > 1:
        keys, values = jnp.repeat(keys, groups, axis=2), jnp.repeat(values, groups, axis=2)
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, keys, preferred_element_type=jnp.float32)
    if bias is not None:
        scores += bias.astype(jnp.float32)
    scores += jnp.where(allowed, jnp.float32(0), jnp.float32(-1e10))[:, None]
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    if drop is not None:
        weights = dropout(weights, *drop)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, values)


def write(cache: KeysValues, new: KeysValues, positions: Int[Array, "batch query"]) -> KeysValues:
    """The cache of one layer with new keys and values in the slots that their positions name."""
    rows = jnp.arange(positions.shape[0], dtype=jnp.int32)[:, None]
    return KeysValues(
        cache.keys.at[rows, positions].set(new.keys, mode="drop"),
        cache.values.at[rows, positions].set(new.values, mode="drop"),
    )
