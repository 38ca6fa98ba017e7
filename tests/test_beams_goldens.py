"""Chains have the answers that transformers gave, by beams and by lists."""

import itertools
from typing import Any

import numpy as np
from beam_goldens import ORDER, assert_same, cases_of, goldens
from chains import answers_of, by_lists, random_chains, search_of

from t5like.config.beams import BeamSearch

SETTINGS = ("num_beams", "early_stopping", "length_penalty")


def groups_of(cases: list[dict[str, Any]]) -> list[tuple[BeamSearch, list[dict[str, Any]]]]:
    """Cases with the same settings, and these with as many answers as beams."""
    of = lambda case: tuple(case[name] for name in SETTINGS)  # noqa: E731
    grouped = itertools.groupby(sorted(cases, key=of), of)
    return [(search_of("hf", key[1], key[0], key[2]), list(group)) for key, group in grouped]


def table_of(case: dict[str, Any], chains: np.ndarray) -> np.ndarray:
    """The chain of a case, without ends before its least length."""
    table = chains[case["chain"]].copy()
    table[: case["min_new_tokens"], :, case["ends"]] = -np.inf
    return table


def test_chains_have_the_answers_of_transformers_in_lists():
    chains, cases = random_chains(**goldens()["chains"]), cases_of("chain")
    assert len(cases) >= 120
    for case in cases:
        found = by_lists(search_of("hf", *(case[name] for name in ORDER)), table_of(case, chains), tuple(case["ends"]))
        assert [list(answer.tokens) for answer in found] == case["tokens"]
        np.testing.assert_allclose([answer.score for answer in found], case["scores"], atol=1e-4)


def test_chains_have_the_answers_of_transformers():
    chains = random_chains(**goldens()["chains"])
    cases = [case for case in cases_of("chain") if case["num_beams"] == 4 and len(case["ends"]) == 1]
    assert len(cases) >= 9
    for search, group in groups_of(cases):
        filled = group + [group[0]] * (16 - len(group))  # one shape for all
        assert_same(group, answers_of(search, np.stack([table_of(case, chains) for case in filled])))
