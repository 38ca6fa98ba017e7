"""Random Markov chains for searches: tables of log-probabilities, our search of them, and one by lists of Python."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from t5like.config.beams import BeamSearch
from t5like.infer.beams import Answers, Rule, divisors, result, rule_of, start, step

Chain = np.ndarray
"""[most, vocab, vocab]: log-probabilities of tokens at each place after each token; token 0 is before the first."""


def random_chains(seed: int, chains: int, most: int, vocab: int) -> np.ndarray:
    """[chains, most, vocab, vocab] in float32: flat and steep chains, with ends (token 1) that come early or late."""
    draw = np.random.default_rng(seed)
    scores = draw.uniform(0.5, 2.5, (chains, 1, 1, 1)) * draw.standard_normal((chains, most, vocab, vocab))
    scores[..., 1] += (
        draw.uniform(-1, 1.5, (chains, 1, 1)) + draw.uniform(-0.3, 0.3, (chains, 1, 1)) * np.arange(most)[:, None]
    )
    return (scores - np.log(np.exp(scores).sum(-1, keepdims=True))).astype(np.float32)


class Answer(NamedTuple):
    score: float
    tokens: tuple[int, ...]


def by_lists(search: BeamSearch, chain: Chain, ends: tuple[int, ...] = (1,)) -> list[Answer]:
    """The best answers of one chain by the published rules, with lists that grow and are sorted."""
    most, width, power = len(chain), search.num_beams, search.penalty
    live, found = [Answer(0.0, ())], []
    for length in range(1, most + 1):
        table = chain[length - 1].astype(float)
        longer = [Answer(a.score + p, (*a.tokens, v)) for a in live for v, p in enumerate(table[(0, *a.tokens)[-1]])]
        longer = sorted((a for a in longer if a.score > -np.inf), reverse=True)[: max(2, 1 + len(ends)) * width]
        ended = [a for a in longer if a.tokens[-1] in ends]
        live = [a for a in longer if a.tokens[-1] not in ends][:width]
        if search.beam_rule == "hf":
            new = [a for a in longer[:width] if a in ended or length == most]
            found += [Answer(a.score / length**power, a.tokens) for a in new]
        else:
            found += [Answer(a.score / ((5 + length) / 6) ** power, a.tokens) for a in ended]
        found = sorted(found, reverse=True)[:width]
        if not live or (len(found) == width and is_over(search, live[0].score, found[-1].score, length, most)):
            break
    return (found or (live if search.beam_rule == "gnmt" else []))[: search.num_return_sequences]


def is_over(search: BeamSearch, best: float, worst: float, length: int, most: int) -> bool:
    """True if a search with as many found answers as beams stops after `length` tokens."""
    power = search.penalty
    if search.beam_rule == "gnmt":  # T5X counts one more
        return worst > best / ((5 + most + 1) / 6) ** power
    bound = most if search.early_stopping == "never" and power > 0 else length
    return search.early_stopping == "true" or not best / bound**power > worst


@functools.partial(jax.jit, static_argnames="rule")
def searched(rule: Rule, tables: jax.Array, divided: jax.Array, ends: jax.Array) -> Answers:
    """Search chains [sources, most, vocab, vocab]; `ends` is true of the tokens that end an answer."""
    sources = len(tables)

    def go(now):
        beams, tokens = now
        log_probs = tables[jnp.arange(sources)[:, None], beams.number, tokens]
        beams, tokens, _ = step(rule, beams, log_probs, lambda tokens, parents: ends[tokens])
        return beams, tokens

    first = start(rule, sources, divided), jnp.zeros((sources, rule.width), jnp.int32)
    beams, _ = jax.lax.while_loop(lambda now: ~now[0].done.all(), go, first)
    return result(rule, beams)


def search_of(rule: str, early: str, beams: int = 3, penalty: float | None = None, answers: int | None = None):
    return BeamSearch(
        num_beams=beams,
        beam_rule=rule,
        early_stopping=early,
        length_penalty=penalty,
        num_return_sequences=answers or beams,
    )


def answers_of(search: BeamSearch, tables: np.ndarray, ends: tuple[int, ...] = (1,)) -> Answers:
    divided = jnp.asarray(divisors(search, tables.shape[1]))
    which = np.isin(np.arange(tables.shape[-1]), ends)
    return jax.device_get(searched(rule_of(search, len(ends)), tables, divided, which))


def lists(answers: Answers) -> list[list[tuple[int, ...]]]:
    """The tokens of each answer to each source; none where there is no answer."""
    return [
        [tuple(map(int, ids[:length])) for ids, length in zip(row, lengths, strict=True) if length]
        for row, lengths in zip(answers.tokens, answers.lengths, strict=True)
    ]
