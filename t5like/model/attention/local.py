"""Attention on each device's own part: its rows and heads, its queries, and all keys of these rows.

Blocks and kernels must not be cut by the compiler's partitioner, so each device runs them on what it has. Where the
length is split over devices, keys and values are gathered and queries are not, so that each has its share of the work.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from t5like.config import Rules
from t5like.model.attention.masks import AttentionMask, Keys, Query
from t5like.model.sharding import spec


def on_each_device(
    attention: Callable[..., Any], query: Query, keys: Keys, values: Keys, mask: AttentionMask, rules: Rules, *more: Any
) -> Query:
    """Run `attention(query, keys, values, mask, part, *more)` on each device's own part of the arrays.

    `part` is the number of the part of the length that the device's queries are. `more` are pairs of a value and its
    PartitionSpec, or tree of such.
    """
    if len({rules.act_heads, rules.act_kv_heads}) > 1:
        keys, values = with_heads(keys, query.shape[2]), with_heads(values, query.shape[2])
    one, all_keys = spec(rules, ("batch", "length")), spec(rules, ("batch", None))
    own = spec(rules, ("batch", "length", "act_heads", None))
    heads = spec(rules, ("batch", None, "act_heads", None))

    def local(query: Any, keys: Any, values: Any, segments: Any, more: Any) -> Any:
        part = jax.lax.axis_index(rules.length) if rules.length else jnp.zeros((), jnp.int32)
        return attention(
            query, keys, values, replace(mask, query_segments=segments[0], key_segments=segments[1]), part, *more
        )

    given = query, keys, values, (mask.query_segments, mask.key_segments), tuple(value for value, _ in more)
    placed: Any = own, heads, heads, (one, all_keys), tuple(each for _, each in more)
    # check_vma would have every loop's first value say over which axes it varies; it changes no result.
    run: Any = jax.shard_map(local, in_specs=placed, out_specs=own, check_vma=False)
    return run(*given)


def along_heads(rules: Rules) -> PartitionSpec:
    """The PartitionSpec of an array `[heads, …]` whose heads are split as those of the queries."""
    return spec(rules, ("act_heads", None))


def with_heads(keys: Keys, heads: int) -> Float[Array, "batch key heads kv"]:
    """Keys or values with each head repeated for the successive queries that share it (Ainslie et al. 2023)."""
    return keys if keys.shape[2] == heads else jnp.repeat(keys, heads // keys.shape[2], axis=2)
