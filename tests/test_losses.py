"""The loss is a mean over real targets, whatever stands beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from t5like.train.losses import label_losses, label_sums, token_losses, weighted_sums, with_labels

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
    gradient = jax.grad(lambda x: weighted_sums(x, TARGETS, WEIGHTS, z).objective)(LOGITS)
    log_z = jax.nn.logsumexp(LOGITS, axis=-1, keepdims=True)
    expected = jax.nn.softmax(LOGITS) * (1 + 2 * z * log_z) - jax.nn.one_hot(TARGETS, 11)
    np.testing.assert_allclose(gradient, expected * WEIGHTS[:, :, None], rtol=1e-4, atol=1e-6)


def test_targets_of_weight_zero_and_padding_change_nothing():
    padded = jnp.pad(LOGITS, ((0, 2), (0, 3), (0, 0)), constant_values=50.0)
    targets, weights = (jnp.pad(x, ((0, 2), (0, 3))) for x in (TARGETS, WEIGHTS))
    for a, b in zip(
        weighted_sums(LOGITS, TARGETS, WEIGHTS, 0.01), weighted_sums(padded, targets, weights, 0.01), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_weight_counts_real_targets():
    sums = weighted_sums(LOGITS, TARGETS, WEIGHTS, 0.0)
    assert float(sums.weight) == float(WEIGHTS.sum())
    np.testing.assert_allclose(sums.objective, sums.nll)
    assert float(sums.correct) == float(
        np.sum(np.asarray(WEIGHTS) * (np.asarray(LOGITS).argmax(-1) == np.asarray(TARGETS)))
    )


def test_labels_add_their_mean_cost_to_that_of_tokens_however_rows_are_split():
    scores = jnp.asarray(np.random.default_rng(3).normal(size=(4, 2)), jnp.float32)
    labels = jnp.array([0, 1, 1, 0], jnp.int32)
    weights = jnp.asarray(np.tile([1, 0, 1, 1, 0, 1], (4, 1)), jnp.float32).at[3].set(0.0)

    def sums(rows: slice):
        tokens = weighted_sums(LOGITS[rows], TARGETS[rows], weights[rows], 0.0)
        return with_labels(tokens, scores[rows], labels[rows], weights[rows])

    whole, parts = sums(slice(4)), [sums(slice(2)), sums(slice(2, 4))]
    costs = optax.softmax_cross_entropy_with_integer_labels(scores, labels)[:3]
    expected = whole.nll / whole.weight + costs.mean()
    np.testing.assert_allclose(whole.objective / whole.weight, expected, rtol=1e-6)
    assert (float(whole.labels), float(whole.labels_correct)) == (3, float((scores.argmax(1) == labels)[:3].sum()))
    for one, two, both in zip(*parts, whole, strict=True):
        np.testing.assert_allclose(one + two, both, rtol=1e-6)


def test_several_labels_of_a_row_have_a_cross_entropy_each():
    scores = jnp.array([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    labels = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    chance = 1 / (1 + np.exp(-np.asarray(scores)))
    expected = -np.where(np.asarray(labels) > 0, np.log(chance), np.log(1 - chance)).mean(1)
    found = label_losses(scores, labels, "multi_label_classification")
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    sums = label_sums(scores, labels, jnp.ones(2), "multi_label_classification")
    assert (float(sums.correct), float(sums.weight)) == (1, 2)
    numbers = label_losses(scores, labels, "regression")
    np.testing.assert_allclose(numbers, np.square(np.asarray(scores) - np.asarray(labels)).mean(1), rtol=1e-6)
