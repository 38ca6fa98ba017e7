"""What attention takes besides queries, keys and values: which keys a query sees, and T5's relative position bias.

Both are described, not made: segments, places and T5's table are small, while a mask is of the size length x length and
a bias has that size for each head. Each implementation of attention makes of them what it needs where it needs it:
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
    data_fields=["query_segments", "key_segments", "places"],
    meta_fields=["causal", "window"],
)
@dataclass(frozen=True)
class Seen:
    """Which keys a query sees: those of its own segment, of a causal mask none that comes later in the row, and with a
    window only those less than so many tokens away.

    Segments are `[batch, query]` and `[batch, key]` int32, at least 0. `places`, `[batch, query]`, are those of the
    queries among the keys while decoding with a cache; None: 0, 1, 2 and so on.
    """

    query_segments: Array
    key_segments: Array
    causal: bool
    places: Array | None = None
    window: int | None = None

    def same_segment(self) -> Bool[Array, "batch query key"]:
        """Which keys are of each query's own segment."""
        return self.query_segments[:, :, None] == self.key_segments[:, None, :]

    def mask(self) -> Bool[Array, "batch query key"]:
        """Which keys each query sees."""
        allowed = self.same_segment()
        if self.window is not None:
            allowed &= jnp.abs(self.distances()) < self.window
        if not self.causal:
            return allowed
        if self.places is None:
            return allowed & jnp.tri(*allowed.shape[1:], dtype=bool)[None]
        return allowed & (self.distances() <= 0)

    def distances(self) -> Int[Array, "#batch query key"]:
        """Position of each key less that of each query."""
        queries, keys = self.query_segments.shape[1], self.key_segments.shape[1]
        places = jnp.arange(queries, dtype=jnp.int32)[None] if self.places is None else self.places
        return jnp.arange(keys, dtype=jnp.int32)[None, None] - places[:, :, None]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["table"], meta_fields=["farthest"])
@dataclass(frozen=True)
class Relative:
    """T5's bias of each pair of tokens: `table` `[buckets, heads]` has a number for each bucket of their distance; all
    from the distance `farthest` on share the last one (Raffel et al. 2020)."""

    table: Array
    farthest: int

    def matrix(self, seen: Seen) -> Float[Array, "#batch heads query key"]:
        """The bias of every pair, float32."""
        distances = seen.distances()
        # Float32, or the gradients of all distances in a bucket would add up in the type of activations.
        return jnp.moveaxis(by_bucket(self.table.astype(jnp.float32).T, distances, self.farthest, seen.causal), 0, 1)


def by_bucket(
    table: Float[Array, "*heads buckets"], distances: Int[Array, "*pairs"], farthest: int, causal: bool
) -> Float[Array, "..."]:
    """The bias of each distance (place of the key less that of the query), `[*heads, *pairs]`.

    A product with a row of zeros and a one for each pair: a TPU has no fast way to look numbers up one by one, nor, in
    the backward pass, to add them up so.
    """
    one_hot = which_bucket(distances, table.shape[-1], farthest, causal)
    return jnp.tensordot(table, one_hot, (-1, -1), precision=jax.lax.Precision.HIGHEST)


def which_bucket(
    distances: Int[Array, "*pairs"], buckets: int, farthest: int, causal: bool
) -> Float[Array, "*pairs buckets"]:
    """1 for the bucket of each distance, 0 for the others."""
    return jax.nn.one_hot(relative_bucket(distances, buckets, farthest, causal), buckets, dtype=jnp.float32)
