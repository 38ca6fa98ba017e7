"""Figures of a whole list, and their bootstrap intervals."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from t5like.tasks.metrics.prepared import Prepared, Weights
from t5like.tasks.metrics.table import prepare

BLOCK = 2_000_000
"""Weights that are drawn at once, so that long lists take no more memory than short ones."""
INTERVAL = (2.5, 97.5)
"""Percentiles."""


@dataclass(frozen=True)
class Scores:
    """The figures of a list of predictions."""

    figures: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    """The 95 % interval of each figure (Efron 1979): percentiles over resamples of the examples, widened to the figure
    itself where a biased one lies outside."""
    signature: str


def figures(metric: str, predictions: Sequence, targets: Sequence, chinese: bool = False) -> dict[str, float]:
    """The figures of a metric over a whole list.

    Raises:
      UserError: there is no such metric, or the lists do not fit each other or it.
    """
    return figures_of(prepare(metric, predictions, targets, chinese))


def score(
    metric: str,
    predictions: Sequence,
    targets: Sequence,
    *,
    chinese: bool = False,
    seed: int = 0,
    resamples: int = 1000,
) -> Scores:
    """The figures with their intervals. `chinese` takes the tokens of Chinese where a metric has tokens.

    Raises:
      UserError: there is no such metric, or the lists do not fit each other or it.
    """
    prepared = prepare(metric, predictions, targets, chinese)
    whole = figures_of(prepared)
    blocks = [prepared.weighed(weights) for weights in resampled(len(targets), resamples, seed)]
    intervals = {}
    for name, figure in whole.items():
        low, high = np.nanpercentile(np.concatenate([block[name] for block in blocks]), INTERVAL)
        intervals[name] = (min(float(low), figure), max(float(high), figure))
    return Scores(whole, intervals, prepared.signature)


def figures_of(prepared: Prepared) -> dict[str, float]:
    """The figures of the list as it is."""
    once = np.ones((1, len(prepared.values)))
    return {name: float(totals[0]) for name, totals in prepared.weighed(once).items()}


def resampled(examples: int, resamples: int, seed: int) -> Iterator[Weights]:
    """Blocks of weights: each row says how often each example is drawn when as many as there are are drawn with
    replacement."""
    generator = np.random.default_rng(seed)
    together = max(1, BLOCK // examples)
    for start in range(0, resamples, together):
        rows = min(together, resamples - start)
        drawn = generator.integers(examples, size=(rows, examples)) + np.arange(rows)[:, None] * examples
        yield np.bincount(drawn.ravel(), minlength=rows * examples).reshape(rows, examples).astype(np.float64)
