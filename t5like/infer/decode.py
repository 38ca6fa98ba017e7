"""Decoding with a KV cache as two pure functions: `prefill` reads prompts, `advance` appends one token to every row.

Whatever chooses tokens is a loop over these two: `infer/search.py` has it. Prompts are padded in front, so that all
rows write their next token to the same slot of the cache, and are independent of each other: beams `reorder` the rows
of a source, and a server takes and puts the rows of sources.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from t5like.model.attention.cached import KVCache
from t5like.model.blocks import LayerCache
from t5like.model.sharding import Params
from t5like.model.stack import Cache
from t5like.model.transformer import Transformer


class Prompts(NamedTuple):
    """Prompts of a batch.

    `tokens` are what the decoder is given first, padded in front to one length, and `lengths` those without padding,
    at least 1; `encoder` holds the encoder's features for a model that has one.
    """

    tokens: Int[Array, "batch length"]
    lengths: Int[Array, " batch"]
    encoder: dict[str, Array] | None


class DecodeState(NamedTuple):
    """Rows that are being decoded: several of each source, beams or samples, side by side, or one.

    `logits` are float32 scores of each row's next token, which will stand in `slot`, and at the position `slot` less
    the `starts` of its source. `cache` has keys and values of all tokens so far; those that the rows of a source share
    are kept once, the encoder's and, where there are several rows, the prompt's.
    """

    cache: Cache
    logits: Float[Array, "rows vocab"]
    slot: Int[Array, ""]
    starts: Int[Array, " sources"]
    encoder_segments: Int[Array, "sources memory"] | None


def prefill(net: Transformer, params: Params, prompts: Prompts, slots: int, copies: int = 1) -> DecodeState:
    """Read the prompts into a new cache with room for `slots` tokens a row, the prompt's padding included.

    Each prompt has `copies` rows.
    """
    length, memory, segments = prompts.tokens.shape[1], None, None
    if prompts.encoder is not None:
        memory = net.apply({"params": params}, prompts.encoder, method=Transformer.encode)
        segments = prompts.encoder["encoder_segment_ids"]
    starts = length - prompts.lengths
    logits, cache = _apply(net, params, Transformer.prefill, prompts.tokens, _from(starts, length), segments, memory)
    cache = [_with_room(layer, slots - length, copies) for layer in cache]
    return DecodeState(cache, jnp.repeat(logits, copies, axis=0), jnp.int32(length), starts, segments)


def advance(net: Transformer, params: Params, state: DecodeState, tokens: Int[Array, " rows"]) -> DecodeState:
    """Append a token to each row, whose cache must have a free slot; `params` are those of `stack.unrolled`."""
    layer, starts = state.cache[0], jnp.repeat(state.starts, len(tokens) // len(state.starts))
    apart = layer["prompt"].keys.shape[2] if "prompt" in layer else 0
    prompt = _from(state.starts, apart) if apart else None
    seen = _from(starts - apart, layer["self"].keys.shape[2])
    given = tokens, state.slot - starts, state.slot - apart, state.cache, seen, prompt, state.encoder_segments
    logits, cache = _apply(net, params, Transformer.advance, *given)
    return state._replace(cache=cache, logits=logits, slot=state.slot + 1)


def take_parents(
    x: Shaped[Array, "rows *shape"], parents: Int[Array, "sources copies"]
) -> Shaped[Array, "rows *shape"]:
    """The part of each row's parent; it is one of the rows of the same source, which `parents` counts from 0.

    Sources are a batch of look-ups, so that a mesh that splits them sends nothing.
    """
    split = x.reshape(*parents.shape, *x.shape[1:])
    return jax.vmap(lambda own, rows: own[rows])(split, parents).reshape(x.shape)


def reorder(state: DecodeState, parents: Int[Array, "sources copies"]) -> DecodeState:
    """Give each row what its parent has of its own. The logits stay as they are."""
    taken = jax.tree.map(lambda x: take_parents(x, parents), [layer["self"] for layer in state.cache])
    return state._replace(cache=[{**old, "self": new} for old, new in zip(state.cache, taken, strict=True)])


def take_rows(state: DecodeState, rows: Int[Array, " taken"]) -> DecodeState:
    """Select `rows`, each the only one of its source, in this order; one may be taken several times or left out."""
    return _each(lambda x: jnp.take(x, rows, axis=0), state)


def put_rows(state: DecodeState, rows: Int[Array, " new"], new: DecodeState) -> DecodeState:
    """Replace `rows`, each the only one of its source, by those of `new`.

    Its slots, its next slot and the length of the encoder's padded input must be the same: a prompt that joins rows in
    the middle of their answers is padded in front to end where these are.
    """
    return _each(lambda x, y: x.at[rows].set(y), state, new)


def _from(starts: Int[Array, " rows"], slots: int) -> Int[Array, "rows slots"]:
    """1 for the slots of each row from its start on."""
    return (jnp.arange(slots, dtype=jnp.int32)[None] >= starts[:, None]).astype(jnp.int32)


def _with_room(layer: LayerCache, room: int, copies: int) -> LayerCache:
    """The cache of a prompt with empty slots behind it, for several copies in caches of their own."""
    own = layer["self"]
    if copies == 1:
        padded = (jnp.pad(x, ((0, 0), (0, 0), (0, room), (0, 0))) for x in own)
        return {**layer, "self": KVCache(*padded)}
    sources, heads, _, kv = own.keys.shape
    empty = jnp.zeros((sources * copies, heads, room, kv), own.keys.dtype)
    return {**layer, "prompt": own, "self": KVCache(empty, empty)}


def _apply(net: Transformer, params: Params, method: Callable[..., Any], *given: Any) -> tuple[Array, Cache]:
    """A method of the module with the types that `apply` loses."""
    found: Any = net.apply({"params": params}, *given, method=method)
    return found


def _each(function: Callable[..., Array], *states: DecodeState) -> DecodeState:
    """Apply `function` to each array of the states that begins with the rows."""
    found = [state._replace(slot=None) for state in states]
    return jax.tree.map(function, *found)._replace(slot=states[0].slot)
