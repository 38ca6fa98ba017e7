"""Scores of single classes, and which class is taken for which."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from t5like.data.aligned import aligned, shortened

NO_LABEL = "(no label)"
IN_TEXT = 12
"""Most classes of a table on a terminal."""
HEAD = 10
"""Columns of the head of one of its columns."""
MISTAKES = 10
"""Mistakes that are listed."""


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of a class in percent, and how often it is a target and is predicted."""

    name: str
    precision: float
    recall: float
    f1: float
    targets: int
    predicted: int


def class_scores(hits: Counter[str], predicted: Counter[str], targets: Counter[str]) -> tuple[ClassScores, ...]:
    """The scores of each class that occurs, by name; 0 where there is nothing to divide by."""
    found = []
    for name in sorted(predicted | targets):
        right, said, wanted = hits[name], predicted[name], targets[name]
        shares = (100 * right / max(said, 1), 100 * right / max(wanted, 1), 200 * right / (said + wanted))
        found.append(ClassScores(name, *shares, wanted, said))
    return tuple(found)


def classes_as_text(scores: Sequence[ClassScores]) -> Iterator[str]:
    """A line for each class."""
    rows = [
        (s.name, *(f"{figure:.1f}" for figure in (s.precision, s.recall, s.f1)), f"{s.targets:,}", f"{s.predicted:,}")
        for s in scores
    ]
    yield from aligned(("class", "precision", "recall", "F1", "targets", "predicted"), rows)


@dataclass(frozen=True)
class Confusion:
    """Counts of each prediction for each target."""

    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    """A row for each target; its columns are the predicted classes in the same order, and last what is no label."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns, without that of no label where every output is one."""
        return (*self.names, NO_LABEL)[: len(self.names) + any(row[-1] for row in self.counts)]

    def mistakes(self) -> list[tuple[int, str, str]]:
        """Count, target and prediction of those that are wrong, the most frequent first."""
        names = (*self.names, NO_LABEL)
        found = [
            (count, self.names[target], names[predicted])
            for target, row in enumerate(self.counts)
            for predicted, count in enumerate(row)
            if count and target != predicted
        ]
        return sorted(found, key=lambda mistake: -mistake[0])

    def reduced(self, most: int) -> "Confusion":
        """At most `most` classes: those with most mistakes, and the others together as the last."""
        if len(self.names) <= most:
            return self
        wrong: Counter[str] = Counter()
        for count, target, predicted in self.mistakes():
            wrong.update({target: count, predicted: count})
        kept = set(sorted(self.names, key=lambda name: -wrong[name])[: most - 1])
        names = (*(name for name in self.names if name in kept), f"({len(self.names) - len(kept)} others)")
        group = [names.index(name) if name in kept else most - 1 for name in self.names]
        counts = [[0] * (most + 1) for _ in names]
        for target, row in zip(group, self.counts, strict=True):
            for predicted, count in zip((*group, most), row, strict=True):
                counts[target][predicted] += count
        return Confusion(names, tuple(map(tuple, counts)))

    def as_text(self) -> Iterator[str]:
        """The table, and the most frequent mistakes."""
        small = self.reduced(IN_TEXT)
        shown = len(small.columns)
        rows = [
            (name, *(f"{count:,}" if count else "." for count in row[:shown]))
            for name, row in zip(small.names, small.counts, strict=True)
        ]
        yield from aligned(("target \\ predicted", *(shortened(name, HEAD) for name in small.columns)), rows)
        if mistakes := self.mistakes()[:MISTAKES]:
            yield ""
            rows = [(target, predicted, f"{count:,}") for count, target, predicted in mistakes]
            yield from aligned(("target", "taken for", "times"), rows)


def confusion(predictions: Iterable[str | None], targets: Iterable[str]) -> Confusion:
    """The table of targets and predictions, of which None is no label; classes stand by name."""
    pairs = Counter(zip(targets, predictions, strict=True))
    names = sorted({name for pair in pairs for name in pair if name is not None})
    return Confusion(tuple(names), tuple(tuple(pairs[t, p] for p in (*names, None)) for t in names))
