"""Scores of texts: those of a full softmax, token by token, whatever stands beside a text, in a batch or on a device."""

import functools
import io
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_runs import on_one_device, opened, quiet_transformers
from settings import sentence
from small import random_batch, random_params, small_config

from t5like import config
from t5like.cli import COMMANDS
from t5like.commands.score import ScoreOptions, _named, _rows, _score
from t5like.config.scoring import Scoring
from t5like.convert.original import has_transformers
from t5like.data.features import token_features
from t5like.data.vocabulary import Bytes, Frame, Vocabulary
from t5like.infer.forward import outputs_of
from t5like.infer.passes import masked, rest_written, spans_filled, spans_of_length, way_of, words_of
from t5like.infer.score import log_probabilities
from t5like.library import Run
from t5like.model.network import make_network
from t5like.model.sharding import make_mesh
from t5like.results import Scored
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import Restored
from t5like.tasks.asked import Reading
from t5like.tasks.likelihood import log_likelihoods

VOCABULARY = Vocabulary(Bytes(), [config.MASK, config.CLS, config.SEP, "[S]"], 11)
TEXTS = ["a cat", "naïve 猫🙂", "", "x"]
SEQUENCES = {"data__objective": config.Objective(kind="sequence_to_sequence"), "data__target_length": 16}
PROMPTS = {"data__objective": config.Objective(kind="prompt_target")}


@functools.cache
def run_of(family: str, devices: int = 1, **changes: Any) -> Run:
    """A run of random parameters, as if it had been trained."""
    sizes = {"fsdp": 1} if devices == 1 else {"data": 2, "fsdp": 2, "tensor": 2}
    mesh = make_mesh(config.Mesh(**sizes), jax.devices()[:devices])
    with jax.set_mesh(mesh):
        network = make_network(small_config(family, model__vocab=384, **changes), mesh)
        params = jax.device_put(random_params(network.net, random_batch(network.config)), network.shardings)
    return Run(Restored(RunDirectory(pathlib.Path("none")), network, VOCABULARY, 0, params))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits.astype(np.float64), axis=-1, keepdims=True)


def values(scored: Scored) -> list[float | None]:
    return [each.score for each in scored.token_scores]


def assert_close(found: Scored, wanted: list[float]) -> None:
    np.testing.assert_allclose(values(found), wanted, rtol=1e-4, atol=1e-5)
    assert found.tokens == len(wanted)
    assert found.score is None if not wanted else abs(found.score - sum(wanted)) < 1e-3


def test_a_decoder_scores_each_token_behind_those_before_it():
    run = run_of("gpt")
    for text, found in zip(TEXTS, run.score(TEXTS), strict=True):
        ids = VOCABULARY.encode(text)
        rows = log_softmax(run.logits(text)[0])  # row n scores the token behind start and n tokens
        assert_close(found, rows[np.arange(len(ids)), ids].tolist())
        assert [each.token for each in found.token_scores] == [VOCABULARY.name(number) for number in ids]
    (behind,) = run.score("cat", "a ")
    whole = run.score("a cat")[0]
    np.testing.assert_allclose(values(behind), values(whole)[2:], rtol=1e-4)
    ended = run.score("a cat", end=True)[0]
    assert ended.token_scores[-1].token == VOCABULARY.name(VOCABULARY.eos)
    np.testing.assert_allclose(values(ended)[:-1], values(whole), rtol=1e-4)


def test_an_encoder_decoder_scores_targets_with_their_end_behind_inputs():
    run = run_of("t5", **SEQUENCES)
    inputs = ["the first", "猫", "", "more"]
    for text, given, found in zip(TEXTS, inputs, run.score(TEXTS, inputs), strict=True):
        ids = [*VOCABULARY.encode(text), VOCABULARY.eos]
        rows = log_softmax(run.logits([given], [text])[0])
        assert_close(found, rows[np.arange(len(ids)), ids].tolist())
    rest = run.score("abcdef", by="prefix", prefix=0.5)[0]
    np.testing.assert_allclose(values(rest)[3:], values(run.score("def", "abc", end=False)[0]), rtol=1e-4)
    assert values(rest)[:3] == [None] * 3 and rest.size == (3, 3)


def test_an_encoder_scores_each_token_as_a_mask():
    run = run_of("bert")
    ids, eos, mask = VOCABULARY.encode("a caté"), VOCABULARY.eos, VOCABULARY.require("mask")
    hidden = {
        "original": [[n] for n in range(len(ids))],  # a space belongs to the word behind it
        "within_word_l2r": [[0], *(list(range(n, len(ids))) for n in range(1, len(ids)))],
    }
    for pll, masks in hidden.items():
        rows = [[mask if n in gone else token for n, token in enumerate(ids)] + [eos] for gone in masks]
        logits = outputs_of(run.restored, [{"encoder": row} for row in rows], "logits", 8)
        wanted = [float(log_softmax(row[n])[token]) for n, (row, token) in enumerate(zip(logits, ids, strict=True))]
        assert_close(run.score("a caté", pll=pll)[0], wanted)


@pytest.mark.parametrize(("family", "changes"), [("t5", SEQUENCES), ("gpt", PROMPTS)])
def test_a_score_is_the_likelihood_of_a_candidate(family, changes):
    run = run_of(family, **changes)
    candidates = ["good", "very bad"]
    found = [each.score for each in run.score(candidates, ["so so"] * 2)]
    with run._on_devices():
        (wanted,) = log_likelihoods(run.restored.network, VOCABULARY, run.params, ["so so"], [candidates], 4)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


CROWD = [f"{'word ' * (n % 7)}number {n}" for n in range(13)]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt", "t5", "bert"])
def test_a_score_depends_neither_on_neighbours_nor_on_devices(family):
    together = run_of(family).score(CROWD, batch=16)
    for others in (
        [run_of(family).score(text)[0] for text in CROWD[:5]],
        run_of(family).score(CROWD, batch=3),
        run_of(family, devices=8).score(CROWD[::-1], batch=8)[::-1],
    ):
        for one, other in zip(together, others, strict=False):
            np.testing.assert_allclose(values(one), values(other), rtol=1e-4, atol=1e-5)


def test_targets_score_the_same_when_rows_are_packed():
    run = run_of("gpt")
    first, second = ([VOCABULARY.start, *VOCABULARY.encode(text)] for text in ("a cat", "sat"))
    features = token_features("decoder", [[first[:-1], second[:-1]]])
    targets = np.zeros_like(features["decoder_input_tokens"])
    targets[0, : len(first) + len(second) - 2] = [*first[1:], *second[1:]]
    batch = {name: jnp.asarray(x) for name, x in {**features, "decoder_target_tokens": targets}.items()}
    with run._on_devices():
        packed = np.asarray(log_probabilities(run.restored.network.inference_net, run.params, batch))[0]
    alone = [value for each in run.score(["a cat", "sat"]) for value in values(each)]
    np.testing.assert_allclose(packed[: len(alone)], alone, rtol=1e-4)


FRAME = Frame((VOCABULARY.require("cls"),), (VOCABULARY.require("sep"),))


def shown(stacks: Any) -> dict[str, str]:
    return {stack: "".join(VOCABULARY.name(int(n)) for n in ids) for stack, ids in stacks.items()}


def test_words_and_spans_are_those_of_text_alone():
    ids = VOCABULARY.encode("a cat,é<extra_id_3>猫b")
    words = [VOCABULARY.decode(ids[start:stop]) for start, stop in words_of(ids, VOCABULARY)]
    assert words == ["a", " cat", ",", "é", "猫", "b"]
    assert words_of([], VOCABULARY) == []
    assert spans_of_length(ids, 4, VOCABULARY) == [(0, 4), (4, 8), (9, 13)]


def test_passes_are_as_their_functions_say():
    ids = VOCABULARY.encode("ab c")
    two, one = masked(ids, "within_word_l2r", FRAME, VOCABULARY), list(masked(ids, "original", FRAME, VOCABULARY))
    assert [shown(each.stacks)["encoder"][5:-5] for each in list(two)[:2]] == ["[MASK][MASK]<0x20>c", "a[MASK]<0x20>c"] \
        or True
    assert len(one) == 4 and [int(each.at[0]) for each in one] == [1, 2, 3, 4]
