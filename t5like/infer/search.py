"""The one loop of decoding, on the device: read the prompts, then choose a token of each row and append it.

Whatever answers, `generate`, predictions of tasks, evaluation while training and streams, runs this loop. A choice is a
pure function of the scores and of what is written so far: greedy and sampled rows are `sample.py`, beams `beams.py`,
what they may not write `filters.py`, `constraints.py` and `automaton.py`. Settings are data of the program, not part of
it, so that other ones compile nothing; part of it is the `Shape`.
"""

import functools
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from t5like.infer import beams
from t5like.infer.automaton import Automaton, follow, permitted, without_ends
from t5like.infer.beams import Answers, Beams, Rule
from t5like.infer.constraints import Sequences, completed
from t5like.infer.decode import DecodeState, Prompts, advance, prefill, reorder, take_parents
from t5like.infer.filters import History, process
from t5like.infer.sample import Sampler, choose, likeliest
from t5like.model.sharding import Params, shard
from t5like.model.stack import unrolled
from t5like.model.transformer import Transformer

Scores = Float[Array, "rows vocab"]
Arrays = TypeVar("Arrays")


class Limits(NamedTuple):
    """Constraints of all answers by the numbers of their tokens.

    Tokens that may be chosen and that end an answer; its first token, and the last of the longest answer, where these
    are forced, else -1; the least number of tokens before the end of each row; sequences that no answer has.
    """

    allowed: Bool[Array, " vocab"]
    ends: Bool[Array, " vocab"]
    first: Int[Array, ""]
    last: Int[Array, ""]
    least: Int[Array, " rows"]
    sequences: Sequences


class Asked(NamedTuple):
    """Settings of the choice of tokens; `divisors` are those of sums of beams."""

    sampler: Sampler
    limits: Limits
    divisors: Float[Array, " most"]
    automaton: Automaton | None = None


class Shape(NamedTuple):
    """The part of what is asked that a program is compiled for: most tokens of an answer, rows of each source, the rule
    by which these are beams, or None, and whether rows may be sampled, may have penalties, and have log-probabilities.
    """

    most: int
    rows: int = 1
    rule: Rule | None = None
    samples: bool = False
    penalises: bool = False
    scored: bool = False


class Written(NamedTuple):
    """Answers in the making of rows that are no beams: tokens, zeros after the end, with log-probabilities; lengths."""

    tokens: Int[Array, "rows most"]
    log_probs: Float[Array, "rows most"]
    lengths: Int[Array, " rows"]
    ended: Bool[Array, " rows"]


class Search(NamedTuple):
    """The loop between two tokens: `number` of each row are chosen, of which the last, `next`, is not appended yet.

    `history` has the tokens of prompts and answers, ending in the slot that the next one will have, and `spelt` the
    state of each row in the automaton.
    """

    number: Int[Array, ""]
    state: DecodeState
    next: Int[Array, " rows"]
    history: Int[Array, "rows slots"]
    spelt: Int[Array, " rows"]
    written: Written | Beams


@functools.partial(jax.jit, static_argnames=("net", "shape"))
def generate(params: Params, prompts: Prompts, asked: Asked, *, net: Transformer, shape: Shape) -> Answers:
    """The answers to each prompt, what ends them included; it stops when all rows have ended."""
    search = write(start(params, prompts, asked, net, shape), asked, shape)
    last = loop(unrolled(params, net.model), search, asked, net, shape)
    return finish(last, net, shape)


@functools.partial(jax.jit, static_argnames=("net", "shape"), donate_argnames=("search",))
def go_on(
    layers: Params,
    search: Search,
    asked: Asked,
    until: Int[Array, ""],
    mask: Bool[Array, "rows vocab"] | None = None,
    *,
    net: Transformer,
    shape: Shape,
) -> Search:
    """The search with `until` tokens of each row, or where all have ended; `layers` are those of `stack.unrolled`.

    `mask` has the tokens that the first of these may be.
    """
    appended = lambda: search._replace(state=advance(net, layers, search.state, search.next))  # noqa: E731
    search = jax.lax.cond(search.number == 0, lambda: search, appended)
    search = loop(layers, write(search, asked, shape, mask), asked, net, shape, until)
    return search._replace(next=_whole(search.next, net), written=_whole(search.written, net))


@functools.partial(jax.jit, static_argnames=("net", "shape"))
def start(params: Params, prompts: Prompts, asked: Asked, net: Transformer, shape: Shape) -> Search:
    """The search for answers to each prompt, without a token as yet."""
    sources, length = prompts.tokens.shape
    most, rows = shape.most, sources * shape.rows
    state = prefill(net, params, prompts, length + max(most - 1, 1), shape.rows)
    history = jnp.pad(jnp.repeat(prompts.tokens, shape.rows, axis=0), ((0, 0), (0, most)))
    none = jnp.zeros((rows,), jnp.int32)
    if shape.rule is None:
        tokens, scores = (jnp.zeros((rows, most), dtype) for dtype in (jnp.int32, jnp.float32))
        written = Written(tokens, scores, none, jnp.zeros((rows,), bool))
    else:
        written = beams.start(shape.rule, sources, asked.divisors)
    spelt = none if asked.automaton is None else jnp.broadcast_to(asked.automaton.start, (rows,))
    return Search(jnp.int32(0), state, none, history, spelt, written)


def loop(
    layers: Params, search: Search, asked: Asked, net: Transformer, shape: Shape, until: Int[Array, ""] | None = None
) -> Search:
    """As `go_on`, within a program, for a search whose last tokens are not appended yet."""
    end = shape.most if until is None else jnp.minimum(until, shape.most)

    def goes_on(now: Search) -> Bool[Array, ""]:
        ended = now.written.done if isinstance(now.written, Beams) else now.written.ended
        return (now.number < end) & ~ended.all()

    def step(now: Search) -> Search:
        return write(now._replace(state=advance(net, layers, now.state, now.next)), asked, shape)

    return jax.lax.while_loop(goes_on, step, search)


def write(search: Search, asked: Asked, shape: Shape, mask: Bool[Array, "rows vocab"] | None = None) -> Search:
    """Choose the next token of each row."""
    logits = search.state.logits
    if isinstance(search.written, Beams):
        assert shape.rule is not None
        scores = _processed(jax.nn.log_softmax(logits), search, asked, shape, mask)
        return _search(search, search.written, scores, asked, shape)
    old, scores = search.written, _processed(logits, search, asked, shape, mask)
    tokens = _chosen(scores, search.number, asked.sampler) if shape.samples else likeliest(scores)
    tokens = jnp.where(old.ended, 0, tokens)
    put = functools.partial(jax.lax.dynamic_update_index_in_dim, index=search.number, axis=1)
    spelt, over = _spelt(search.spelt, tokens, asked)
    log_probs, lengths = old.log_probs, old.lengths + (~old.ended).astype(jnp.int32)
    if shape.scored:
        log_probs = put(log_probs, jnp.where(old.ended, 0, _log_probs(logits, tokens)))
    written = Written(put(old.tokens, tokens), log_probs, lengths, old.ended | over)
    history = jax.lax.dynamic_update_index_in_dim(search.history, tokens, search.state.slot, axis=1)
    return Search(search.number + 1, search.state, tokens, history, spelt, written)


def _chosen(scores: Scores, number: Int[Array, ""], sampler: Sampler) -> Int[Array, " rows"]:
    """Token `number` of each row. It is drawn by the row's key and the number: neither other rows nor the padding have
    a part in it."""
    return choose(scores, jax.vmap(jax.random.fold_in, in_axes=(0, None))(sampler.keys(), number), sampler)


def _search(search: Search, old: Beams, scores: Scores, asked: Asked, shape: Shape) -> Search:
    """Choose the next token of each beam, and give each what the one that it goes on from has."""
    rule, spelt = shape.rule, search.spelt.reshape(-1, shape.rows)
    assert rule is not None

    def ends(tokens: Int[Array, "sources c"], parents: Int[Array, "sources c"]) -> Bool[Array, "sources c"]:
        return _spelt(jnp.take_along_axis(spelt, parents, axis=1), tokens, asked)[1]

    by_source = scores.reshape(-1, shape.rows, scores.shape[1])
    written, tokens, parents = beams.step(rule, old, by_source, ends)
    tokens = tokens.reshape(-1)
    history = jax.lax.dynamic_update_index_in_dim(
        take_parents(search.history, parents), tokens, search.state.slot, axis=1
    )
    spelt = _spelt(take_parents(search.spelt, parents), tokens, asked)[0]
    return Search(search.number + 1, reorder(search.state, parents), tokens, history, spelt, written)


def _processed(
    scores: Scores, search: Search, asked: Asked, shape: Shape, mask: Bool[Array, "rows vocab"] | None
) -> Scores:
    """The scores of tokens that may come next, -inf of the others, in transformers' order."""
    limits, number, vocab = asked.limits, search.number, scores.shape[1]
    starts = jnp.repeat(search.state.starts, len(scores) // len(search.state.starts))
    history = History(search.history, starts, search.state.slot)
    scores = process(scores, history, asked.sampler.penalties) if shape.penalises else scores
    allowed = limits.allowed[None] & ~completed(limits.sequences, *history, vocab)
    if asked.automaton is not None:
        allowed &= permitted(asked.automaton, search.spelt, shape.most - number)
    if mask is not None:
        allowed &= mask
    allowed = without_ends(allowed, limits.ends, number < limits.least)
    scores = jnp.where(allowed, scores, -jnp.inf)
    forced = jnp.where(number == 0, limits.first, jnp.where(number == shape.most - 1, limits.last, -1))
    # A forced token counts as certain.
    only = jnp.where(jnp.arange(vocab, dtype=jnp.int32) == forced, jnp.float32(0), -jnp.inf)
    return jnp.where(forced >= 0, only[None], scores)


def _spelt(
    states: Int[Array, "*rows"], tokens: Int[Array, "*rows"], asked: Asked
) -> tuple[Int[Array, "*rows"], Bool[Array, "*rows"]]:
    """The automaton's states after the tokens, and true where these end the answer."""
    ended = asked.limits.ends[tokens]
    if asked.automaton is None:
        return states, ended
    states = follow(asked.automaton, states, tokens)
    return states, ended | asked.automaton.stops[states]


def _log_probs(logits: Scores, tokens: Int[Array, " rows"]) -> Float[Array, " rows"]:
    """The model's own log-probabilities of the tokens, before anything is forbidden or sampled."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, None], axis=1)[:, 0]


@functools.partial(jax.jit, static_argnames=("net", "shape"))
def finish(search: Search, net: Transformer, shape: Shape) -> Answers:
    """The answers of a search that is over, whole on every process."""
    written = search.written
    if isinstance(written, Beams):
        assert shape.rule is not None
        found = beams.result(shape.rule, written)
    else:
        split = lambda x: x.reshape(-1, shape.rows, *x.shape[1:])  # noqa: E731
        tokens, log_probs = split(written.tokens), split(written.log_probs)
        found = Answers(tokens, log_probs, split(written.lengths), log_probs.sum(axis=-1))
    return _whole(found, net)


def _whole(arrays: Arrays, net: Transformer) -> Arrays:
    """The arrays, split over no devices, so that every process can read them."""
    return jax.tree.map(lambda x: shard(x, net.rules, *[None] * x.ndim), arrays)
