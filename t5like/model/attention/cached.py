"""Attention of new tokens to keys and values that are kept while decoding.

Keys and values lie as `[sources, kv_heads, keys, kv]`, so that a step's products with them are of whole matrices and
copy nothing. A source may have several rows, its beams or samples: what they share, the encoder's output and the
prompt, is kept once, and the rows are its queries.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t5like.config import Rules
from t5like.model.attention.masks import HIDDEN, AttentionMask, Keys, Query, Relative
from t5like.model.sharding import shard


class KVCache(NamedTuple):
    """Keys and values of one layer, `[sources, kv_heads, keys, kv]`."""

    keys: Array
    values: Array


def cache_of(keys: Keys, values: Keys, heads: int, rules: Rules) -> KVCache:
    """The cache of keys and values `[batch, key, kv_heads, kv]`; `heads` are those of the queries."""

    def laid(x: Keys) -> Array:
        axis = "act_heads" if x.shape[2] == heads else "act_kv_heads"
        return shard(jnp.swapaxes(x, 1, 2), rules, "batch", axis, None, None)

    return KVCache(laid(keys), laid(values))


def write(cache: KVCache, keys: Keys, values: Keys, slot: Int[Array, ""]) -> KVCache:
    """The cache with the keys and values `[batch, key, kv_heads, kv]` of new tokens from `slot` on."""
    put = lambda old, new: jax.lax.dynamic_update_slice_in_dim(old, jnp.swapaxes(new, 1, 2), slot, axis=2)  # noqa: E731
    return KVCache(put(cache.keys, keys), put(cache.values, values))


def attend_cached(
    query: Query, caches: Sequence[KVCache], masks: Sequence[AttentionMask], relative: Relative | None
) -> Query:
    """Softmax attention over the keys of all caches together, with all scores at once, in float32.

    Row n of the queries, `[rows, length, heads, kv]`, is of source n * sources / rows of each cache, and of each mask.
    Heads that share keys (Ainslie et al. 2023) are queries of one head of keys.
    """
    rows, length, heads, kv = query.shape
    scores = []
    for cache, mask in zip(caches, masks, strict=True):
        own = _score(_grouped(query, cache), cache.keys)
        # [sources, kv_heads, rows of the source * group * length, keys] -> [sources, copies, heads, length, keys]
        sources, kv_heads, _, keys = own.shape
        own = own.reshape(sources, kv_heads, rows // sources, heads // kv_heads, length, keys)
        own = jnp.swapaxes(own, 1, 2).reshape(sources, rows // sources, heads, length, keys)
        if relative is not None:
            own += relative.matrix(mask)[:, None]
        own += jnp.where(mask.matrix(), jnp.float32(0), jnp.float32(HIDDEN))[:, None, None]
        scores.append(own.reshape(rows, heads, length, keys))
    weights = jax.nn.softmax(jnp.concatenate(scores, axis=-1) if len(scores) > 1 else scores[0], axis=-1)
    out, start = jnp.zeros((), query.dtype), 0
    for cache in caches:
        end = start + cache.keys.shape[2]
        out += _mean(weights[..., start:end].astype(query.dtype), cache.values)
        start = end
    return out.reshape(rows, heads, length, kv).swapaxes(1, 2)


def _grouped(query: Query, cache: KVCache) -> Float[Array, "sources kv_heads queries kv"]:
    """[sources * copies, length, kv_heads * group, kv] -> [sources, kv_heads, copies * group * length, kv]."""
    rows, length, heads, kv = query.shape
    sources, kv_heads = cache.keys.shape[:2]
    split = query.reshape(sources, rows // sources, length, kv_heads, heads // kv_heads, kv)
    return split.transpose(0, 3, 1, 4, 2, 5).reshape(sources, kv_heads, -1, kv)


def _score(query: Float[Array, "sources kv_heads queries kv"], keys: Array) -> Float[Array, "sources kv_heads q k"]:
    return jnp.einsum("shqd,shkd->shqk", query, keys, preferred_element_type=jnp.float32)


def _mean(
    weights: Float[Array, "rows heads length keys"], values: Float[Array, "sources kv_heads keys kv"]
) -> Float[Array, "rows heads length kv"]:
    rows, heads, length, keys = weights.shape
    sources, kv_heads = values.shape[:2]
    split = weights.reshape(sources, rows // sources, kv_heads, heads // kv_heads * length, keys)
    mean = jnp.einsum("shqk,shkd->shqd", split.swapaxes(1, 2).reshape(sources, kv_heads, -1, keys), values)
    mean = mean.reshape(sources, kv_heads, rows // sources, heads // kv_heads * length, -1).swapaxes(1, 2)
    return mean.reshape(rows, heads, length, -1)
