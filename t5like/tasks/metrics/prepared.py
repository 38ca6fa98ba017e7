"""Sufficient statistics of a list of predictions, in the one form that all metrics give."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Weights = Float[np.ndarray, "resamples examples"]
"""Times that each example is counted in each resample."""
Counts = Float[np.ndarray, "*counts"]
Totals = Float[np.ndarray, " resamples"]
Weighed = Callable[[Weights], dict[str, Totals]]
"""The figures of lists in which each example stands as often as its weight says, one list for each row."""


@dataclass(frozen=True)
class Prepared:
    """Predictions beside their targets, reduced to what figures need of each example."""

    signature: str
    """All that the figures depend on besides the texts: tokeniser, normalisation, version."""
    values: Float[np.ndarray, " examples"]
    """The score of each example alone, higher is better: 0 to 100, or of numbers minus the distance."""
    weighed: Weighed


def share(part: Counts, whole: Counts, empty: float = 0.0) -> Counts:
    """`part / whole` in percent, and `empty` where there is nothing."""
    return 100 * np.divide(part, whole, out=np.full(np.shape(part), empty / 100), where=whole > 0)


def mean_of(values: Float[np.ndarray, "examples figures"], names: tuple[str, ...]) -> Weighed:
    """Figures that are means of the examples' values, which are 0 to 1."""

    def weighed(weights: Weights) -> dict[str, Totals]:
        sums = weights @ values
        return {name: share(sums[:, column], weights.sum(1)) for column, name in enumerate(names)}

    return weighed


def f1_of(hits: Counts, predicted: Counts, targets: Counts) -> Counts:
    """F1 in percent of counts; 0 where nothing occurs."""
    return share(2 * hits, predicted + targets)
