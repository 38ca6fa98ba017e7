"""The accuracy of a classifier that guesses labels from features, to show that these tell nothing of them."""

from typing import NamedTuple

import numpy as np


class Split(NamedTuple):
    """A node of a decision tree: which feature, up to where it belongs to the left, and both children or shares."""

    feature: int
    most: float
    left: "Split | float"
    right: "Split | float"


def grow(features: np.ndarray, labels: np.ndarray, depth: int, least: int = 50) -> Split | float:
    """A tree whose splits make the children's labels as uniform as one split can (Gini), `least` examples in each."""
    share = float(labels.mean())
    cuts = [cut for n in range(features.shape[1]) if (cut := _best_cut(features[:, n], labels, least))]
    if not depth or not cuts:
        return share
    feature, (_, most) = min(
        enumerate(_best_cut(column, labels, least) or (np.inf, 0.0) for column in features.T),
        key=lambda pair: pair[1][0],
    )
    left = features[:, feature] <= most
    children = (grow(features[own], labels[own], depth - 1, least) for own in (left, ~left))
    return Split(feature, most, *children)


def _best_cut(column: np.ndarray, labels: np.ndarray, least: int) -> tuple[float, float] | None:
    """The impurity that the best cut of a feature leaves, and where it is."""
    order = np.argsort(column, kind="stable")
    values, sums = column[order], np.cumsum(labels[order])
    last = np.flatnonzero(values[1:] > values[:-1])
    last = last[(last + 1 >= least) & (len(labels) - last - 1 >= least)]
    if not last.size:
        return None
    left, right = last + 1, len(labels) - last - 1
    impurity = sums[last] * (1 - sums[last] / left) + (sums[-1] - sums[last]) * (1 - (sums[-1] - sums[last]) / right)
    best = int(np.argmin(impurity))
    return float(impurity[best]), float(values[last[best]] + values[last[best] + 1]) / 2


def predict(tree: Split | float, features: np.ndarray) -> np.ndarray:
    if not isinstance(tree, Split):
        return np.full(len(features), tree)
    left, shares = features[:, tree.feature] <= tree.most, np.empty(len(features))
    shares[left], shares[~left] = predict(tree.left, features[left]), predict(tree.right, features[~left])
    return shares


def accuracy(train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], depth: int) -> float:
    """The share of the test's labels that a tree of the training examples guesses."""
    tree = grow(*train, depth)
    return float(((predict(tree, test[0]) > 0.5) == test[1]).mean())
