"""The loss: weighted cross-entropy on integer labels, as sums that are divided once at the end."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from t5like.config import Config
from t5like.train.labels import KINDS, cross_entropy


class TokenLosses(NamedTuple):
    """Costs of target tokens, `[batch, length]` float32: -log p, log Z, and 1 where the best guess is right."""

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
    numbers = jax.lax.broadcasted_iota(targets.dtype, logits.shape, logits.ndim - 1)
    label = jnp.sum(jnp.where(numbers == targets[..., None], logits, jnp.float32(0)), axis=-1)
    best = logits == jnp.max(logits, axis=-1, keepdims=True)
    guess = jnp.min(jnp.where(best, numbers, logits.shape[-1]), axis=-1)
    return TokenLosses(log_z - label, log_z, (guess == targets).astype(jnp.float32))


class Smoothing(NamedTuple):
    """Label smoothing (Szegedy et al. 2016): of each target, `share` is spread evenly over the first `tokens` rows of
    the vocabulary, which are all that are no padding of it."""

    share: float = 0.0
    tokens: int = 0


UNSMOOTHED = Smoothing()


def smoothing_of(config: Config) -> Smoothing:
    """The smoothing of a run's target tokens."""
    return Smoothing(config.train.label_smoothing, min(config.data.vocabulary.pieces, config.model.vocab))


def smoothed(losses: TokenLosses, scores: Float[Array, "*rows vocab"], smoothing: Smoothing) -> Float[Array, "*rows"]:
    """The cross-entropy with the targets (1 - share) one_hot + share / tokens, which is
    (1 - share) nll + share (log Z - mean score)."""
    if not smoothing.share:
        return losses.nll
    real = jax.lax.broadcasted_iota(jnp.int32, scores.shape, scores.ndim - 1) < smoothing.tokens
    mean = jnp.sum(jnp.where(real, scores.astype(jnp.float32), jnp.float32(0)), axis=-1) / smoothing.tokens
    return (1 - smoothing.share) * losses.nll + smoothing.share * (losses.log_z - mean)


class Ratio(NamedTuple):
    """A mean that is not divided yet: a sum of values and the sum of their weights, scalars."""

    total: Any
    count: Any

    def mean(self) -> Any:
        """The mean, on the host; 0 of nothing."""
        return self.total / (self.count or 1)


Sums = dict[str, Ratio]
"""Named means of a batch, to be added to those of others by `jax.tree.map` and divided once at the end. Each name is a
figure's in metrics.jsonl; training lowers that of `objective`."""


def ratio(values: Float[Array, "*items"], weights: Float[Array, "*items"]) -> Ratio:
    """The weighted mean of some values."""
    return Ratio(jnp.sum(weights * values), jnp.sum(weights))


def weighted_sums(
    logits: Float[Array, "batch length vocab"],
    targets: Int[Array, "batch length"],
    weights: Float[Array, "batch length"],
    z_loss: float,
    smoothing: Smoothing = UNSMOOTHED,
) -> Sums:
    """The batch's sums; `objective` is -log p, of smoothed targets, + z_loss * log(Z)^2."""
    losses = token_losses(logits, targets)
    return sums_of(losses, smoothed(losses, logits, smoothing), weights, z_loss)


def sums_of(losses: TokenLosses, cost: Float[Array, "*rows"], weights: Float[Array, "*rows"], z_loss: float) -> Sums:
    """The sums of tokens whose losses are known; `cost` is what training lowers, their smoothed cross-entropy."""
    return {
        "objective": ratio(cost + z_loss * jnp.square(losses.log_z), weights),
        "loss": ratio(losses.nll, weights),
        "accuracy": ratio(losses.correct, weights),
    }


def label_sums(
    scores: Float[Array, "*items scores"],
    labels: Num[Array, "..."],
    weights: Float[Array, "..."],
    kind: str,
    smoothing: float = 0.0,
    class_weights: tuple[float, ...] = (),
) -> Sums:
    """The sums of items that have labels of a kind, and nothing else to predict; an item counts as one target.

    Smoothing and the weights of classes are those of `objective` alone, which is divided by the weights of the items'
    own classes, as torch's CrossEntropyLoss is.
    """
    of_kind = KINDS[kind]
    loss = objective = ratio(of_kind.cost(scores, labels), weights)
    if class_weights:
        costs = cross_entropy(scores, labels, smoothing, class_weights)
        own = jnp.asarray(class_weights, jnp.float32)[labels]
        objective = Ratio(jnp.sum(weights * costs), jnp.sum(weights * own))
    elif smoothing:
        objective = ratio(of_kind.cost(scores, labels, smoothing), weights)
    sums = {"objective": objective, "loss": loss}
    if of_kind.correct is None:
        return sums
    right = ratio(of_kind.correct(scores, labels).astype(jnp.float32), weights)
    return sums | {"accuracy": right, "label_accuracy": right}


def with_labels(
    sums: Sums,
    scores: Float[Array, "batch labels"],
    labels: Int[Array, " batch"],
    weights: Float[Array, "batch length"],
) -> Sums:
    """The sums with those of the rows' classes; a label costs as much as all tokens of its row together.

    So the mean over tokens is the mean cost of a token plus the mean cost of a label, as in BERT, and it stays a sum
    that can be split. A row without weighted tokens has no label.
    """
    row = jnp.sum(weights, axis=1)
    total, count = sums["objective"]
    right = (jnp.argmax(scores, axis=-1) == labels).astype(jnp.float32)
    return sums | {
        "objective": Ratio(total + jnp.sum(row * cross_entropy(scores, labels)), count),
        "label_accuracy": ratio(right, (row > 0).astype(jnp.float32)),
    }
