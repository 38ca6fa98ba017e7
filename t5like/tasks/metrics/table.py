"""The metrics by name, and which of them a task's targets take."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from t5like.errors import UserError, did_you_mean
from t5like.tasks.metrics.answers import cmrc, squad
from t5like.tasks.metrics.classes import several_labels, single_label
from t5like.tasks.metrics.numbers import correlations
from t5like.tasks.metrics.prepared import Prepared
from t5like.tasks.metrics.tags import entities, tag_accuracy
from t5like.tasks.metrics.texts import bleu, chrf, exact_match, rouge, tokenized_bleu

Takes = Literal["label", "labels", "number", "text", "answer", "tags"]
TARGETS = {
    "label": "labels",
    "labels": "sets of labels",
    "number": "numbers",
    "text": "texts",
    "answer": "answers",
    "tags": "tags of words",
}
"""The name of each kind of targets in sentences.

    label    str; a prediction that is no label is None
    labels   a collection of str, for predictions too
    number   float; a prediction that is no number is None
    text     str, or a tuple of references
    answer   a tuple of right answers, empty if there is none; the prediction "" says so
    tags     a sequence of str
"""


@dataclass(frozen=True)
class Metric:
    """A metric: the figures that it gives of a list of predictions."""

    name: str
    takes: Takes
    main: str
    """The figure that checkpoints are chosen by; higher is better."""
    prepare: Callable[[Sequence, Sequence, bool], Prepared]
    """Reduces predictions and targets, in Chinese or not, to their statistics."""


METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", "label", "accuracy", single_label),
        Metric("f1", "label", "f1_macro", single_label),
        Metric("matthews", "label", "matthews", single_label),
        Metric("multi_label_f1", "labels", "f1_micro", several_labels),
        Metric("subset_accuracy", "labels", "subset_accuracy", several_labels),
        Metric("pearson", "number", "pearson", correlations),
        Metric("spearman", "number", "spearman", correlations),
        Metric("exact_match", "text", "exact_match", exact_match),
        Metric("bleu", "text", "bleu", bleu),
        Metric("tokenized_bleu", "text", "bleu", tokenized_bleu),
        Metric("chrf", "text", "chrf", chrf),
        Metric("rouge", "text", "rougeL", rouge),
        Metric("squad", "answer", "f1", squad),
        Metric("cmrc", "answer", "f1", cmrc),
        Metric("entities", "tags", "f1", entities),
        Metric("tag_accuracy", "tags", "tag_accuracy", tag_accuracy),
    )
}


def fitting(takes: str) -> list[str]:
    """The names of the metrics of a kind of targets, the usual one first."""
    return [metric.name for metric in METRICS.values() if metric.takes == takes]


def check(metric: str, takes: str) -> None:
    """Raises unless a metric fits a kind of targets.

    Raises:
      UserError: there is no such metric, or it compares other things.
    """
    if metric not in METRICS:
        raise UserError(f"There is no metric {metric!r}{did_you_mean(metric, METRICS, _choose(takes))}")
    if METRICS[metric].takes != takes:
        compared, given = TARGETS[METRICS[metric].takes], TARGETS[takes]
        raise UserError(
            f"The metric {metric!r} compares {compared}, and the targets here are {given}: {_choose(takes)}."
        )


def _choose(takes: str) -> str:
    return f"choose {' or '.join(fitting(takes))}"


def prepare(metric: str, predictions: Sequence, targets: Sequence, chinese: bool = False) -> Prepared:
    """The statistics of a list of predictions.

    Raises:
      UserError: there is no such metric, or the lists do not fit each other or it.
    """
    if metric not in METRICS:
        raise UserError(f"There is no metric {metric!r}{did_you_mean(metric, METRICS)}")
    if len(predictions) != len(targets):
        raise UserError(
            f"There are {len(predictions):,} predictions and {len(targets):,} targets: each prediction needs its own."
        )
    if not targets:
        raise UserError(f"There are no examples that {metric!r} could score: the split is empty.")
    return METRICS[metric].prepare(predictions, targets, chinese)
