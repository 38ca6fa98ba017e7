"""Correlations of numbers: Pearson's, and Spearman's with average ranks for ties.

A prediction that is None or not finite is no number; it counts as the mean of the others, which says nothing about its
target. Where all predictions or all targets are the same there is no correlation, and the score is 0.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from t5like.errors import UserError
from t5like.tasks.metrics.prepared import Prepared, Totals, Weights

Number = float | int
Numbers = Float[np.ndarray, " examples"]
Many = Float[np.ndarray, "#resamples examples"]
NO_SPREAD = 1e-24
"""Variances up to this share of the whole list's are those of equal numbers, but for rounding."""


def correlations(predictions: Sequence[Number | None], targets: Sequence[Number], chinese: bool) -> Prepared:
    """Pearson's and Spearman's correlation. An example's own value is minus the distance of both numbers.

    Raises:
      UserError: a target is not finite.
    """
    x, y = filled(predictions), np.array(targets, np.float64)
    if not np.isfinite(y).all():
        raise UserError(f"The target of example {int(np.argmin(np.isfinite(y))) + 1:,} is not a finite number.")
    standard_x, standard_y, rank_x, rank_y = _standard(x), _standard(y), ranker(x), ranker(y)

    def weighed(weights: Weights) -> dict[str, Totals]:
        ranked = correlation(rank_x(weights), rank_y(weights), weights)
        return {"pearson": correlation(standard_x, standard_y, weights), "spearman": ranked}

    return Prepared("correlation|ties:average", 0.0 - np.abs(x - y), weighed)


def is_number(value: Number | None) -> bool:
    """False for None, nan and infinity."""
    return value is not None and math.isfinite(value)


def filled(predictions: Sequence[Number | None]) -> Numbers:
    """The predictions as an array, with the mean of the numbers for those that are none."""
    numbers = np.array([value if is_number(value) else np.nan for value in predictions], np.float64)
    known = np.isfinite(numbers)
    return np.where(known, numbers, numbers[known].mean() if known.any() else 0.0)


def _standard(values: Numbers) -> Many:
    """Values of mean 0 and spread 1, so that products stay exact; zeros if all are the same."""
    if values.min() == values.max():
        return np.zeros((1, len(values)))
    return ((values - values.mean()) / values.std())[None]


def correlation(x: Many, y: Many, weights: Weights) -> Totals:
    """Pearson's correlation in percent, of `x` and `y` of unit scale."""
    total = weights.sum(1)
    x, y = (values - (np.sum(weights * values, 1) / total)[:, None] for values in (x, y))
    covariance, *variances = (np.sum(weights * a * b, 1) / total for a, b in ((x, y), (x, x), (y, y)))
    spread = (variances[0] > NO_SPREAD) & (variances[1] > NO_SPREAD)
    ratio = np.divide(covariance, np.sqrt(variances[0] * variances[1]), out=np.zeros_like(covariance), where=spread)
    return 100 * np.clip(ratio, -1, 1)


def ranker(values: Numbers) -> Callable[[Weights], Many]:
    """The function from weights to the average rank of each example, as a share of the length.

    Of values 3, 5, 5, 9 with weights 1, 1, 2, 0 the ranks are 1, 3, 3 and 4.5: the three fives share 2 to 4.
    """
    order = np.argsort(values, kind="stable")
    _, groups, sizes = np.unique(values, return_inverse=True, return_counts=True)
    starts = np.cumsum(sizes) - sizes

    def ranks(weights: Weights) -> Many:
        counts = np.add.reduceat(weights[:, order], starts, axis=1)
        ranks = np.cumsum(counts, axis=1) - counts + (counts + 1) / 2
        return ranks[:, groups] / weights.sum(1)[:, None]

    return ranks
