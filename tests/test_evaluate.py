"""Held-out figures, worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from small import random_batch, random_params, small_config

from t5like import config
from t5like.data.vocabulary import Bytes, Vocabulary
from t5like.model.transformer import Transformer
from t5like.train.evaluate import figures, vocabulary_tables
from t5like.train.step import EvalSums, eval_step

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
    sums = eval_step(random_params(net, batch), batch, *map(jnp.asarray, tables), net=net)
    targets, weights = (np.asarray(batch[f"decoder_{name}"]) for name in ("target_tokens", "loss_weights"))
    text = weights * (targets != VOCABULARY.eos)
    assert float(sums.weight) == weights.sum()
    assert float(sums.text_weight) == float(sums.text_bytes) == text.sum()
    np.testing.assert_allclose(sums.unigram_nll, (text * tables[1][targets]).sum(), rtol=1e-5)
    assert 0 < float(sums.text_nll) < float(sums.nll)


def test_figures_are_ratios_of_the_sums():
    sums = EvalSums(
        nll=20.0,
        weight=10.0,
        correct=4.0,
        text_nll=18.0,
        text_weight=6.0,
        text_bytes=15.0,
        unigram_nll=30.0,
        labels_correct=0.0,
        labels=0.0,
    )
    assert figures(sums._replace(labels_correct=3.0, labels=4.0))["label_accuracy"] == 0.75
    got = figures(EvalSums(*map(np.float64, sums)))
    assert got == pytest.approx(
        {
            "loss": 2.0,
            "perplexity": np.exp(2.0),
            "accuracy": 0.4,
            "bits_per_byte": 20 / np.log(2) / 15,
            "text_loss": 3.0,
            "unigram_text_loss": 5.0,
            "tokens": 10.0,
        }
    )
