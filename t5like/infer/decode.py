"""Decoding with a KV cache as two pure functions: `prefill` reads prompts, `advance` appends one token to every row.

Whatever chooses tokens is a loop over these two: greedy and sampled answers are `infer/sample.py`, and beam search or
a server with continuous batching needs nothing else. Rows of a `DecodeState` are independent of each other: each has
its own position, `take_rows` reorders or copies them, and `put_rows` replaces some by newly prefilled ones.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t5like.model.sharding import Params
from t5like.model.stack import Cache, empty_cache
from t5like.model.transformer import Logits, Transformer


class Prompts(NamedTuple):
    """Prompts of a batch.

    `tokens` are what the decoder is given first, padded at the end to one length, and `lengths` those without padding,
    at least 1; `encoder` holds the encoder's features for a model that has one.
    """

    tokens: Int[Array, "batch length"]
    lengths: Int[Array, " batch"]
    encoder: dict[str, Array] | None


class DecodeState(NamedTuple):
    """Rows that are being decoded.

    `cache` holds keys and values of all tokens so far, `[layers, batch, slots, kv_heads, kv]`, and those of the encoder
    for a model that has one; `logits` are float32 scores of each row's next token, which will stand at `positions`.
    """

    cache: Cache
    logits: Float[Array, "batch vocab"]
    positions: Int[Array, " batch"]
    encoder_segments: Int[Array, "batch memory"] | None


def prefill(net: Transformer, params: Params, prompts: Prompts, slots: int) -> DecodeState:
    """Read the prompts into a new cache with room for `slots` tokens a row, the prompt's padding included."""
    batch, length = prompts.tokens.shape
    memory = segments = None
    if prompts.encoder is not None:
        memory = net.apply({"params": params}, prompts.encoder, method=Transformer.encode)
        segments = prompts.encoder["encoder_segment_ids"]
    positions = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (batch, length))
    given = prompts.tokens, positions, empty_cache(net.model, batch, slots), segments, memory
    logits, cache = _decode(net, params, *given)
    # [batch, length, vocab] -> [batch, vocab]: the scores after each row's last real token.
    logits = jnp.take_along_axis(logits, (prompts.lengths - 1)[:, None, None], axis=1)[:, 0]
    return DecodeState(cache, logits, prompts.lengths, segments)


def advance(net: Transformer, params: Params, state: DecodeState, tokens: Int[Array, " batch"]) -> DecodeState:
    """Append a token to each row. A row whose slots are full stays as it is, but for its logits, which mean nothing."""
    given = tokens[:, None], state.positions[:, None], state.cache, state.encoder_segments
    logits, cache = _decode(net, params, *given)
    return state._replace(cache=cache, logits=logits[:, 0], positions=state.positions + 1)


def take_rows(state: DecodeState, rows: Int[Array, " taken"]) -> DecodeState:
    """Select `rows` in this order; one may be taken several times, as beams do, or left out."""
    return _each(lambda axis, x: jnp.take(x, rows, axis), state)


def put_rows(state: DecodeState, rows: Int[Array, " new"], new: DecodeState) -> DecodeState:
    """Replace `rows` by those of `new`, which has the same slots and the same length of the encoder's padded input."""
    return _each(lambda axis, x, y: x.at[(slice(None),) * axis + (rows,)].set(y), state, new)


def _decode(net: Transformer, params: Params, *given: Any) -> tuple[Logits, Cache]:
    """`Transformer.decode` with the types that `apply` loses."""
    found: Any = net.apply({"params": params}, *given, method=Transformer.decode)
    return found


def _each(function: Callable[..., Array], *states: DecodeState) -> DecodeState:
    """Apply `function(axis, *arrays)` to each array of the states; `axis` is that of the rows."""
    caches = jax.tree.map(functools.partial(function, 1), *(state.cache for state in states))
    # Behind the cache, whose arrays have the layers in front, all arrays begin with the rows.
    rest = jax.tree.map(functools.partial(function, 0), *(state[1:] for state in states))
    return DecodeState(caches, *rest)
