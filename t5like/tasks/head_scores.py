"""Predictions of models with a head: scores of the rows of examples, and the way back to labels, words and texts."""

import functools
from collections.abc import Callable, Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from t5like.config.tasks import Task
from t5like.data.example import Example
from t5like.data.ragged import Ragged
from t5like.data.tasks.encode import Encoded, encode_example
from t5like.data.vocabulary import Vocabulary
from t5like.model.network import Network
from t5like.model.sharding import Params, row_parts, shard
from t5like.model.transformer import Transformer
from t5like.signals import uninterrupted
from t5like.tasks.likelihood import rows_of
from t5like.tasks.prediction import Prediction

LONGEST_ANSWER = 40
"""Tokens of the longest answer that stands in a context."""
Rows = list[tuple[Encoded, np.ndarray]]
"""The rows of an example and the scores of each."""


def head_predictions(
    network: Network,
    vocabulary: Vocabulary,
    task: Task,
    params: Params,
    examples: Sequence[Example],
    batch: int,
    between: Callable[[], None] = uninterrupted,
) -> list[Prediction]:
    """The predictions for examples, in their order; `between` is called before each batch."""
    data = network.config.data
    encoded = [encode_example(example, task, data, vocabulary) for example in examples]
    rows = [(number, row) for number, own in enumerate(encoded) for row in own]
    scores = _all_scores(network, vocabulary, params, [row for _, row in rows], batch, between)
    by_example: list[Rows] = [[] for _ in examples]
    for (number, row), score in zip(rows, scores, strict=True):
        by_example[number].append((row, score))
    predict = PREDICT[data.objective.kind]
    return [predict(task, example, own) for example, own in zip(examples, by_example, strict=True)]


def _all_scores(
    network: Network,
    vocabulary: Vocabulary,
    params: Params,
    rows: Sequence[Encoded],
    batch: int,
    between: Callable[[], None],
) -> list[np.ndarray]:
    """The scores of each row, computed in the order of their lengths."""
    net = network.inference_net
    order = sorted(range(len(rows)), key=lambda number: len(rows[number].tokens))
    count = batch if len(rows) >= batch else len(rows)
    count += -count % row_parts(net.rules)
    found: list[np.ndarray] = [np.zeros(0)] * len(rows)
    for start in range(0, len(order), count):
        between()
        numbers = order[start : start + count]
        full = [rows[n] for n in [*numbers, *[numbers[-1]] * (count - len(numbers))]]
        parts = tuple(_ragged([getattr(row, name) for row in full]) for name in ("tokens", "widths", "labels"))
        features = rows_of(parts, network, vocabulary)
        scores = _scores(params, {name: jnp.asarray(x) for name, x in features.items()}, net)
        for number, score in zip(numbers, np.asarray(jax.device_get(scores)), strict=False):
            found[number] = score
    return found


def _ragged(sequences: Sequence[Sequence[int]]) -> Ragged:
    values = np.array([value for sequence in sequences for value in sequence], np.int32)
    return Ragged(values, np.array(list(map(len, sequences)), np.int64))


@functools.partial(jax.jit, static_argnames="net")
def _scores(params: Params, features: dict[str, Array], net: Transformer) -> Float[Array, "rows *scores"]:
    scores = cast(Array, net.apply({"params": params}, features, method=Transformer.scores).labels)  # pyright: ignore[reportAttributeAccessIssue]
    return shard(scores, net.rules, *[None] * scores.ndim)  # whole on every process


def _label(task: Task, example: Example, rows: Rows) -> Prediction:
    names = example.candidates or task.labels
    shares = _softmax(rows[0][1][: len(names)])
    return Prediction(names[int(np.argmax(shares))], dict(zip(names, map(float, shares), strict=True)))


def _labels(task: Task, example: Example, rows: Rows) -> Prediction:
    shares = 1 / (1 + np.exp(-rows[0][1].astype(np.float64)))
    chosen = tuple(label for label, share in zip(task.labels, shares, strict=True) if share > 0.5)
    return Prediction(chosen, dict(zip(task.labels, map(float, shares), strict=True)))


def _number(task: Task, example: Example, rows: Rows) -> Prediction:
    return Prediction(float(rows[0][1][0]), {})


def _tags(task: Task, example: Example, rows: Rows) -> Prediction:
    tags: list[str] = []
    for row, scores in rows:
        tags += [task.labels[int(np.argmax(scores[anchor]))] for anchor in row.anchors]
    return Prediction(tuple(tags), {})


def _span(task: Task, example: Example, rows: Rows) -> Prediction:
    """The likeliest span of all windows by the sum of its two scores (Devlin et al. 2019), or none."""
    best, none, text = -np.inf, np.inf, ""
    for row, scores in rows:
        inside = np.array([begin >= 0 for begin, _ in row.spans])
        start, end = scores[: len(inside), 0].astype(np.float64), scores[: len(inside), 1].astype(np.float64)
        none = min(none, float(start[0] + end[0]))
        sums = np.where(inside[:, None] & inside[None, :], start[:, None] + end[None, :], -np.inf)
        sums = np.triu(sums) + np.where(np.tri(len(inside), k=-1, dtype=bool), -np.inf, 0)
        sums = np.where(np.tri(len(inside), k=LONGEST_ANSWER - 1, dtype=bool), sums, -np.inf)
        first, last = np.unravel_index(int(np.argmax(sums)), sums.shape)
        if sums[first, last] > best:
            best = float(sums[first, last])
            text = example.second[row.spans[first][0] : row.spans[last][1]]
    answered = best >= none or not task.unanswerable
    return Prediction(text.strip() if answered else "", {"answer": best, "none": none})


def _softmax(scores: np.ndarray) -> np.ndarray:
    shares = np.exp(scores.astype(np.float64) - scores.max())
    return shares / shares.sum()


PREDICT: dict[str, Callable[[Task, Example, Rows], Prediction]] = {
    "classification": _label,
    "multi_label_classification": _labels,
    "regression": _number,
    "token_classification": _tags,
    "span": _span,
    "multiple_choice": _label,
}
"""The way from scores to a prediction, by the kind of objective."""
