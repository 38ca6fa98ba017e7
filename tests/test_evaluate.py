"""Held-out figures, worked out by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import random_batch, random_params, replace, small_config
from streams import rows_of, settings, without_rates, write_texts

from t5like import config
from t5like.data.vocabulary import Bytes, Vocabulary
from t5like.model.network import make_network
from t5like.model.transformer import Transformer
from t5like.train.compile import lower_evaluation, step_memory
from t5like.train.eval_step import eval_step
from t5like.train.evaluate import Evaluator, figures, vocabulary_tables
from t5like.train.losses import Ratio, token_losses
from t5like.train.state import make_training

VOCABULARY = Vocabulary(Bytes(), [config.MASK], 11)


def test_the_unigram_model_is_the_frequency_of_text_pieces():
    """Special pieces, however often they occur, take no share; each other piece counts once more than it occurs."""
    counts = np.zeros(VOCABULARY.size, np.int64)
    counts[[1, 100, 200]] = 1000, 300, 100
    spelt, nll = vocabulary_tables(VOCABULARY, counts, rows=384)
    text = spelt > 0
    assert text.sum() == 256 - 11
    assert nll.shape == (384,)
    assert np.exp(-nll[text]).sum() == pytest.approx(1)
    assert nll[100] == pytest.approx(-np.log(301 / (400 + 245)))
    assert nll[200] - nll[100] == pytest.approx(np.log(301 / 101))
    assert (nll[~text] == 0).all()


def test_an_evaluation_step_sums_over_weighted_targets(one_device):
    """Text leaves out special pieces; the unigram model is asked for the same targets."""
    settings = small_config("gpt", model__vocab=384)
    net, batch = Transformer(settings.model, settings.rules), random_batch(settings)
    batch["decoder_target_tokens"] = batch["decoder_target_tokens"].at[:, ::5].set(VOCABULARY.eos)
    tables = vocabulary_tables(VOCABULARY, np.arange(VOCABULARY.size), 384)
    step = jax.jit(functools.partial(eval_step, net=net))
    sums = step(random_params(net, batch), batch, *map(jnp.asarray, tables))
    targets, weights = (np.asarray(batch[f"decoder_{name}"]) for name in ("target_tokens", "loss_weights"))
    text = weights * (targets != VOCABULARY.eos)
    assert float(sums["loss"].count) == weights.sum()
    assert float(sums["text_loss"].count) == float(sums["nats_per_byte"].count) == text.sum()
    np.testing.assert_allclose(sums["unigram_text_loss"].total, (text * tables[1][targets]).sum(), rtol=1e-5)
    assert 0 < float(sums["text_loss"].total) < float(sums["loss"].total)


def test_an_evaluation_step_equals_whole_scores(mesh):
    """On eight devices and in chunks as on whole scores."""
    settings = small_config("t5", mesh__data=2, mesh__fsdp=2, mesh__tensor=2)
    net, batch = Transformer(settings.model, settings.rules), random_batch(settings)
    params, table = random_params(net, batch), jnp.ones(256)
    sums = jax.jit(functools.partial(eval_step, net=net))(params, batch, table, table)
    losses = token_losses(jax.jit(net.apply)({"params": params}, batch), batch["decoder_target_tokens"])
    weights = batch["decoder_loss_weights"]
    np.testing.assert_allclose(sums["loss"].total, (losses.nll * weights).sum(), rtol=1e-5)
    np.testing.assert_allclose(sums["accuracy"].total, (losses.correct * weights).sum())


def test_an_answer_is_right_if_all_its_targets_are(one_device):
    """Rows hold two answers; the third target of one, its end, is wrong, and what is no target may be."""
    settings = small_config("gpt", data__length=8, train__batch=2)
    net, batch = Transformer(settings.model, settings.rules), random_batch(settings)
    batch["decoder_segment_ids"] = jnp.array([[1, 1, 1, 2, 2, 0, 0, 0], [1, 1, 1, 1, 2, 2, 0, 0]], jnp.int32)
    batch["decoder_loss_weights"] = jnp.array([[0, 1, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0]], jnp.float32)
    params, table = random_params(net, batch), jnp.ones(256)
    step = jax.jit(functools.partial(eval_step, net=net))
    guesses = jnp.argmax(jax.jit(net.apply)({"params": params}, batch), axis=-1).astype(jnp.int32)
    wrong = guesses.at[0, 0].add(1).at[0, 2].add(1).at[1, 5].add(1)
    for targets, right in ((guesses, 3), (wrong, 2)):
        sums = step(params, batch | {"decoder_target_tokens": targets}, table, table)
        assert sums["exact_match"] == Ratio(right, 3)
    assert sums["accuracy"].total == 5


def test_an_evaluation_never_holds_the_scores_of_its_batch(one_device):
    """They would take 1.7 GB here."""
    settings = small_config("gpt", model__vocab=50_304, data__length=128, eval__batch=64, mesh__fsdp=1)
    memory = step_memory(lower_evaluation(make_training(settings, one_device).network).compile())
    assert memory.temporary < 0.25 * (64 * 128 * 50_304 * 4)


def test_each_source_has_figures_of_its_own(tmp_path, one_device):
    """Those of its rows alone, each once; and all rows together have the figures that they had."""
    data = without_rates(settings(write_texts(tmp_path), "causal", length=24))
    rows = rows_of(data)["validation"]
    count = rows.count - 1
    whole = replace(small_config("gpt", model__vocab=384, mesh__fsdp=1, eval__rows=count), data=data)
    network = make_network(whole, one_device)
    evaluator, params = Evaluator(network, rows.vocabulary), network.initial_params()
    found = evaluator(params)
    assert set(evaluator.names()) == found.keys()
    step, batch = jax.jit(functools.partial(eval_step, net=network.net)), rows(np.arange(count))
    weights, sources = batch["decoder_loss_weights"], rows.sources_of(np.arange(count))
    for number, source in enumerate(("", *data.source_names), -1):
        own = weights * (sources == number)[:, None].astype(np.float32) if source else weights
        sums = step(params, batch | {"decoder_loss_weights": own}, *evaluator._tables)
        alone = figures(jax.device_get(sums), answers=False)
        assert alone == pytest.approx({name: found[f"{source}/{name}".strip("/")] for name in alone}, rel=1e-5)
    assert found["tokens"] == sum(found[f"{source}/tokens"] for source in data.source_names)


def test_figures_are_ratios_of_the_sums():
    sums = {
        "loss": Ratio(20.0, 10.0),
        "accuracy": Ratio(4.0, 10.0),
        "text_accuracy": Ratio(1.5, 6.0),
        "text_loss": Ratio(18.0, 6.0),
        "unigram_text_loss": Ratio(30.0, 6.0),
        "nats_per_byte": Ratio(20.0, 15.0),
        "exact_match": Ratio(2.0, 8.0),
    }
    assert figures(sums | {"label_accuracy": Ratio(3.0, 4.0)}, answers=False)["label_accuracy"] == 0.75
    assert figures(sums, answers=True)["exact_match"] == 0.25
    got = figures(jax.tree.map(np.float64, sums), answers=False)
    assert got == pytest.approx(
        {
            "loss": 2.0,
            "perplexity": np.exp(2.0),
            "accuracy": 0.4,
            "text_accuracy": 0.25,
            "bits_per_byte": 20 / np.log(2) / 15,
            "text_loss": 3.0,
            "unigram_text_loss": 5.0,
            "tokens": 10.0,
        }
    )
