"""Answers that follow a grammar, token by token from the host."""

import json
import re
import sys
from typing import Any

import numpy as np
import pytest
from small_vocabularies import KINDS, vocabulary_of

from t5like.config.constraints import Constraints
from t5like.errors import UserError
from t5like.infer.grammar import Grammar

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}, "t": {"enum": ["yes", "no", "月光"]}},
    "required": ["n"],
    "additionalProperties": False,
}


def grammar(kind: str, **options: Any) -> Grammar:
    vocabulary = vocabulary_of(kind)
    numbers = np.arange(vocabulary.size + 2)
    allowed = (numbers < vocabulary.size) & (numbers != vocabulary.pad) | (numbers == vocabulary.eos)
    return Grammar(Constraints(**options), vocabulary, allowed, numbers == vocabulary.eos)


def answers(kind: str, rows: int, most: int, **options: Any) -> list[tuple[str, bool]]:
    """Answers of a model without an opinion but on the end, and True for those that have come to it."""
    found, draw = grammar(kind, **options), np.random.default_rng(0)
    matches = found.begin(rows)
    tokens: list[np.ndarray] = []
    while not matches.ended.all() and len(tokens) < most:
        scores = draw.gumbel(size=(rows, len(found.ends))) + 4 * found.ends
        tokens.append(np.where(matches.mask(), scores, -np.inf).argmax(1))
        tokens[-1][matches.ended] = vocabulary_of(kind).eos
        matches.accept(tokens[-1])
    texts = map(vocabulary_of(kind).decode, np.stack(tokens, 1))
    return [(options.get("prefix", "") + text, bool(end)) for text, end in zip(texts, matches.ended, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
def test_answers_match_a_regular_expression(kind):
    pytest.importorskip("llguidance", reason="the extra `grammar` is not installed")
    regex = "(yes|not)( ?[0-9]){1,2}" if kind == "t5" else "(月 ?光|yes)( ?，|, ?)( ?[a-c]){1,3}"
    for text, ended in answers(kind, 40, 40, regex=regex):
        assert ended and re.fullmatch(regex, text), text


@pytest.mark.parametrize("kind", ["byte_bpe", "llama", "bytes"])
def test_answers_follow_a_json_schema(kind, tmp_path):
    pytest.importorskip("llguidance", reason="the extra `grammar` is not installed")
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    for text, ended in answers(kind, 20, 300, json_schema=str(tmp_path / "schema.json"), prefix='{"n":'):
        assert ended and 0 <= json.loads(text)["n"] < 100 and json.loads(text).get("t", "no") in ("yes", "no", "月光")


def test_any_json_is_json():
    pytest.importorskip("llguidance", reason="the extra `grammar` is not installed")
    whole = [text for text, ended in answers("bytes", 60, 60, json_schema="any") if ended]
    assert len(whole) > 20 and all(json.loads(text) is not NotImplemented for text in whole)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (dict(regex="(a"), r"^--regex '\(a' cannot be followed: unclosed group\.$"),
        (dict(regex="a+", prefix="b"), r"^--prefix 'b' is no beginning of what --regex allows: change one of them\.$"),
        (dict(json_schema="/none"), r"^--json_schema /none cannot be read: No such file or directory\.$"),
        (dict(json_schema=__file__), r"^--json_schema .*test_grammar.py is not JSON: "),
    ],
)
def test_a_grammar_that_is_none_is_refused(options, sentence):
    pytest.importorskip("llguidance", reason="the extra `grammar` is not installed")
    with pytest.raises(UserError, match=sentence):
        grammar("bytes", **options)


def test_a_text_that_a_vocabulary_cannot_write_is_refused():
    pytest.importorskip("llguidance", reason="the extra `grammar` is not installed")
    with pytest.raises(
        UserError, match=r"^No token of this vocabulary goes on with the text that the grammar asks for"
    ):
        grammar("t5", regex="床+").begin(1).mask()


def test_without_the_library_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(UserError, match=r"^--regex and --json_schema need llguidance: pip install llguidance, "):
        grammar("bytes", regex="a")
