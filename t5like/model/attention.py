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
    batch, length, heads, kv = query.shape
    groups = heads // keys.shape[2]
    query = query.reshape(batch, length, keys.shape[2], groups, kv)
    scores = jnp.einsum("bqhgd,bkhd->bhgqk", query, keys, preferred_element_type=jnp.float32)
    if bias is not None:
        scores += bias.astype(jnp.float32).reshape(bias.shape[0], -1, groups, *bias.shape[2:])
    scores += jnp.where(allowed, jnp.float32(0), jnp.float32(-1e10))[:, None, None]
    weights = jax.nn.softmax(scores, axis=-1).astype(values.dtype)
    if drop is not None:
        weights = dropout(weights, *drop)
    return jnp.einsum("bhgqk,bkhd->bqhgd", weights, values).reshape(batch, length, heads, kv)


def write(cache: KeysValues, new: KeysValues, positions: Int[Array, "batch query"]) -> KeysValues:
    """The cache of one layer with new keys and values in the slots that their positions name."""
    rows = jnp.arange(positions.shape[0], dtype=jnp.int32)[:, None]
    return KeysValues(
        cache.keys.at[rows, positions].set(new.keys, mode="drop"),
        cache.values.at[rows, positions].set(new.values, mode="drop"),
    )
