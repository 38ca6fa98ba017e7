"""Tokens, one after the other: prefill the cache with the prompt, then one step per token in a loop on the device."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from t5like.config.options import Sampling
from t5like.model.sharding import shard
from t5like.model.transformer import Transformer, empty_cache


class Prompts(NamedTuple):
    """Prompts of a batch.

    `tokens` and `lengths` are what the decoder is given first, padded at the end; `encoder` holds the encoder's
    features for a model that has one.
    """

    tokens: Array
    lengths: Array
    encoder: dict[str, Array] | None


def choose(logits: Float[Array, "batch vocab"], key: Array, sampling: Sampling) -> Int[Array, " batch"]:
    """The next token of each row; top-k is applied before top-p, both after the temperature."""
    if sampling.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / sampling.temperature
    if sampling.top_k:
        kth = jax.lax.top_k(logits, min(sampling.top_k, logits.shape[-1]))[0][:, -1:]
        logits = jnp.where(logits < kth, -jnp.inf, logits)
    if sampling.top_p < 1:
        ordered = jnp.sort(logits, axis=-1, descending=True)
        shares = jax.nn.softmax(ordered, axis=-1)
        before = jnp.cumsum(shares, axis=-1) - shares
        least = jnp.min(jnp.where(before < sampling.top_p, ordered, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return jax.random.categorical(key, logits, axis=-1).astype(jnp.int32)


@functools.partial(jax.jit, static_argnames=("net", "sampling", "most", "eos"))
def generate(
    params: Any,
    prompts: Prompts,
    seed: Int[Array, ""],
    allowed: Bool[Array, " vocab"],
    *,
    net: Transformer,
    sampling: Sampling,
    most: int,
    eos: int,
) -> Int[Array, "batch most"]:
    """Up to `most` tokens after each prompt, EOS included, then zeros; stops when every row has ended.

    Tokens that are not `allowed`, such as rows of the embedding that no piece has, are never chosen.
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
    key = jax.random.key(seed)

    class Progress(NamedTuple):
        number: Array
        logits: Array
        cache: Any
        written: Array
        ended: Array

    def step(now: Progress) -> Progress:
        scores = jnp.where(allowed[None], now.logits, -jnp.inf)
        token = choose(scores, jax.random.fold_in(key, now.number), sampling)
        token = jnp.where(now.ended, 0, token)
        written = jax.lax.dynamic_update_index_in_dim(now.written, token, now.number, axis=1)
        place = (prompts.lengths + now.number)[:, None]
        logits, cache = apply(Transformer.decode, token[:, None], place, now.cache, segments)
        return Progress(now.number + 1, logits[:, 0], cache, written, now.ended | (token == eos))

    none = jnp.zeros((batch, most), jnp.int32), jnp.zeros((batch,), bool)
    start = Progress(jnp.zeros((), jnp.int32), logits, cache, *none)
    last = jax.lax.while_loop(lambda now: (now.number < most) & ~now.ended.all(), step, start)
    return shard(last.written, net.rules, None, None)  # whole on every process
