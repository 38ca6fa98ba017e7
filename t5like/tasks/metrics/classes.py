"""Accuracy, F1 and Matthews of labels, one or several an example, as scikit-learn defines them.

The classes are those of targets and predictions together. A prediction that is None is no label: it is wrong, lowers
the recall of its target, and is no class of its own in macro F1.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Float, Int

from t5like.tasks.metrics.prepared import Prepared, Totals, Weights, f1_of, share

ByClass = Float[np.ndarray, "resamples classes"]


@dataclass(frozen=True)
class Occurrences:
    """Pairs of an example and a class, such as the labels that are predicted."""

    examples: Int[np.ndarray, " pairs"]
    classes: Int[np.ndarray, " pairs"]
    names: tuple[str, ...]

    def totals(self, weights: Weights) -> ByClass:
        """Counts of the classes."""
        size = len(self.names)
        return np.stack([np.bincount(self.classes, row[self.examples], size) for row in weights]).astype(np.float64)


@dataclass(frozen=True)
class Counts:
    """Flags of classes that are predicted, are targets, and are both."""

    names: tuple[str, ...]
    predicted: Occurrences
    targets: Occurrences
    hits: Occurrences


def counted(predictions: Sequence[Collection[str]], targets: Sequence[Collection[str]]) -> Counts:
    """The classes of each example."""
    names = tuple(sorted({*chain.from_iterable(predictions), *chain.from_iterable(targets)}))
    both = [set(prediction) & set(target) for prediction, target in zip(predictions, targets, strict=True)]
    return Counts(names, *(_occurrences(sets, names) for sets in (predictions, targets, both)))


def _occurrences(sets: Sequence[Collection[str]], names: tuple[str, ...]) -> Occurrences:
    numbers = {name: number for number, name in enumerate(names)}
    pairs = [(example, numbers[name]) for example, found in enumerate(sets) for name in set(found)]
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return Occurrences(table[:, 0], table[:, 1], names)


def _f1(counts: Counts, weights: Weights) -> dict[str, Totals]:
    """Micro F1, and the mean F1 of the classes that occur."""
    hits, predicted, targets = (part.totals(weights) for part in (counts.hits, counts.predicted, counts.targets))
    occur = np.sum(predicted + targets > 0, 1)
    macro = np.sum(f1_of(hits, predicted, targets), 1) / np.maximum(occur, 1)
    return {"f1_macro": macro, "f1_micro": f1_of(hits.sum(1), predicted.sum(1), targets.sum(1))}


def _matthews(counts: Counts, weights: Weights) -> Totals:
    """The correlation of predicted and target classes (Gorodkin 2004), of which no label is one; 0 if either is
    constant."""
    hits, predicted, targets = (part.totals(weights) for part in (counts.hits, counts.predicted, counts.targets))
    total = weights.sum(1)
    missing = total - predicted.sum(1)
    covariance = hits.sum(1) * total - np.sum(predicted * targets, 1)
    spreads = [total**2 - np.sum(predicted**2, 1) - missing**2, total**2 - np.sum(targets**2, 1)]
    return share(covariance, np.sqrt(spreads[0] * spreads[1]))


def as_sets(labels: Sequence[str | None]) -> list[tuple[str, ...]]:
    """Sets of one label each, empty for None."""
    return [() if label is None else (label,) for label in labels]


def single_label(predictions: Sequence[str | None], targets: Sequence[str], chinese: bool) -> Prepared:
    """Accuracy, macro and micro F1, and Matthews. Micro F1 is the accuracy unless some outputs are no label."""
    counts = counted(as_sets(predictions), as_sets(targets))
    right = np.array([p == t for p, t in zip(predictions, targets, strict=True)], np.float64)

    def weighed(weights: Weights) -> dict[str, Totals]:
        accuracy = {"accuracy": share(weights @ right, weights.sum(1))}
        return accuracy | _f1(counts, weights) | {"matthews": _matthews(counts, weights)}

    return Prepared(f"labels|classes:{len(set(targets))}", 100 * right, weighed)


def several_labels(
    predictions: Sequence[Collection[str]], targets: Sequence[Collection[str]], chinese: bool
) -> Prepared:
    """Micro and macro F1 over the classes, and the share of examples whose set is exactly right. An example's own value
    is the F1 of its set, and 100 if both are empty."""
    counts = counted(predictions, targets)
    sets = [(set(prediction), set(target)) for prediction, target in zip(predictions, targets, strict=True)]
    right = np.array([prediction == target for prediction, target in sets], np.float64)
    values = [200 * len(p & t) / (len(p) + len(t)) if p or t else 100.0 for p, t in sets]

    def weighed(weights: Weights) -> dict[str, Totals]:
        return _f1(counts, weights) | {"subset_accuracy": share(weights @ right, weights.sum(1))}

    classes = set(chain.from_iterable(targets))
    return Prepared(f"label sets|classes:{len(classes)}", np.array(values), weighed)
