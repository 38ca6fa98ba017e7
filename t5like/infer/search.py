"""The one loop of decoding, on the device: read the prompts, then choose a token of each row and append it.

Whatever answers, `generate`, predictions of tasks, evaluation while training and streams, runs this loop. How a token
is chosen is a pure function of the scores and of what is written so far; its settings are data of the program, not part
of it, so that other ones compile nothing.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from t5like.infer.decode import DecodeState, Prompts, advance, prefill
from t5like.infer.sample import Sampler, choose
from t5like.model.sharding import Params, shard
from t5like.model.stack import unrolled
from t5like.model.transformer import Transformer


class Limits(NamedTuple):
    """Constraints of all answers: tokens that may be chosen and that end one, and the first and the last token of the
    longest answer where these are forced, else -1."""

    allowed: Bool[Array, " vocab"]
    ends: Bool[Array, " vocab"]
    first: Int[Array, ""]
    last: Int[Array, ""]


class Written(NamedTuple):
    """Answers in the making: tokens, zeros after the end, and the model's log-probability of each."""

    tokens: Int[Array, "rows most"]
    scores: Float[Array, "rows most"]
    ended: Bool[Array, " rows"]


class Search(NamedTuple):
    """The loop between two tokens: `number` of each row are chosen, of which the last, `next`, is not appended yet."""

    number: Int[Array, ""]
    state: DecodeState
    next: Int[Array, " rows"]
    written: Written


class Asked(NamedTuple):
    """Settings of the choice of tokens."""

    sampler: Sampler
    limits: Limits


@functools.partial(jax.jit, static_argnames=("net", "most"))
def generate(params: Params, prompts: Prompts, asked: Asked, *, net: Transformer, most: int) -> Written:
    """Up to `most` tokens after each prompt, what ends it included, then zeros; stops when every row has ended."""
    search = start(params, prompts, asked, net, most)
    last = loop(unrolled(params, net.model), search, asked, net, most)
    return jax.tree.map(lambda x: shard(x, net.rules, *[None] * x.ndim), last.written)  # whole on every process


@functools.partial(jax.jit, static_argnames=("net", "most"))
def begin(params: Params, prompts: Prompts, asked: Asked, *, net: Transformer, most: int) -> Search:
    """The search for up to `most` tokens after each prompt, with the first of them."""
    return start(params, prompts, asked, net, most)


@functools.partial(jax.jit, static_argnames=("net",), donate_argnames=("search",))
def go_on(layers: Params, search: Search, asked: Asked, until: Int[Array, ""], *, net: Transformer) -> Search:
    """The search with `until` tokens of each row, or where all have ended; `layers` are those of `stack.unrolled`."""
    return loop(layers, search, asked, net, until)


def start(params: Params, prompts: Prompts, asked: Asked, net: Transformer, most: int) -> Search:
    """As `begin`, within a program."""
    rows, length = prompts.tokens.shape
    state = prefill(net, params, prompts, length + max(most - 1, 1))
    written = Written(
        jnp.zeros((rows, most), jnp.int32), jnp.zeros((rows, most), jnp.float32), jnp.zeros((rows,), bool)
    )
    return write(Search(jnp.int32(0), state, jnp.zeros((rows,), jnp.int32), written), asked)


def loop(layers: Params, search: Search, asked: Asked, net: Transformer, until: Int[Array, ""] | int) -> Search:
    """As `go_on`, within a program."""

    def step(now: Search) -> Search:
        return write(now._replace(state=advance(net, layers, now.state, now.next)), asked)

    most = search.written.tokens.shape[1]
    until = jnp.minimum(until, most)
    return jax.lax.while_loop(lambda now: (now.number < until) & ~now.written.ended.all(), step, search)


def write(search: Search, asked: Asked) -> Search:
    """Choose the next token of each row.

    Token n of a row is drawn by the row's key and n, so that it does not depend on other rows, nor on the padding.
    """
    number, written, limits = search.number, search.written, asked.limits
    most = written.tokens.shape[1]
    scores = jnp.where(limits.allowed[None], search.state.logits, -jnp.inf)
    keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(asked.sampler.keys(), number)
    token = choose(scores, keys, asked.sampler)
    token = jnp.where((number == 0) & (limits.first >= 0), limits.first, token)
    token = jnp.where((number == most - 1) & (limits.last >= 0), limits.last, token)
    token = jnp.where(written.ended, 0, token)
    put = functools.partial(jax.lax.dynamic_update_index_in_dim, index=number, axis=1)
    likelihood = jnp.take_along_axis(jax.nn.log_softmax(search.state.logits), token[:, None], axis=1)[:, 0]
    return Search(
        number + 1,
        search.state,
        token,
        Written(
            put(written.tokens, token),
            put(written.scores, jnp.where(written.ended, 0, likelihood)),
            written.ended | limits.ends[token],
        ),
    )
