"""The loss: weighted cross-entropy on integer labels, as sums that are divided once at the end."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class TokenLosses(NamedTuple):
    """What each target token costs, `[batch, length]` float32: -log p, log(Z)^2 and whether the best guess is right."""

    nll: Array
    log_z_squared: Array
    correct: Array


def token_losses(logits: Float[Array, "batch length vocab"], targets: Int[Array, "batch length"]) -> TokenLosses:
    """The costs of every target, in float32.

    The label's logit is found by a comparison and a sum, which XLA fuses into the reduction that log Z needs, so
    that forward and backward pass hold no one-hot labels and no scattered gradient.
    """
    logits = logits.astype(jnp.float32)
    log_z = jax.nn.logsumexp(logits, axis=-1)
    is_label = jnp.arange(logits.shape[-1], dtype=targets.dtype)[None, None] == targets[:, :, None]
    label = jnp.sum(jnp.where(is_label, logits, jnp.float32(0)), axis=-1)
    correct = (jnp.argmax(logits, axis=-1) == targets).astype(jnp.float32)
    return TokenLosses(log_z - label, jnp.square(log_z), correct)


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
    losses = token_losses(logits, targets)
    objective = jnp.sum(weights * (losses.nll + z_loss * losses.log_z_squared))
    none = jnp.zeros((), jnp.float32)
    sums = jnp.sum(weights * losses.nll), jnp.sum(weights * losses.correct), jnp.sum(weights)
    return Sums(objective, *sums, none, none)


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
    nll = jax.nn.logsumexp(scores, axis=-1) - jnp.take_along_axis(scores, labels[:, None], axis=1)[:, 0]
    real = (row > 0).astype(jnp.float32)
    correct = (jnp.argmax(scores, axis=-1) == labels).astype(jnp.float32)
    return sums._replace(
        objective=sums.objective + jnp.sum(row * nll),
        labels_correct=jnp.sum(real * correct),
        labels=jnp.sum(real),
    )
