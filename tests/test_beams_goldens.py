"""Beams have the answers that transformers gave: of chains, and of a T5 and a GPT-2 through the loop of decoding."""

import dataclasses
import functools
import itertools
import json
from typing import Any

import jax
import numpy as np
import pytest
from chains import answers_of, by_lists, lists, random_chains, search_of
from golden_runs import GOLDEN, on_one_device, opened

from t5like.config.beams import BeamSearch
from t5like.config.constraints import Constraints
from t5like.config.decoding import Decoding
from t5like.convert.verify import generator_like_original
from t5like.infer.beams import Answers
from t5like.infer.constraints import TokenConstraints

SETTINGS = ("num_beams", "early_stopping", "length_penalty")
ORDER = ("early_stopping", "num_beams", "length_penalty", "num_return_sequences")
"""As `search_of` takes them."""


@functools.cache
def goldens() -> dict[str, Any]:
    """Answers of transformers, made by tests/golden/make_beams.py."""
    return json.loads((GOLDEN / "beams.json").read_text())


def assert_same(cases: list[dict[str, Any]], found: Answers) -> None:
    """The first rows are the answers of transformers to the cases, token for token and score for score."""
    for case, tokens, scores in zip(cases, lists(found), found.scores, strict=False):
        assert [list(ids) for ids in tokens[: len(case["tokens"])]] == case["tokens"], case
        np.testing.assert_allclose(scores[: len(case["scores"])], case["scores"], atol=1e-4, rtol=1e-5)


def cases_of(model: str) -> list[dict[str, Any]]:
    return [case for case in goldens()["cases"] if case["model"] == model]


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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t5_1_1", "gpt2"])
def test_models_have_the_answers_of_transformers(name, tmp_path):
    cases = cases_of(name)
    assert len(cases) >= 60
    with on_one_device(), opened(name, tmp_path / "run") as golden, jax.default_matmul_precision("highest"):
        for case in cases:
            options = Decoding(
                tokens=case["max_new_tokens"],
                beams=search_of("hf", *(case[name] for name in ORDER[:3])),
                constraints=Constraints(min_new_tokens=case["min_new_tokens"]),
            )
            plain = generator_like_original(golden.restored, 1)
            ends = TokenConstraints(tuple(case["ends"]))
            generator = dataclasses.replace(plain, decoding=options, constraints=ends)
            assert_same([case], generator.answers(golden.restored.params, [case["prompt"]]))
