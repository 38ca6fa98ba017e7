"""The attention mask, and T5's relative position bias.

Both are described, not made: segments, positions and T5's table are small, while a mask is of the size length x length
and a bias has that size for each head. Each implementation of attention makes of them what it needs where it needs it:
whole, a block at a time, or in a kernel.
"""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from t5like.model.layers import relative_bucket

Query = Float[Array, "batch query heads kv"]
Keys = Float[Array, "batch key kv_heads kv"]
HIDDEN = -1e10
"""Added to the score of a key that a query does not see, as in T5: one that sees nothing attends evenly, not to NaN."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["query_segments", "key_segments", "positions"],
    meta_fields=["causal", "window"],
)
@dataclass(frozen=True)
class AttentionMask:
    """The keys that a query sees: those of its own segment, of a causal mask none that comes later in the row, and
    with a window only those less than so many positions away.

    Segments are `[batch, query]` and `[batch, key]` int32, at least 0. `positions`, `[batch, query]`, are those of the
    queries among the keys while decoding with a cache; None: 0, 1, 2 and so on.
    """

    query_segments: Array
    key_segments: Array
    causal: bool
    positions: Array | None = None
    window: int | None = None

    def same_segment(self) -> Bool[Array, "batch query key"]:
        """True for keys of each query's own segment."""
        return self.query_segments[:, :, None] == self.key_segments[:, None, :]

    def matrix(self) -> Bool[Array, "batch query key"]:
        """True for keys that each query sees."""
        allowed = self.same_segment()
        if self.window is not None:
            allowed &= jnp.abs(self.distances()) < self.window
        if not self.causal:
            return allowed
        if self.positions is None:
            return allowed & jnp.tri(*allowed.shape[1:], dtype=bool)[None]
        return allowed & (self.distances() <= 0)

    def distances(self) -> Int[Array, "#batch query key"]:
        """Position of each key less that of each query."""
        queries, keys = self.query_segments.shape[1], self.key_segments.shape[1]
        positions = jnp.arange(queries, dtype=jnp.int32)[None] if self.positions is None else self.positions
        return jnp.arange(keys, dtype=jnp.int32)[None, None] - positions[:, :, None]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["table"], meta_fields=["max_distance"])
@dataclass(frozen=True)
class Relative:
    """T5's bias of each pair of tokens: `table` `[buckets, heads]` has a number for each bucket of their distance; all
    from the distance `max_distance` on share the last one (Raffel et al. 2020)."""

    table: Array
    max_distance: int

    def matrix(self, mask: AttentionMask) -> Float[Array, "#batch heads query key"]:
        """The bias of every pair, float32."""
        # Float32, or the gradients of all distances in a bucket would add up in the type of activations.
        table = self.table.astype(jnp.float32).T
        if mask.positions is not None:
            return jnp.moveaxis(bucket_bias(table, mask.distances(), self.max_distance, mask.causal), 0, 1)
        queries, keys = mask.query_segments.shape[1], mask.key_segments.shape[1]
        distances = jnp.arange(queries + keys, dtype=jnp.int32) - (queries - 1)
        return diagonals(bucket_bias(table, distances, self.max_distance, mask.causal), queries)[None]


def diagonals(values: Float[Array, "heads both"], queries: int) -> Float[Array, "heads query key"]:
    """The matrices that are equal along their diagonals: value k - q + queries - 1 at query q and key k.

    The last of the queries + keys values is not used. Copies and reshapes alone, where to look each number up takes a
    CPU longer than all the rest of attention.
    """
    heads, both = values.shape
    # Rows of `both` numbers, read as rows of one less, shift by one each: [q, c] is value (c - q) % both.
    flat = jnp.broadcast_to(values[:, None], (heads, queries, both)).reshape(heads, queries * both)
    return flat[:, : queries * (both - 1)].reshape(heads, queries, both - 1)[:, :, queries - 1 :]


def bucket_bias(
    table: Float[Array, "*heads buckets"], distances: Int[Array, "*pairs"], max_distance: int, causal: bool
) -> Float[Array, "..."]:
    """The bias of each distance (position of the key less that of the query), `[*heads, *pairs]`.

    A product with a row of zeros and a one for each pair: a TPU has no fast way to look numbers up one by one, nor, in
    the backward pass, to add them up so.
    """
    one_hot = one_hot_buckets(distances, table.shape[-1], max_distance, causal)
    return jnp.tensordot(table, one_hot, (-1, -1), precision=jax.lax.Precision.HIGHEST)


def one_hot_buckets(
    distances: Int[Array, "*pairs"], buckets: int, max_distance: int, causal: bool
) -> Float[Array, "*pairs buckets"]:
    """1 for the bucket of each distance, 0 for the others."""
    return jax.nn.one_hot(relative_bucket(distances, buckets, max_distance, causal), buckets, dtype=jnp.float32)
