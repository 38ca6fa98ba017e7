"""The loss is a mean over real targets, whatever stands beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import assert_trees_close, small_config

from t5like.model.heads import ABSENT
from t5like.train.labels import KINDS, abstract_labels, label_losses
from t5like.train.losses import (
    Ratio,
    Smoothing,
    label_sums,
    smoothing_of,
    token_losses,
    weighted_sums,
    with_labels,
)

LOGITS = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 11)) * 3, jnp.float32)
TARGETS = jnp.asarray(np.random.default_rng(1).integers(0, 11, (4, 6)), jnp.int32)
WEIGHTS = jnp.asarray(np.random.default_rng(2).integers(0, 2, (4, 6)), jnp.float32)


def test_the_costs_are_those_of_a_softmax():
    losses = token_losses(LOGITS, TARGETS)
    expected = optax.softmax_cross_entropy_with_integer_labels(LOGITS, TARGETS)
    np.testing.assert_allclose(losses.nll, expected, rtol=1e-5)
    np.testing.assert_allclose(losses.log_z, np.log(np.exp(LOGITS).sum(-1)), rtol=1e-5)
    np.testing.assert_array_equal(losses.correct, np.asarray(LOGITS).argmax(-1) == np.asarray(TARGETS))


def test_the_gradient_is_that_of_the_formula():
    """softmax * (1 + 2 z log Z) - one-hot, times the weight."""
    z = 0.01
    gradient = jax.jit(jax.grad(lambda x: weighted_sums(x, TARGETS, WEIGHTS, z)["objective"].total))(LOGITS)
    log_z = jax.nn.logsumexp(LOGITS, axis=-1, keepdims=True)
    expected = jax.nn.softmax(LOGITS) * (1 + 2 * z * log_z) - jax.nn.one_hot(TARGETS, 11)
    np.testing.assert_allclose(gradient, expected * WEIGHTS[:, :, None], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("z", [0.0, 0.01])
def test_smoothed_targets_are_those_of_optax_over_the_tokens_that_there_are(z):
    """Two rows of padding at the end get no share, but count in Z."""
    smoothing, one_hot = Smoothing(0.1, 9), jax.nn.one_hot(TARGETS % 9, 9)
    targets = jnp.pad(optax.smooth_labels(one_hot, 0.1), ((0, 0), (0, 0), (0, 2)))

    def expected(logits):
        cost = optax.softmax_cross_entropy(logits, targets) + z * jnp.square(jax.nn.logsumexp(logits, axis=-1))
        return jnp.sum(WEIGHTS * cost)

    def actual(logits):
        sums = weighted_sums(logits, TARGETS % 9, WEIGHTS, z, smoothing)
        return sums["objective"].total, sums["loss"]

    (cost, loss), gradient = jax.jit(jax.value_and_grad(actual, has_aux=True))(LOGITS)
    wanted, by_logits = jax.jit(jax.value_and_grad(expected))(LOGITS)
    np.testing.assert_allclose(cost, wanted, rtol=1e-5)
    np.testing.assert_allclose(gradient, by_logits, rtol=1e-4, atol=1e-6)
    assert_trees_close(loss, weighted_sums(LOGITS, TARGETS % 9, WEIGHTS, 0.0)["loss"])


def test_a_run_smooths_over_its_vocabulary():
    settings = small_config("gpt", train__label_smoothing=0.2)
    assert smoothing_of(settings) == (0.2, settings.data.vocabulary.pieces) == (0.2, 223)


def test_targets_of_weight_zero_and_padding_change_nothing():
    padded = jnp.pad(LOGITS, ((0, 2), (0, 3), (0, 0)), constant_values=50.0)
    targets, weights = (jnp.pad(x, ((0, 2), (0, 3))) for x in (TARGETS, WEIGHTS))
    alone, beside = weighted_sums(LOGITS, TARGETS, WEIGHTS, 0.01), weighted_sums(padded, targets, weights, 0.01)
    assert_trees_close(alone, beside, rtol=1e-6)


def test_the_weight_counts_real_targets():
    sums = weighted_sums(LOGITS, TARGETS, WEIGHTS, 0.0)
    assert float(sums["loss"].count) == float(WEIGHTS.sum())
    np.testing.assert_allclose(sums["objective"].total, sums["loss"].total)
    assert float(sums["accuracy"].total) == float(
        np.sum(np.asarray(WEIGHTS) * (np.asarray(LOGITS).argmax(-1) == np.asarray(TARGETS)))
    )


def test_a_mean_of_fractions_of_weights_is_divided_by_them_and_one_of_nothing_is_nothing():
    assert Ratio(0.2, 0.5).mean() == 0.4
    assert Ratio(0.0, 0.0).mean() == 0


def test_labels_add_their_mean_cost_to_that_of_tokens_however_rows_are_split():
    scores = jnp.asarray(np.random.default_rng(3).normal(size=(4, 2)), jnp.float32)
    labels = jnp.array([0, 1, 1, 0], jnp.int32)
    weights = jnp.asarray(np.tile([1, 0, 1, 1, 0, 1], (4, 1)), jnp.float32).at[3].set(0.0)

    def sums(rows: slice):
        tokens = weighted_sums(LOGITS[rows], TARGETS[rows], weights[rows], 0.0)
        return with_labels(tokens, scores[rows], labels[rows], weights[rows])

    whole, *parts = jax.jit(lambda: [sums(slice(4)), sums(slice(2)), sums(slice(2, 4))])()
    costs = optax.softmax_cross_entropy_with_integer_labels(scores, labels)[:3]
    expected = whole["loss"].mean() + costs.mean()
    np.testing.assert_allclose(whole["objective"].mean(), expected, rtol=1e-6)
    assert whole["label_accuracy"] == Ratio(float((scores.argmax(1) == labels)[:3].sum()), 3)
    assert_trees_close(jax.tree.map(jnp.add, *parts), whole, rtol=1e-6)


def test_several_labels_of_a_row_have_a_cross_entropy_each():
    scores = jnp.array([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    labels = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    chance = 1 / (1 + np.exp(-np.asarray(scores)))
    expected = -np.where(np.asarray(labels) > 0, np.log(chance), np.log(1 - chance)).mean(1)
    found = label_losses(scores, labels, "multi_label_classification")
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    sums = label_sums(scores, labels, jnp.ones(2), "multi_label_classification")
    assert sums["accuracy"] == Ratio(1, 2)
    numbers = label_losses(scores, labels, "regression")
    np.testing.assert_allclose(numbers, np.square(np.asarray(scores) - np.asarray(labels)).mean(1), rtol=1e-6)


def test_weights_of_classes_divide_the_objective_and_leave_the_loss_as_it_is():
    scores = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)), jnp.float32)
    labels, rows, own = jnp.array([0, 2, 1, 2, 0], jnp.int32), jnp.array([1.0, 1, 1, 1, 0]), np.array([0.5, 2, 3])
    sums = label_sums(scores, labels, rows, "single_label_classification", 0.0, (0.5, 2.0, 3.0))
    nll = -np.asarray(jax.nn.log_softmax(scores))[np.arange(5), np.asarray(labels)]
    expected = (own[labels] * nll)[:4].sum() / own[labels[:4]].sum()
    np.testing.assert_allclose(sums["objective"].mean(), expected, rtol=1e-6)
    np.testing.assert_allclose(sums["loss"].mean(), nll[:4].mean(), rtol=1e-6)


def test_smoothing_is_even_over_the_candidates_that_are_there():
    scores = jnp.array([[1.0, -2.0, ABSENT], [0.5, 0.25, 3.0]])
    labels = jnp.array([1, 0], jnp.int32)
    found = label_losses(scores, labels, "single_label_classification", 0.2)
    each = [-np.asarray(jax.nn.log_softmax(row)) for row in (scores[0, :2], scores[1])]
    expected = [0.8 * row[label] + 0.2 * row.mean() for row, label in zip(each, (1, 0), strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


HEADS = {
    "classes": dict(head="sequence", labels=3),
    "several": dict(head="sequence", labels=3, problem_type="multi_label_classification"),
    "numbers": dict(head="sequence", labels=2, problem_type="regression"),
    "one number": dict(head="sequence", labels=1),
    "tokens": dict(head="token", labels=5),
    "spans": dict(head="span"),
}


@pytest.mark.parametrize("head", HEADS)
def test_what_scores_predict_has_the_form_of_labels_and_is_right(head):
    """A number costs nothing where it is met, and is neither right nor wrong."""
    model = small_config("bert", **{f"model__{name}": value for name, value in HEADS[head].items()}).model
    kind, wanted = KINDS[model.label_problem], abstract_labels(model, rows=4, length=6)
    by_token = model.head in ("token", "span")
    shape = (4, 6, model.label_scores) if by_token else (4, model.label_scores)
    scores = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    guess = kind.predict(scores).astype(wanted.dtype)
    assert guess.shape == wanted.shape
    sums = label_sums(scores, guess, jnp.ones((4, 6) if model.head == "token" else 4), model.label_problem)
    if model.label_problem == "regression":
        assert sums["loss"].total == 0 and sums.keys() == {"objective", "loss"}
    else:
        assert sums["accuracy"].mean() == sums["label_accuracy"].mean() == 1
        assert 0 < float(sums["loss"].mean()) < 2
