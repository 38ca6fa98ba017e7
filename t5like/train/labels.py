"""Labels of rows and tokens: their form, their cost, and what scores predict, one entry of `KINDS` for each kind.

Scores are `[*items, scores]`, where an item is a row or a token; those of a span are `[rows, length, 2]`. The kind of a
model's labels is `model.label_problem`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from t5like.config import Model
from t5like.model.heads import ABSENT

Scores = Float[Array, "*items scores"]


@dataclass(frozen=True)
class Labels:
    """A kind of labels, of the type `dtype`: one for each score of an item if `each`, else one for the item.

    `cost` takes scores, labels and the share that is smoothed to the items' losses; `correct` takes scores and labels
    to whether they are right, None where labels are numbers; `predict` takes scores to labels.
    """

    dtype: str
    each: bool
    cost: Callable[..., Array]
    correct: Callable[[Any, Any], Array] | None
    predict: Callable[[Any], Array]


def cross_entropy(
    scores: Scores, labels: Int[Array, "*items"], smoothing: float = 0.0, class_weights: tuple[float, ...] = ()
) -> Float[Array, "*items"]:
    """-log softmax of each label's score.

    As in torch's CrossEntropyLoss, the class c weighs w_c, and `smoothing` s of the target goes to all C classes: the
    cost of the label y is -(1 - s) w_y log p_y - (s / C) sum_c w_c log p_c. Scores of `ABSENT` are those of no class.
    """
    scores = scores.astype(jnp.float32)
    label = jnp.take_along_axis(scores, labels[..., None], axis=-1)[..., 0]
    log_z = jax.nn.logsumexp(scores, axis=-1)
    if not smoothing and not class_weights:
        return log_z - label
    weights = jnp.asarray(class_weights or [1.0] * scores.shape[-1], jnp.float32)
    there = scores > ABSENT / 2
    each = jnp.where(there, jnp.einsum("...c,c->...c", log_z[..., None] - scores, weights), 0)
    even = jnp.sum(each, axis=-1) / jnp.sum(there, axis=-1, dtype=jnp.float32)
    return (1 - smoothing) * weights[labels] * (log_z - label) + smoothing * even


def span_cost(
    scores: Float[Array, "rows length 2"], labels: Int[Array, "rows 2"], smoothing: float = 0.0
) -> Float[Array, " rows"]:
    """The mean cross-entropy of the first and the last token over the row's tokens (Devlin et al. 2019)."""
    return jnp.mean(cross_entropy(jnp.swapaxes(scores, 1, 2), labels, smoothing), axis=-1)


def binary_cost(scores: Scores, labels: Num[Array, "*items scores"], smoothing: float = 0.0) -> Float[Array, "*items"]:
    """The mean binary cross-entropy of an item's labels, zeros and ones; `smoothing` s makes them s/2 and 1 - s/2."""
    scores, labels = scores.astype(jnp.float32), labels.astype(jnp.float32)
    if smoothing:
        labels = labels * (1 - smoothing) + smoothing / 2
    return jnp.mean(jax.nn.softplus(scores) - scores * labels, axis=-1)


def squared_error(scores: Scores, labels: Num[Array, "..."], smoothing: float = 0.0) -> Float[Array, "*items"]:
    """The mean squared error of an item's numbers, never smoothed; a single one needs no dimension of its own."""
    scores = scores.astype(jnp.float32)
    return jnp.mean(jnp.square(scores - labels.astype(jnp.float32).reshape(scores.shape)), axis=-1)


def _all_on(scores: Scores, labels: Num[Array, "*items scores"]) -> Bool[Array, "*items"]:
    return jnp.all((scores > 0) == (labels > 0), axis=-1)


KINDS = {
    "single_label_classification": Labels(
        dtype="int32",
        each=False,
        cost=cross_entropy,
        correct=lambda scores, labels: jnp.argmax(scores, axis=-1) == labels,
        predict=lambda scores: jnp.argmax(scores, axis=-1),
    ),
    "multi_label_classification": Labels(
        dtype="float32",
        each=True,
        cost=binary_cost,
        correct=_all_on,
        predict=lambda scores: (scores > 0).astype(jnp.float32),
    ),
    "regression": Labels(
        dtype="float32",
        each=True,
        cost=squared_error,
        correct=None,
        predict=lambda scores: scores,
    ),
    "span": Labels(
        dtype="int32",
        each=True,
        cost=span_cost,
        correct=lambda scores, labels: jnp.all(jnp.argmax(scores, axis=1) == labels, axis=-1),
        predict=lambda scores: jnp.argmax(scores, axis=1),
    ),
}


def label_losses(scores: Scores, labels: Num[Array, "..."], kind: str, smoothing: float = 0.0) -> Float[Array, "..."]:
    """The cost of each item's labels, float32."""
    return KINDS[kind].cost(scores, labels, smoothing)


def abstract_labels(model: Model, rows: int, length: int) -> jax.ShapeDtypeStruct:
    """Shape and type of the labels of a batch, of rows or, of the head `token`, of tokens."""
    kind = KINDS[model.label_problem]
    items = (rows, length) if model.head == "token" else (rows,)
    return jax.ShapeDtypeStruct((*items, model.label_scores) if kind.each else items, kind.dtype)
