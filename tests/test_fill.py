"""Masks filled, and held-out passages answered, by networks whose answer is known."""

import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import random_batch, random_params, small_config

from t5like import config
from t5like.data.vocabulary import Bytes, Vocabulary
from t5like.errors import UserError
from t5like.infer.fill import fill
from t5like.infer.passages import (
    NEXT,
    SPAN,
    TARGET,
    Gap,
    Passage,
    Shares,
    answered,
    as_json_lines,
    as_text,
    shares_as_text,
    shares_of,
)
from t5like.model.network import make_network
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import Restored

VOCABULARY = Vocabulary(Bytes(), [config.MASK], 11)


def opened(family: str, mesh: Any) -> Restored:
    """A run of random parameters, as if it had been trained."""
    network = make_network(small_config(family, model__vocab=384), mesh)
    params = random_params(network.net, random_batch(network.config))
    return Restored(RunDirectory(pathlib.Path("none")), network, VOCABULARY, 0, params)


@pytest.fixture
def bert(mesh) -> Restored:
    return opened("bert", mesh)


def test_candidates_are_the_likeliest_pieces_of_each_mask(bert):
    """Their probabilities are those of the softmax over all pieces that may stand in a text."""
    masks = fill(bert, "The [MASK] sat on [MASK].", top=3)
    assert [len(candidates) for candidates in masks] == [3, 3]
    ids = [*VOCABULARY.encode("The [MASK] sat on [MASK]."), VOCABULARY.eos]
    row = lambda x: jnp.tile(jnp.asarray([x], jnp.int32), (4, 1))  # noqa: E731
    batch = {"encoder_input_tokens": row(ids), "encoder_segment_ids": row([1] * len(ids))}
    batch["encoder_positions"] = row(list(range(len(ids))))
    place = ids.index(VOCABULARY.special[config.MASK])
    logits = np.array(bert.network.net.apply({"params": bert.params}, batch))[0, place]
    logits[[*range(3), *VOCABULARY.special.values(), *range(VOCABULARY.size, 384)]] = -np.inf
    probabilities = np.asarray(jax.nn.softmax(jnp.asarray(logits)))
    assert [c.piece for c in masks[0]] == np.argsort(-probabilities)[:3].tolist()
    np.testing.assert_allclose([c.probability for c in masks[0]], np.sort(probabilities)[::-1][:3], rtol=1e-4)


def test_a_text_without_a_mask_or_too_long_is_refused(bert):
    with pytest.raises(UserError, match=r"The text has no \[MASK\]"):
        fill(bert, "The cat sat.", top=3)
    with pytest.raises(UserError, match=r"need 102 tokens, but model\.max_positions=64"):
        fill(bert, "x" * 100 + config.MASK, top=3)


def test_a_decoder_does_not_fill(mesh):
    with pytest.raises(UserError, match=r"this run has the family decoder: use `t5like generate`"):
        fill(opened("gpt", mesh), "The [MASK] sat.", top=3)


def test_passages_are_printed_for_people_and_for_programs():
    passage = Passage("a <extra_id_0> c", [Gap("<extra_id_0>", "b", "狗", "", False)], "noise")
    assert json.loads(as_json_lines([passage])) == {
        "shown": "a <extra_id_0> c",
        "gaps": [{"name": "<extra_id_0>", "truth": "b", "model": "狗", "untrained": "", "exact": False}],
        "untrained_answer": "noise",
    }
    text = as_text([passage])
    for line in ("a <extra_id_0> c", "  truth     'b'", "  model     '狗'", "untrained, in full: 'noise'"):
        assert f"\n{line}\n" in text


def tokens(text: str) -> tuple[int, ...]:
    return tuple(VOCABULARY.encode(text))


def test_a_gap_is_exact_token_for_token_and_the_first_answer_to_a_sentinel_counts():
    truth = tokens("<extra_id_0>ab<extra_id_1>c<extra_id_2>")
    said = tokens("<extra_id_0>ab<extra_id_1>x<extra_id_1>c")
    passage, truths = answered(SPAN, tokens("the text"), truth, [said, ()], VOCABULARY)
    assert [gap.exact for gap in passage.gaps] == [True, False, False]  # no answer is not an empty one
    assert [gap.truth for gap in passage.gaps] == ["ab", "c", ""]
    assert truths == [tokens("ab"), tokens("c"), ()]
    for unit, exact, counted in ((TARGET, False, "ab"), (NEXT, True, "a")):
        passage, truths = answered(unit, tokens("the text"), tokens("ab"), [tokens("ac"), ()], VOCABULARY)
        assert ([gap.exact for gap in passage.gaps], truths) == ([exact], [tokens(counted)])


def test_shares_are_those_of_all_gaps_beside_the_commonest_of_the_same():
    exact = [True, True, False, True]
    gaps = [Gap("<extra_id_0>", "b", "b", "", each) for each in exact]
    shares = shares_of(SPAN, [Passage("a", gaps, "")], [tokens(text) for text in ("b", "c", "b", "d")], VOCABULARY)
    assert shares == Shares("span", 4, 3, "b", 2)
    said = shares_as_text(shares, 1)
    for words in ("4 held-out spans in 1 passages", "75.0%", "50.0%  are 'b'", "1.5 times as many"):
        assert words in said
    assert shares_as_text(shares_of(SPAN, [], [], VOCABULARY), 0) == "The 0 passages have no span.\n"
    assert as_text([Passage("a", gaps, "")]).count("'b'   exact\n") == 3
