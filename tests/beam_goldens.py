"""Answers of transformers' beam search, and their comparison with ours."""

import functools
import json
import pathlib
from typing import Any

import numpy as np
from chains import lists

from t5like.infer.beams import Answers

GOLDEN = pathlib.Path(__file__).parent / "golden"
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
