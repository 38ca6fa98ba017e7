"""Tokens, one after the other: prefill the cache with the prompt, then one step per token in a loop on the device."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from t5like.config.sampling import Sampling
from t5like.model.sharding import shard
from t5like.model.stack import empty_cache
from t5like.model.transformer import Transformer


class Prompts(NamedTuple):
    """Prompts of a batch.

    `tokens` and `lengths` are what the decoder is given first, padded at the end; `encoder` holds the encoder's
    features for a model that has one. `numbers` tell the random choices of prompts apart.
    """

    tokens: Int[Array, "batch length"]
    lengths: Int[Array, " batch"]
    numbers: Int[Array, " batch"]
    encoder: dict[str, Array] | None


class Limits(NamedTuple):
    """Constraints of all answers: tokens that may be chosen and that end one, and the first and the last token of the
    longest answer where these are forced, else -1."""

    allowed: Bool[Array, " vocab"]
    ends: Bool[Array, " vocab"]
    first: Int[Array, ""]
    last: Int[Array, ""]


class Filters(NamedTuple):
    """The part of `Sampling` that makes a program of its own; its other numbers are `Strength`."""

    greedy: bool
    top_k: int
    nucleus: bool


class Strength(NamedTuple):
    """Numbers of `Sampling` that one program takes in any size."""

    temperature: Float[Array, ""]
    top_p: Float[Array, ""]


def settings_of(sampling: Sampling) -> tuple[Filters, Strength]:
    """The static part of `sampling`, and the numbers that a program is given."""
    filters = Filters(sampling.temperature == 0, sampling.top_k, sampling.top_p < 1)
    return filters, Strength(jnp.float32(sampling.temperature), jnp.float32(sampling.top_p))


def choose(
    logits: Float[Array, "batch vocab"], keys: Key[Array, " batch"], filters: Filters, strength: Strength
) -> Int[Array, " batch"]:
    """The next token of each row by its own key; top-k is applied before top-p, both after the temperature."""
    if filters.greedy:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / strength.temperature
    if filters.top_k:
        kth = jax.lax.top_k(logits, min(filters.top_k, logits.shape[-1]))[0][:, -1:]
        logits = jnp.where(logits < kth, -jnp.inf, logits)
    if filters.nucleus:
        ordered = jnp.sort(logits, axis=-1, descending=True)
        shares = jax.nn.softmax(ordered, axis=-1)
        before = jnp.cumsum(shares, axis=-1) - shares
        least = jnp.min(jnp.where(before < strength.top_p, ordered, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return jax.vmap(jax.random.categorical)(keys, logits).astype(jnp.int32)


def row_keys(seed: Int[Array, ""], numbers: Int[Array, " batch"]) -> Key[Array, " batch"]:
    """A key for each row, from the seed and its prompt's number alone."""
    return jax.vmap(lambda number: jax.random.fold_in(jax.random.key(seed), number))(numbers)


@functools.partial(jax.jit, static_argnames=("net", "filters", "most"))
def generate(
    params: Any,
    prompts: Prompts,
    seed: Int[Array, ""],
    limits: Limits,
    strength: Strength,
    *,
    net: Transformer,
    filters: Filters,
    most: int,
) -> Int[Array, "batch most"]:
    """Up to `most` tokens after each prompt, what ends it included, then zeros; stops when every row has ended.

    Token n of a row is drawn by the row's key and n, so that it does not depend on other rows, nor on the padding.
    """
    apply = lambda method, *rest: net.apply({"params": params}, *rest, method=method)  # noqa: E731
    batch, length = prompts.tokens.shape
    memory = segments = None
    if prompts.encoder is not None:
        memory, segments = apply(Transformer.encode, prompts.encoder), prompts.encoder["encoder_segment_ids"]
    places = jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), (batch, length))
    cache = empty_cache(net.model, batch, length + most)
    logits, cache = apply(Transformer.decode, prompts.tokens, places, cache, segments, memory)
    logits = jnp.take_along_axis(logits, (prompts.lengths - 1)[:, None, None], axis=1)[:, 0]
    keys = row_keys(seed, prompts.numbers)

    class Progress(NamedTuple):
        number: Array
        logits: Array
        cache: Any
        written: Array
        ended: Array

    def step(now: Progress) -> Progress:
        scores = jnp.where(limits.allowed[None], now.logits, -jnp.inf)
        drawn = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, now.number)
        token = choose(scores, drawn, filters, strength)
        token = jnp.where((now.number == 0) & (limits.first >= 0), limits.first, token)
        token = jnp.where((now.number == most - 1) & (limits.last >= 0), limits.last, token)
        token = jnp.where(now.ended, 0, token)
        written = jax.lax.dynamic_update_index_in_dim(now.written, token, now.number, axis=1)
        place = (prompts.lengths + now.number)[:, None]
        logits, cache = apply(Transformer.decode, token[:, None], place, now.cache, segments)
        ended = now.ended | limits.ends[token]
        return Progress(now.number + 1, logits[:, 0], cache, written, ended)

    none = jnp.zeros((batch, most), jnp.int32), jnp.zeros((batch,), bool)
    start = Progress(jnp.zeros((), jnp.int32), logits, cache, *none)
    last = jax.lax.while_loop(lambda now: (now.number < most) & ~now.ended.all(), step, start)
    return shard(last.written, net.rules, None, None)  # whole on every process
