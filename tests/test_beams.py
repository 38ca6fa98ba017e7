"""Beam search of chains by both published rules: against lists and exhaustive search, and mistakes as sentences."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chains import answers_of, by_lists, lists, random_chains, search_of
from settings import sentence

from t5like.config.beams import BeamSearch, require_choice
from t5like.config.sampling import Sampling
from t5like.infer.beams import divisors, result, rule_of, start, step, top_k

VALUES = [("hf", "false"), ("hf", "true"), ("hf", "never"), ("gnmt", "false")]
"""Rules with their values of early_stopping."""
PENALTIES = {"hf": (-0.7, 0.0, 1.0, 2.0), "gnmt": (0.0, 0.6, 2.0)}


def compare(search: BeamSearch, tables: np.ndarray, ends: tuple[int, ...] = (1,)) -> list[list[tuple[int, ...]]]:
    """Compare with the search by lists, and return the tokens."""
    ours = answers_of(search, tables, ends)
    expected = [by_lists(search, table, ends) for table in tables]
    assert lists(ours) == [[answer.tokens for answer in row] for row in expected]
    for scores, row in zip(ours.scores, expected, strict=True):
        np.testing.assert_allclose(scores[: len(row)], [answer.score for answer in row], rtol=1e-4, atol=1e-5)
        assert np.isneginf(scores[len(row) :]).all()
    return lists(ours)


def test_the_likeliest_answer_is_not_the_greedy_one():
    # From 0 the likeliest is 2 (.6), after which nothing is likely; 3 (.4) ends for certain.
    table = np.full((6, 6), 1e-9)
    table[0, [2, 3]], table[2, [1, 2, 3]], table[3, 1] = (0.6, 0.4), (0.4, 0.3, 0.3), 1.0
    chain = np.log(np.broadcast_to(table, (1, 8, 6, 6))).astype(np.float32)
    for rule, early in VALUES:
        found = answers_of(search_of(rule, early, penalty=0.0), chain)
        assert lists(found)[0][:2] == [(3, 1), (2, 1)]
        np.testing.assert_allclose(np.exp(found.scores[0, :2]), [0.4, 0.24], rtol=1e-5)
        np.testing.assert_allclose(np.exp(found.log_probs[0, :2, :3]), [[0.4, 1, 1], [0.6, 0.4, 1]], rtol=1e-5)
        assert (found.tokens[0, :2, 2:] == 0).all()


@pytest.mark.parametrize(("rule", "early"), VALUES)
def test_each_rule_finds_what_lists_find(rule, early):
    chains = random_chains(1, 256, 8, 6)
    for penalty in PENALTIES[rule]:
        assert len(compare(search_of(rule, early, penalty=penalty), chains)) == 256


def test_rules_and_values_differ():
    chains = random_chains(1, 256, 8, 6)
    for penalty in (1.0, 2.0):
        found = {value: compare(search_of(*value, penalty=penalty), chains) for value in VALUES}
        for one, other in itertools.combinations(VALUES, 2):
            differ = sum(a != b for a, b in zip(found[one], found[other], strict=True))
            assert differ >= 60, (penalty, one, other, differ)


@pytest.mark.parametrize(("rule", "early"), VALUES[2:])
def test_several_tokens_end(rule, early):
    assert len(compare(search_of(rule, early), random_chains(2, 256, 8, 6), ends=(1, 4))) == 256


@pytest.mark.parametrize(("rule", "early"), [("hf", "never"), ("gnmt", "false")])
def test_as_many_beams_as_answers_find_the_best_of_all(rule, early):
    chains = random_chains(3, 20, 4, 3)
    search = search_of(rule, early, beams=16, penalty=0.8, answers=5)
    found = answers_of(search, chains)
    for chain, ours, scores in zip(chains, lists(found), found.scores, strict=True):
        ended = {}
        for tokens in itertools.chain(*(itertools.product(range(3), repeat=n) for n in range(1, 5))):
            if 1 not in tokens[:-1] and (tokens[-1] == 1 or (rule == "hf" and len(tokens) == 4)):
                total = sum(chain[n][before, now] for n, (before, now) in enumerate(itertools.pairwise((0, *tokens))))
                ended[tokens] = total / divisors(search, 4)[len(tokens) - 1]
        best = sorted(ended, key=ended.__getitem__, reverse=True)[:5]
        assert ours == best[: len(ours)] and len(ours) == min(5, len(ended))
        np.testing.assert_allclose(scores[: len(ours)], [ended[tokens] for tokens in ours], rtol=1e-4)


def test_a_source_alone_is_the_same_as_among_256():
    chains = random_chains(4, 256, 8, 6)
    for rule, early in VALUES:
        search = search_of(rule, early, penalty=1.0)
        together = answers_of(search, chains)
        for number in (*range(20), 255):
            alone = answers_of(search, chains[number : number + 1])
            for one, all_of_them in zip(alone, together, strict=True):  # scores but for how XLA divides one or many
                np.testing.assert_allclose(one[0], all_of_them[number], rtol=0 if one.dtype == np.int32 else 3e-7)


def test_tokens_that_are_not_allowed_are_never_chosen():
    chains = random_chains(5, 256, 8, 6)
    chains[:, 0, :, 3:] = chains[:, 1:, :, 2] = chains[:, :2, :, 1] = -np.inf  # less is allowed than there are beams
    for rule, early in VALUES:
        found = compare(search_of(rule, early), chains)
        assert all(2 not in ids[1:] and 1 not in ids[:2] and ids[0] < 3 for row in found for ids in row)


def test_what_ends_may_depend_on_the_beam():
    rule = rule_of(search_of("hf", "true", beams=2))
    beams = start(rule, 1, jnp.ones((3,)))
    log_probs = jnp.log(jnp.asarray([[[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]], jnp.float32))
    nothing = lambda tokens, parents: jnp.zeros(tokens.shape, bool)  # noqa: E731
    beams, tokens, _ = step(rule, beams, log_probs, nothing)
    assert tokens.tolist() == [[0, 1]]
    beams, tokens, parents = step(rule, beams, log_probs, lambda tokens, parents: parents == 0)
    assert (int(tokens[0, 0]), int(parents[0, 0]), bool(beams.done[0])) == (0, 1, True)
    assert lists(jax.device_get(result(rule, beams))) == [[(0, 0), (0, 1)]]


def test_the_largest_scores_are_those_of_top_k_in_its_order():
    scores = np.random.default_rng(0).integers(0, 50, (3, 4001)).astype(np.float32)
    scores[2, 5:] = -np.inf
    for ours, theirs in zip(top_k(jnp.asarray(scores), 7), jax.lax.top_k(jnp.asarray(scores), 7), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (dict(num_beams=0), "--num_beams 0 must be above 0"),
        (dict(num_beams=2, num_return_sequences=3), "--num_return_sequences 3 must be at most --num_beams 2"),
        (
            dict(num_beams=2, beam_rule="gnmt", early_stopping="true"),
            "only for --num_beams above 1 with --beam_rule hf",
        ),
        (dict(beam_rule="gnmt"), "has no effect here, only for --num_beams above 1"),
        (dict(length_penalty=2.0), "has no effect here, only for --num_beams above 1"),
        (dict(num_beams=2, beam_rule="gnmt", length_penalty=-1.0), "--length_penalty -1.0 must not be negative"),
    ],
)
def test_mistakes_are_sentences(fields, expected):
    assert expected in sentence(BeamSearch, **fields)


@pytest.mark.parametrize(
    ("beams", "sampling", "expected"),
    [
        (dict(num_beams=2), dict(temperature=0.5), "--temperature 0.5 samples, but --num_beams 2 searches"),
        (dict(num_return_sequences=2), {}, "would be the same answer each time"),
    ],
)
def test_beams_do_not_sample(beams, sampling, expected):
    assert expected in sentence(require_choice, BeamSearch(**beams), Sampling(**sampling))
    require_choice(BeamSearch(num_beams=2), Sampling())
    require_choice(BeamSearch(num_return_sequences=2), Sampling(temperature=1.0))
