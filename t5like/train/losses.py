"""The loss: weighted cross-entropy on integer labels, as sums that are divided once at the end."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num


class TokenLosses(NamedTuple):
    """What each target token costs, `[batch, length]` float32: -log p, log Z and whether the best guess is right."""

    nll: Array
    log_z: Array
    correct: Array


def token_losses(logits: Float[Array, "*rows vocab"], targets: Int[Array, "*rows"]) -> TokenLosses:
    """The costs of every target, in float32.

    The label's logit is found by a comparison and a sum, which XLA fuses into the reduction that log Z needs, so
    that forward and backward pass hold no one-hot labels and no scattered gradient. The best guess is found by a
    maximum and a minimum, which, other than an argmax, are taken where a vocabulary's parts are.
    """
    logits = logits.astype(jnp.float32)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    places = jax.lax.broadcasted_iota(targets.dtype, logits.shape, logits.ndim - 1)
    label = jnp.sum(jnp.where(places == targets[..., None], logits, jnp.float32(0)), axis=-1)
    best = logits == jnp.max(logits, axis=-1, keepdims=True)
    guess = jnp.min(jnp.where(best, places, logits.shape[-1]), axis=-1)
    return TokenLosses(log_z - label, log_z, (guess == targets).astype(jnp.float32))


def label_losses(
    scores: Float[Array, "batch *length labels"], labels: Num[Array, "batch *ends"], problem: str | None = None
) -> Float[Array, " batch"]:
    """The cost of each row's labels, float32, by `model.problem_type`; None is one label, or a number for one score.

    One label costs its cross-entropy; several, `[batch, labels]` of zeros and ones, the mean of a binary cross-entropy
    for each; numbers, `[batch]` or `[batch, labels]`, the mean squared error. Of spans, `scores` are `[batch, length,
    2]` and `labels` the first and last place, `[batch, 2]`; the cost is the mean of the two cross-entropies over the
    row's places (Devlin et al. 2019).
    """
    if scores.ndim == 3:
        return jnp.mean(_cross_entropy(jnp.swapaxes(scores, 1, 2), labels), axis=-1)
    scores = scores.astype(jnp.float32)
    if problem == "multi_label_classification":
        wanted = labels.astype(jnp.float32)
        return jnp.mean(jax.nn.softplus(scores) - scores * wanted, axis=-1)
    if problem == "regression" or (problem is None and scores.shape[-1] == 1):
        return jnp.mean(jnp.square(scores - labels.astype(jnp.float32).reshape(scores.shape)), axis=-1)
    return _cross_entropy(scores, labels)


def _cross_entropy(scores: Float[Array, "*rows classes"], labels: Int[Array, "*rows"]) -> Float[Array, "*rows"]:
    scores = scores.astype(jnp.float32)
    label = jnp.take_along_axis(scores, labels[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(scores, axis=-1) - label


class Sums(NamedTuple):
    """Sums over the weighted tokens of a batch, and over its labelled rows; any two may be added. All are float32
    scalars."""

    objective: Array
    nll: Array
    correct: Array
    weight: Array
    labels_correct: Array
    labels: Array


def weighted_sums(
    logits: Float[Array, "batch length vocab"],
    targets: Int[Array, "batch length"],
    weights: Float[Array, "batch length"],
    z_loss: float,
) -> Sums:
    """The batch's sums; `objective`, what training lowers, is -log p + z_loss * log(Z)^2."""
    return sums_of(token_losses(logits, targets), weights, z_loss)


def sums_of(losses: TokenLosses, weights: Float[Array, "*rows"], z_loss: float) -> Sums:
    """The sums of tokens whose costs are known."""
    objective = jnp.sum(weights * (losses.nll + z_loss * jnp.square(losses.log_z)))
    none = jnp.zeros((), jnp.float32)
    sums = jnp.sum(weights * losses.nll), jnp.sum(weights * losses.correct), jnp.sum(weights)
    return Sums(objective, *sums, none, none)


def label_sums(
    scores: Float[Array, "batch *length labels"],
    labels: Num[Array, "batch *ends"],
    real: Float[Array, " batch"],
    problem: str | None = None,
) -> Sums:
    """The sums of rows that have labels and nothing else to predict; a row counts as one target.

    A span is right if both of its ends are, several labels if all of them are; a number never is.
    """
    nll = label_losses(scores, labels, problem)
    if scores.ndim == 3:
        right = jnp.all(jnp.argmax(scores, axis=1) == labels, axis=-1)
    elif problem == "multi_label_classification":
        right = jnp.all((scores > 0) == (labels > 0), axis=-1)
    elif problem == "regression" or scores.shape[-1] == 1:
        right = jnp.zeros_like(real, bool)
    else:
        right = jnp.argmax(scores, axis=-1) == labels
    total, correct, count = jnp.sum(real * nll), jnp.sum(real * right.astype(jnp.float32)), jnp.sum(real)
    return Sums(total, total, correct, count, correct, count)


def with_labels(
    sums: Sums,
    scores: Float[Array, "batch labels"],
    labels: Int[Array, " batch"],
    weights: Float[Array, "batch length"],
) -> Sums:
    """The sums with those of the rows' labels; a label costs as much as all tokens of its row together.

    So the mean over tokens is the mean cost of a token plus the mean cost of a label, as in BERT, and it stays a sum
    that can be split. A row without weighted tokens has no label.
    """
    row = jnp.sum(weights, axis=1)
    nll = label_losses(scores, labels)
    real = (row > 0).astype(jnp.float32)
    correct = (jnp.argmax(scores, axis=-1) == labels).astype(jnp.float32)
    return sums._replace(
        objective=sums.objective + jnp.sum(row * nll),
        labels_correct=jnp.sum(real * correct),
        labels=jnp.sum(real),
    )
