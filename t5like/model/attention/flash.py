"""Attention whose memory grows with the length and not with its square, in plain JAX.

Scores exist for one block of queries and one of keys at a time: a running maximum and sum normalise them (Rabe and
Staats 2021, Dao et al. 2022), and the backward pass makes each block again instead of keeping it. It takes all that
T5's attention takes, the relative bias with the gradient of its table included, which no kernel at hand does, and
compiles for every platform.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from t5like.config import Rules
from t5like.model.attention.local import along_heads, on_each_device
from t5like.model.attention.masks import HIDDEN, AttentionMask, Keys, Query, Relative, bucket_bias, one_hot_buckets

BLOCK = 512
PADDING = -1
"""The segment of keys that only fill the last block: no query attends to them, not even one that sees nothing."""


class Kind(NamedTuple):
    """True if attention is causal, the distance from which on T5's bias is the same, and how far a query sees."""

    causal: bool
    max_distance: int
    window: int | None


class _Blocks(NamedTuple):
    """One device's arrays in blocks: `query` is [blocks, batch, kv_heads, group, query, kv], `keys` and `values` are
    [blocks, batch, kv_heads, key, kv], segments [blocks, batch, query or key], T5's `table` is [kv_heads, group,
    buckets], or None, and `first` the position of the first query."""

    query: Array
    keys: Array
    values: Array
    query_segments: Array
    key_segments: Array
    table: Any
    first: Any


def linear(
    query: Query,
    keys: Keys,
    values: Keys,
    mask: AttentionMask,
    relative: Relative | None,
    rules: Rules,
    block: int = BLOCK,
) -> Query:
    """Softmax attention in blocks of at most `block` queries by `block` keys; scores and sums are float32."""
    more, max_distance = [], 0
    if relative is not None:
        more, max_distance = [(relative.table.astype(jnp.float32).T, along_heads(rules))], relative.max_distance
    local = functools.partial(_local, block=block, max_distance=max_distance)
    return on_each_device(local, query, keys, values, mask, rules, *more)


def _local(
    query: Query,
    keys: Keys,
    values: Keys,
    mask: AttentionMask,
    part: Array,
    table: Float[Array, "heads buckets"] | None = None,
    *,
    block: int,
    max_distance: int,
) -> Query:
    batch, length, heads, width = query.shape
    shared = keys.shape[2]
    rows, columns = min(block, length), min(block, keys.shape[1])
    x = _Blocks(
        query=jnp.moveaxis(_cut(query, rows), 3, 2).reshape(-1, batch, shared, heads // shared, rows, width),
        keys=jnp.moveaxis(_cut(keys, columns), 3, 2),
        values=jnp.moveaxis(_cut(values, columns), 3, 2),
        query_segments=_cut(mask.query_segments, rows, PADDING),
        key_segments=_cut(mask.key_segments, columns, PADDING),
        table=None if table is None else table.reshape(shared, heads // shared, -1),
        first=part * length,
    )
    y: Any = _attention(Kind(mask.causal, max_distance, mask.window), x)
    y = y.reshape(-1, batch, heads, rows, width)
    return jnp.moveaxis(y, (0, 3), (1, 2)).reshape(batch, -1, heads, width)[:, :length]


def _cut(x: Array, size: int, fill: int = 0) -> Array:
    """[batch, length, …] as [blocks, batch, size, …], the last block filled up."""
    blocks = -(-x.shape[1] // size)
    x = jnp.pad(x, [(0, 0), (0, blocks * size - x.shape[1])] + [(0, 0)] * (x.ndim - 2), constant_values=fill)
    return jnp.moveaxis(x.reshape(x.shape[0], blocks, size, *x.shape[2:]), 1, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(kind: Kind, x: _Blocks) -> Array:
    return _forward(kind, x)[0]


def _forward(kind: Kind, x: _Blocks) -> tuple[Array, tuple[_Blocks, Array, Array, Array]]:
    """The output, and with it what the backward pass needs: each query's largest score, and its sum of weights."""
    # JAX makes what all layers share before their loop: without a barrier, bias and mask of all blocks at once.
    x = jax.lax.optimization_barrier(x)

    def of_queries(numbered: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        row, query, segments = numbered

        def add(total: tuple[Array, Array, Array], numbered: Any) -> tuple[tuple[Array, Array, Array], None]:
            column, keys, values, key_segments = numbered

            def with_block() -> tuple[Array, Array, Array]:
                # The sums so far are rescaled to the new maximum: exp(s - now) = exp(s - largest) * exp(largest - now).
                largest, weight, y = total
                scores = _scores(x, row, column, query, keys, segments, key_segments, kind)
                now = jnp.maximum(largest, scores.max(-1))
                weights, kept = jnp.exp(scores - now[..., None]), jnp.exp(largest - now)
                new = _product("bgnqk,bgkd->bgnqd", weights.astype(values.dtype), values)
                return now, weight * kept + weights.sum(-1), y * kept[..., None] + new

            return _if_reached(x, row, column, kind, with_block, lambda: total), None

        zero = jnp.zeros(query.shape[:-1], jnp.float32)
        start = zero - jnp.inf, zero, jnp.zeros(query.shape, jnp.float32)
        (largest, weight, y), _ = jax.lax.scan(add, start, (_numbers(x.keys), x.keys, x.values, x.key_segments))
        return (y / weight[..., None]).astype(query.dtype), largest, weight

    kept = jax.lax.map(of_queries, (_numbers(x.query), x.query, x.query_segments))
    # With these three saved, no remat policy runs the whole loop a second time.
    y, largest, weight = (checkpoint_name(value, "attended") for value in kept)
    return y, (x, y, largest, weight)


def _backward(kind: Kind, saved: tuple[_Blocks, Array, Array, Array], dy: Array) -> tuple[_Blocks]:
    """The gradients, for one block of keys after the other (Dao 2023).

    With scores S = Q K^T + bias, weights P = exp(S - largest) / weight and output O = P V:
    dV = P^T dO, dP = dO V^T, dS = P * (dP - rowsum(dO * O)), dQ = dS K, dK = dS^T Q, and the gradient of a bucket of
    the bias is the sum of dS over its pairs. Only P is made again, from the two statistics of each query.
    """
    x, y, largest, weight = jax.lax.optimization_barrier(saved)
    shared = jnp.sum(dy.astype(jnp.float32) * y.astype(jnp.float32), axis=-1)  # rowsum(dO * O)
    queries = _numbers(x.query), x.query, x.query_segments, dy, largest, weight, shared

    def onto_table(block: Array, row: Array, column: Array) -> Array:
        """The gradient of each bucket: the sum of those of its distances."""
        one_hot = one_hot_buckets(
            _distances(x, row, column), x.table.shape[-1], max_distance=kind.max_distance, causal=kind.causal
        )
        return jnp.einsum("gnqk,qkb->gnb", block, one_hot, precision=jax.lax.Precision.HIGHEST)

    def of_keys(total: tuple[Array, Any], numbered: Any) -> tuple[tuple[Array, Any], tuple[Array, Array]]:
        column, keys, values, key_segments = numbered

        def add(total: tuple[Any, ...], numbered: Any) -> tuple[tuple[Any, ...], None]:
            row, query, segments, dy, largest, weight, shared = numbered

            def of_block() -> tuple[Any, ...]:
                scores = _scores(x, row, column, query, keys, segments, key_segments, kind)
                weights = jnp.exp(scores - largest[..., None]) / weight[..., None]
                change = _product("bgnqd,bgkd->bgnqk", dy, values) - shared[..., None]
                dscores = weights * change  # dS
                narrow = dscores.astype(query.dtype)
                return (
                    _product("bgnqk,bgkd->bgnqd", narrow, keys),
                    _product("bgnqk,bgnqd->bgkd", narrow, query),
                    _product("bgnqk,bgnqd->bgkd", weights.astype(dy.dtype), dy),
                    None if x.table is None else onto_table(dscores.sum(0), row, column),
                )

            nothing = lambda: jax.tree.map(lambda part: jnp.zeros(part.shape, part.dtype), jax.eval_shape(of_block))  # noqa: E731
            query_part, *key_parts, table_part = _if_reached(x, row, column, kind, of_block, nothing)
            dquery, dkeys, dvalues, dtable = total
            dtable = None if dtable is None else dtable + table_part
            return (dquery.at[row].add(query_part), dkeys + key_parts[0], dvalues + key_parts[1], dtable), None

        dquery, dtable = total
        zeros = jnp.zeros(keys.shape, jnp.float32), jnp.zeros(values.shape, jnp.float32)
        (dquery, dkeys, dvalues, dtable), _ = jax.lax.scan(add, (dquery, *zeros, dtable), queries)
        return (dquery, dtable), (dkeys.astype(keys.dtype), dvalues.astype(values.dtype))

    start = jnp.zeros(x.query.shape, jnp.float32), None if x.table is None else jnp.zeros_like(x.table)
    columns = _numbers(x.keys), x.keys, x.values, x.key_segments
    (dquery, dtable), (dkeys, dvalues) = jax.lax.scan(of_keys, start, columns)
    numbers: Any = None
    return (_Blocks(dquery.astype(x.query.dtype), dkeys, dvalues, numbers, numbers, dtable, numbers),)


_attention.defvjp(_forward, _backward)


def _scores(
    x: _Blocks, row: Array, column: Array, query: Array, keys: Array, segments: Array, key_segments: Array, kind: Kind
) -> Float[Array, "batch kv_heads group query key"]:
    """Scores of one block of queries and one of keys, bias and mask included."""
    scores = _product("bgnqd,bgkd->bgnqk", query, keys)
    distances = _distances(x, row, column)
    if x.table is not None:
        scores += bucket_bias(x.table, distances, max_distance=kind.max_distance, causal=kind.causal)[None]
    allowed = segments[:, :, None] == key_segments[:, None, :]
    if kind.causal:
        allowed &= (distances <= 0)[None]
    if kind.window is not None:
        allowed &= (jnp.abs(distances) < kind.window)[None]
    added = jnp.where(allowed, jnp.float32(0), jnp.float32(HIDDEN))
    return scores + jnp.where((key_segments == PADDING)[:, None], -jnp.inf, added)[:, None, None]


def _distances(x: _Blocks, row: Array, column: Array) -> Int[Array, "query key"]:
    """Position of the key less that of the query, of every pair of a block."""
    queries, keys = x.query.shape[-2], x.keys.shape[-2]
    positions = x.first + row * queries + jnp.arange(queries, dtype=jnp.int32)
    return (column * keys + jnp.arange(keys, dtype=jnp.int32))[None] - positions[:, None]


def _if_reached(x: _Blocks, row: Array, column: Array, kind: Kind, work: Callable[[], Any], skip: Any) -> Any:
    """`work()`, or `skip()` for a block whose keys are all later than its queries or beyond their windows."""
    if not kind.causal and kind.window is None:
        return work()
    keys, queries = x.keys.shape[-2], x.query.shape[-2]
    last = x.first + (row + 1) * queries - 1
    ahead = 0 if kind.causal or kind.window is None else kind.window - 1
    reached = column * keys <= last + ahead
    if kind.window is not None:
        reached &= (column + 1) * keys - 1 > last - queries + 1 - kind.window
    return jax.lax.cond(reached, work, skip)


def _numbers(blocks: Array) -> Array:
    return jnp.arange(blocks.shape[0], dtype=jnp.int32)


def _product(contraction: str, left: Array, right: Array) -> Array:
    return jnp.einsum(contraction, left, right, preferred_element_type=jnp.float32)
