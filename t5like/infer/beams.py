"""Beam search as pure functions of log-probabilities: `start`, then `step` for each token, then `result`.

A source has `beams` live answers, which go on, and as many found ones, which have ended. A step considers the best
continuations of all live answers together, a few times as many as beams, the candidates; both published rules differ
in which of those that end are found, in scores, and in when a source is done (`config/beams.py`):

- hf, transformers 5's `_beam_search`: found are those among the best `beams` candidates, at the last token also
  unfinished ones; score = sum / length ** penalty; `early_stopping` says how a live answer is compared.
- gnmt, T5X's `beam_search` (Wu et al. 2016): found are all candidates that end; score = sum / ((5 + length) / 6) **
  penalty; done if no live answer could win at any length. Unfinished answers count only if none has ended.

Lengths count tokens of the answer with its end. Sources are independent: one that is done changes no more, so that it
has the same result alone and in any batch. (T5X goes on with it, which changes nothing as its bound is exact.)
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from t5like.config.beams import BeamSearch

PerBeam = Int[Array, "sources beams"]
Scores = Float[Array, "sources beams"]
Ends = Callable[[Int[Array, "sources candidates"], Int[Array, "sources candidates"]], Bool[Array, "sources candidates"]]
"""From candidates' tokens and the beams that they continue to which of them end."""

BLOCK = 128
"""Scores of which the largest is found first: a TPU's lanes, and quick to read on a CPU."""


class Rule(NamedTuple):
    """The part of a search that a program is compiled for; the length penalty is data, see `divisors`."""

    name: str
    early_stopping: str
    width: int
    """Beams."""
    candidates: int
    answers: int


class Found(NamedTuple):
    """The best answers that have ended, the best first; a score of -inf where there is none yet.

    Their tokens are those of live answer `parents` before token number `lengths - 1`, and then `tokens`.
    """

    scores: Scores
    lengths: PerBeam
    parents: PerBeam
    tokens: PerBeam
    log_probs: Scores


class Trace(NamedTuple):
    """The last token of each live answer after each step, the beam that it continued, and its log-probability."""

    tokens: Int[Array, "most sources beams"]
    parents: Int[Array, "most sources beams"]
    log_probs: Float[Array, "most sources beams"]


class Beams(NamedTuple):
    """A search in progress: tokens so far, sums of log-probabilities of live answers, the best first, and the rest.

    `divisors` are the penalties of answers of 1 to `most` tokens; `done` are the sources whose result is certain.
    """

    number: Int[Array, ""]
    divisors: Float[Array, " most"]
    sums: Scores
    trace: Trace
    found: Found
    done: Bool[Array, " sources"]


class Answers(NamedTuple):
    """The best answers to each source, the best first: tokens, zeros after the end, with their log-probabilities.

    Where fewer have ended than are asked for, the rest has length 0 and the score -inf.
    """

    tokens: Int[Array, "sources answers most"]
    log_probs: Float[Array, "sources answers most"]
    lengths: Int[Array, "sources answers"]
    scores: Float[Array, "sources answers"]


def rule_of(search: BeamSearch, end_tokens: int = 1) -> Rule:
    """The rule of a search in which `end_tokens` of the vocabulary end an answer.

    There are as many candidates as leave a beam's width that go on, even if all ends of all beams are among them.
    """
    width = search.num_beams
    candidates = max(2, 1 + end_tokens) * width
    return Rule(search.beam_rule, search.early_stopping, width, candidates, search.num_return_sequences)


def divisors(search: BeamSearch, most: int) -> Float[np.ndarray, " most"]:
    """The numbers by which sums of log-probabilities of 1 to `most` tokens are divided."""
    lengths = np.arange(1, most + 1, dtype=np.float64)
    return ((lengths if search.beam_rule == "hf" else (lengths + 5) / 6) ** search.penalty).astype(np.float32)


def start(rule: Rule, sources: int, divisors: Float[Array, " most"]) -> Beams:
    """A search without tokens: one live answer to each source, which is empty."""
    whole, score = (jnp.zeros((sources, rule.width), dtype) for dtype in (jnp.int32, jnp.float32))
    traced = (jnp.zeros((len(divisors), *x.shape), x.dtype) for x in (whole, whole, score))
    sums = score.at[:, 1:].set(-jnp.inf)
    found = Found(score - jnp.inf, whole, whole, whole, score)
    return Beams(jnp.zeros((), jnp.int32), divisors, sums, Trace(*traced), found, jnp.zeros((sources,), bool))


def step(
    rule: Rule, beams: Beams, log_probs: Float[Array, "sources beams vocab"], ends: Ends
) -> tuple[Beams, PerBeam, PerBeam]:
    """Choose the next token of each live answer.

    Args:
      log_probs: those of the next token of each live answer, -inf where it is not allowed.
      ends: says which candidates end.

    Returns:
      The search, the last tokens of the new live answers, and the beams that they continue, by which a cache is to be
      reordered.
    """
    _, width, vocab = log_probs.shape
    last = beams.number == len(beams.divisors) - 1
    totals = (beams.sums[:, :, None] + log_probs).reshape(-1, width * vocab)
    totals, chosen = top_k(totals, rule.candidates)
    own = jnp.take_along_axis(log_probs.reshape(-1, width * vocab), chosen, axis=1)
    parents, tokens = chosen // vocab, chosen % vocab
    ended = ends(tokens, parents)

    countable = (ended | last) & (jnp.arange(rule.candidates) < width)[None] if rule.name == "hf" else ended
    divisor = beams.divisors[beams.number]
    scores = jnp.where(countable & ~beams.done[:, None], totals / divisor, -jnp.inf)
    lengths = jnp.full_like(tokens, beams.number + 1)
    found = _best(beams.found, Found(scores, lengths, parents, tokens, own))

    sums, live = jax.lax.top_k(jnp.where(ended, -jnp.inf, totals), width)
    tokens, parents, own = (jnp.take_along_axis(x, live, axis=1) for x in (tokens, parents, own))
    trace = Trace(
        *(old.at[beams.number].set(new) for old, new in zip(beams.trace, (tokens, parents, own), strict=True))
    )

    over = _certain(rule, sums[:, 0], found.scores[:, -1], divisor, beams.divisors[-1])
    return Beams(beams.number + 1, beams.divisors, sums, trace, found, beams.done | over | last), tokens, parents


def _best(old: Found, new: Found) -> Found:
    """The best of those found before and now; among equals the earlier."""
    both = Found(*(jnp.concatenate(pair, axis=1) for pair in zip(old, new, strict=True)))
    _, kept = jax.lax.top_k(both.scores, old.scores.shape[1])
    return Found(*(jnp.take_along_axis(x, kept, axis=1) for x in both))


def _certain(
    rule: Rule,
    best: Float[Array, " sources"],
    worst: Float[Array, " sources"],
    now: Float[Array, ""],
    longest: Float[Array, ""],
) -> Bool[Array, " sources"]:
    """True where the rule goes no further.

    `best` are the largest sums of live answers, `worst` the lowest scores of found ones, -inf where there are fewer
    than beams; `now` and `longest` are the divisors of the present length and of the longest.
    """
    if rule.name == "hf" and rule.early_stopping == "true":
        certain = worst > -jnp.inf
    else:
        # Sums are negative: the larger the divisor, the better the score; with a negative penalty that is the present.
        present = rule.name == "hf" and rule.early_stopping == "false"
        certain = worst >= best / (now if present else jnp.maximum(now, longest))
    return certain | (best == -jnp.inf)


def result(rule: Rule, beams: Beams) -> Answers:
    """The best answers to each source."""
    found = beams.found
    if rule.name == "gnmt":
        ended = (found.scores > -jnp.inf).any(axis=1, keepdims=True)
        final = Trace(*(x[beams.number - 1] for x in beams.trace))
        lengths = jnp.full_like(found.lengths, beams.number)
        live = Found(beams.sums, lengths, final.parents, final.tokens, final.log_probs)
        found = Found(*(jnp.where(ended, x, y) for x, y in zip(found, live, strict=True)))
    found = Found(*(x[:, : rule.answers] for x in found))
    found = found._replace(lengths=jnp.where(found.scores > -jnp.inf, found.lengths, 0))
    tokens, log_probs = _walk_back(beams.trace, found)
    return Answers(tokens, log_probs, found.lengths, found.scores)


def _walk_back(
    trace: Trace, found: Found
) -> tuple[Int[Array, "sources answers most"], Float[Array, "sources answers most"]]:
    """Tokens and log-probabilities of answers, from the last to the first: each names the beam of the one before."""

    def back(
        beam: Int[Array, "sources answers"], at: tuple[Int[Array, ""], Trace]
    ) -> tuple[Int[Array, "sources answers"], tuple[Array, Array]]:
        place, then = at
        last, before = place == found.lengths - 1, place < found.lengths - 1
        taken = Trace(*(jnp.take_along_axis(x, beam, axis=1) for x in then))
        token = jnp.where(last, found.tokens, jnp.where(before, taken.tokens, 0))
        log_prob = jnp.where(last, found.log_probs, jnp.where(before, taken.log_probs, 0))
        return jnp.where(last, found.parents, jnp.where(before, taken.parents, 0)), (token, log_prob)

    places = jnp.arange(len(trace.tokens), dtype=jnp.int32)
    _, (tokens, log_probs) = jax.lax.scan(back, jnp.zeros_like(found.tokens), (places, trace), reverse=True)
    # [most, sources, answers] -> [sources, answers, most]
    return jnp.moveaxis(tokens, 0, -1), jnp.moveaxis(log_probs, 0, -1)


def top_k(scores: Float[Array, "rows size"], k: int) -> tuple[Float[Array, "rows best"], Int[Array, "rows best"]]:
    """`jax.lax.top_k`, the first of equals included, without sorting all: the k largest are in the k blocks whose own
    largest are the largest."""
    rows, size = scores.shape
    if size <= 4 * k * BLOCK:
        values, chosen = jax.lax.top_k(scores, k)
        return values, chosen
    blocks = jnp.pad(scores, ((0, 0), (0, -size % BLOCK)), constant_values=-jnp.inf).reshape(rows, -1, BLOCK)
    _, kept = jax.lax.top_k(blocks.max(axis=-1), k)
    kept = jnp.sort(kept, axis=-1)  # in order, so that the first of equals stays the first
    within = jnp.take_along_axis(blocks, kept[:, :, None], axis=1).reshape(rows, k * BLOCK)
    values, chosen = jax.lax.top_k(within, k)
    return values, jnp.take_along_axis(kept, chosen // BLOCK, axis=1) * BLOCK + chosen % BLOCK
