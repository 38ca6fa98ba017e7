"""Draws follow the filtered distribution exactly, and each row's draw depends on its own scores, settings and key."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from test_filters import naive, probabilities

from t5like.config.sampling import Sampling
from t5like.infer.filters import BLOCK
from t5like.infer.sample import OF_COPY, OF_PROMPT, Sampler, choose, draw, likeliest, make_sampler

SETTINGS = (
    *[dict(temperature=t) for t in (0.5, 1.0, 2.0)],
    *[dict(temperature=1.0, **{name: x}) for name, x in dict(top_k=9, top_p=0.8, min_p=0.1, typical_p=0.7).items()],
    dict(temperature=1.5, top_k=40, top_p=0.9, min_p=0.01, typical_p=0.9),
)


def joined(samplings: list[dict[str, Any]], copies: int) -> Sampler:
    """A sampler of rows with different settings, `copies` rows of each."""
    each = [make_sampler(Sampling(**sampling), [number], 9, copies) for number, sampling in enumerate(samplings)]
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *each)


def test_draws_follow_the_exact_distribution_of_each_filter():
    """By chi-squared, over 200 tokens, which are two blocks of a draw."""
    copies, row = 2000, np.random.default_rng(0).normal(size=200).astype(np.float32) * 2.5
    row[::7] = -np.inf
    sampler = joined([*SETTINGS], copies)
    scores = jnp.broadcast_to(jnp.asarray(row)[None], (copies * len(SETTINGS), 200))
    drawn = np.array(jax.jit(lambda x, s: choose(x, s.keys(), s))(scores, sampler)).reshape(len(SETTINGS), copies)
    for settings, tokens in zip(SETTINGS, drawn, strict=True):
        expected = copies * probabilities(naive(row, settings))
        counts = np.bincount(tokens, minlength=200)
        assert not counts[expected == 0].any()
        # Tokens that are expected less than 10 times are counted together.
        rare = expected < 10
        found, due = (np.append(x[~rare], x[rare].sum()) for x in (counts, expected))
        found, due = found[due > 0], due[due > 0]
        assert scipy.stats.chisquare(found, due * found.sum() / due.sum()).pvalue > 1e-3, settings


def test_a_row_alone_draws_what_it_draws_among_64():
    """Over a vocabulary of which a flat row's likeliest 256 tokens are too few, and with ties of bfloat16."""
    samplings: list[dict[str, Any]] = [{}, *SETTINGS] * 8
    scores = jax.random.normal(jax.random.key(3), (72, 2003)) * jnp.linspace(0.3, 8, 72)[:, None]
    scores = jnp.where(jnp.arange(72)[:, None] % 2 == 0, scores.astype(jnp.bfloat16).astype(jnp.float32), scores)[:64]
    sampler = joined(samplings[:64], 1)
    keys = sampler.keys()
    together = jax.jit(choose)(scores, keys, sampler)
    one = lambda row: choose(*jax.tree.map(lambda x: x[None], row))[0]  # noqa: E731
    alone = jax.jit(lambda *rows: jax.lax.map(one, rows))(scores, keys, sampler)
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(together[::9], np.argmax(scores, axis=-1)[::9])
    assert len(set(np.array(together).tolist())) > 40


def test_a_greedy_batch_neither_filters_nor_draws():
    """The program's one branch of two that a batch without sampled rows takes only passes on the likeliest tokens."""
    sampler = make_sampler(Sampling(), [0])
    program = jax.make_jaxpr(choose)(jnp.zeros((1, 4), jnp.float32), sampler.keys(), sampler)
    greedy, sampled = next(e for e in program.eqns if e.primitive.name == "cond").params["branches"]
    assert [e.primitive.name for e in program.eqns][-1] == "cond"
    assert not any(name in str(e) for e in program.eqns[:-1] for name in ("sort", "top_k", "threefry", "cumsum"))
    assert not greedy.eqns
    assert "cumsum" in str(sampled)
    assert " sort[" not in str(sampled)


def test_the_likeliest_token_is_the_first_of_equal_ones():
    scores = jnp.asarray(np.random.default_rng(0).integers(-3, 3, (50, 9)), jnp.float32)
    np.testing.assert_array_equal(likeliest(scores), np.argmax(scores, axis=-1))


def test_equal_tokens_of_a_huge_vocabulary_are_drawn_equally_often():
    """Neither a part of the 250,112 nor a place within the blocks of a draw is preferred, nor one with the other."""
    keys = jax.random.split(jax.random.key(0), 4096)
    one = lambda key: draw(jnp.zeros((1, 250_112), jnp.float32), key[None])[0]  # noqa: E731
    drawn = np.array(jax.jit(lambda keys: jax.lax.map(one, keys))(keys))
    for part in (drawn // (250_112 // 64), drawn % BLOCK):
        assert scipy.stats.chisquare(np.bincount(part)).pvalue > 1e-3
    assert abs(np.corrcoef(drawn // BLOCK, drawn % BLOCK)[0, 1]) < 0.06


def test_rows_have_the_seeds_of_their_prompt_and_copy():
    sampler = make_sampler(Sampling(temperature=1.0), [0, 3], seed=5, copies=2)
    assert sampler.seeds.tolist() == [
        (5 + number * OF_PROMPT + copy * OF_COPY) % 2**31 for number in (0, 3) for copy in (0, 1)
    ]
    # Whichever row, the answer to its prompt alone with the row's seed has its key.
    alone = [make_sampler(Sampling(temperature=1.0), [0], seed).keys()[0] for seed in sampler.seeds.tolist()]
    keys = sampler.keys()
    np.testing.assert_array_equal(jax.random.key_data(keys), [jax.random.key_data(key) for key in alone])


def test_neither_copies_nor_prompts_nor_runs_of_near_seeds_share_a_seed():
    seeds = [make_sampler(Sampling(), range(1000), seed, copies=32).seeds for seed in range(8)]
    assert len(np.unique(np.concatenate(seeds))) >= 8 * 32_000 - 1


@pytest.mark.parametrize("setting", [dict(repetition_penalty=1.2), dict(no_repeat_ngram_size=2)])
def test_penalties_are_for_greedy_answers_too(setting):
    assert make_sampler(Sampling(**setting), [0]).warpers.temperature.tolist() == [0]
