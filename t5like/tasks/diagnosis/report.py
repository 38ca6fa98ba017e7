"""A diagnosis as a value, with a text for terminals and a form for JSON."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from t5like.data.aligned import aligned, shortened
from t5like.tasks.diagnosis.confusion import ClassScores, Confusion, classes_as_text
from t5like.tasks.diagnosis.outputs import Outputs
from t5like.tasks.metrics import METRICS

COLUMNS = 40
"""Columns of a text in the table of examples."""
Plain = str | float | None | list[str]


@dataclass(frozen=True)
class Baseline:
    """The score of one answer to everything: the majority class, or the most frequent text."""

    answer: Plain
    score: float


@dataclass(frozen=True)
class Band:
    """The score of the examples of some lengths."""

    shortest: int
    longest: int
    examples: int
    score: float


@dataclass(frozen=True)
class Example:
    """An example of the list, by its number from 0."""

    number: int
    value: float
    """Its own score; of numbers minus the distance."""
    certainty: float | None
    target: Plain
    prediction: Plain
    input: str


@dataclass(frozen=True)
class Diagnosis:
    """The reasons of a score; a part that the kind of targets does not have is None or empty."""

    metric: str
    main: str
    score: float
    examples: int
    baseline: Baseline | None
    no_label: int
    """Outputs that are no label or no number."""
    classes: tuple[ClassScores, ...]
    confusion: Confusion | None
    """Of labels, and of the tags of words."""
    outputs: Outputs | None
    length_of: str
    """The text whose length `by_length` goes by: the target, or the input of labels, numbers and tags."""
    by_length: tuple[Band, ...]
    worst: tuple[Example, ...]
    """The examples of the lowest values, those that the model was surest of first; none that are wholly right."""
    best: tuple[Example, ...]

    def as_json(self) -> dict[str, object]:
        """A dictionary that `json.dumps` takes."""
        return dataclasses.asdict(self)

    def as_text(self) -> str:
        """Sections for a terminal."""
        sections = [list(section) for section in self._sections()]
        return "\n\n".join("\n".join(line.rstrip() for line in section) for section in sections if section)

    def _sections(self) -> Iterator[Iterator[str]]:
        yield self._head()
        if self.classes:
            yield classes_as_text(self.classes)
        if self.confusion:
            yield self.confusion.as_text()
        if self.outputs:
            yield self.outputs.as_text()
        yield self._lengths()
        yield _examples("The worst", self.worst)
        yield _examples("The best", self.best)

    def _head(self) -> Iterator[str]:
        yield f"{self.main} {self.score:.2f} of {self.examples:,} examples"
        if self.baseline:
            answer = shortened(_shown(self.baseline.answer), COLUMNS)
            yield f"{self.main} {self.baseline.score:.2f} if the answer were always {answer!r}"
        if self.no_label:
            what = "number" if METRICS[self.metric].takes == "number" else "label"
            yield f"outputs that are no {what}: {self.no_label:,} ({self.no_label / self.examples:.1%})"

    def _lengths(self) -> Iterator[str]:
        if self.by_length:
            ends = [f"{b.shortest:,}" + f" to {b.longest:,}" * (b.longest > b.shortest) for b in self.by_length]
            rows = [(e, f"{b.examples:,}", f"{b.score:.2f}") for e, b in zip(ends, self.by_length, strict=True)]
            yield from aligned((f"length of the {self.length_of}", "examples", self.main), rows)


def _shown(value: Plain) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(value)
    return value if isinstance(value, str) else f"{value:.4g}"


def _examples(title: str, examples: Sequence[Example]) -> Iterator[str]:
    if examples:
        yield title
        sure = any(example.certainty is not None for example in examples)
        known = any(example.input for example in examples)
        header = ("example", "score", *["certainty"] * sure, "target", "prediction", *["input"] * known)
        rows = []
        for example in examples:
            figures = (f"{example.value:.2f}", *[_certainty(example)] * sure)
            texts = (
                shortened(_shown(t), COLUMNS) for t in (example.target, example.prediction, *[example.input] * known)
            )
            rows.append((f"{example.number:,}", *figures, *texts))
        yield from aligned(header, rows)


def _certainty(example: Example) -> str:
    return "-" if example.certainty is None else f"{example.certainty:.3f}"
