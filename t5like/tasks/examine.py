"""The examples of a task in surveyed files: how many each split has, their labels and lengths, and what is wrong.

Files that are missing a split have it cut by hash, just as preparation cuts it.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from t5like.config import Source, Task
from t5like.config.tasks import LABELLED
from t5like.data.example import Example
from t5like.data.sources import Row, rows_of
from t5like.data.sources.faults import Faults
from t5like.data.splits import AnySplit, Shares, left_to_hash, split_by_hash
from t5like.data.tasks.examples import SETTING, examples_of
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.tasks.asked import Asked
from t5like.tasks.lengths import Count, Lengths, measure
from t5like.tasks.survey import Column, Survey

SHARE = 0.1
"""Share of the examples that is held out where a split is missing."""
MOST_HELD_OUT = 5_000
"""Examples that are held out of large files."""
MOST_OVERLAP = 0.05
"""Largest share of test examples that may be training examples too."""
MEASURED = 20_000
"""Examples of a split whose lengths are measured."""
COLUMN = {"classify": "--task regress, or --task text to write it", "pair": "--task regress"}


@dataclass
class Facts:
    """Facts of the examples of a split."""

    count: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    groups: set[str] = field(default_factory=set)
    """Names of different questions."""
    sample: list[Example] = field(default_factory=list)
    candidates: int = 0
    """The most candidates of an example."""
    unanswerable: int = 0

    @property
    def duplicates(self) -> int:
        """Examples whose question came before."""
        return self.count - len(self.groups)

    def add(self, example: Example) -> None:
        self.count += 1
        self.groups.add(f"{example.group} {example.turn}")
        self.candidates = max(self.candidates, len(example.candidates))
        self.unanswerable += example.target == ()
        if self.count <= MEASURED:
            self.sample.append(example)
        match example.target:
            case str() if len(example.target) < 200:
                self.labels[example.target] += 1
            case tuple() if example.words:
                self.labels.update(map(str, example.target))
            case tuple():
                self.labels.update(each for each in example.target if isinstance(each, str) and len(each) < 200)


@dataclass
class Examined:
    """A task in its files."""

    source: Source
    """With the task."""
    shares: Shares
    """The shares that a hash cuts off the training files, as far as splits have none of their own."""
    facts: dict[AnySplit, Facts]
    notes: list[str]

    @property
    def task(self) -> Task:
        assert self.source.task is not None
        return self.source.task

    @property
    def overlap(self) -> int:
        """Test examples whose question is among the training ones."""
        return len(self.facts["train"].groups & self.facts["test"].groups) if "test" in self.facts else 0

    def lengths(self, kind: str, count: Count, vocabulary: Vocabulary | None) -> Lengths:
        """The lengths of the training and validation examples for the objective `kind`."""
        sample = [example for split in ("train", "validation") for example in self.facts[split].sample]
        return measure(sample, self.task, kind, count, vocabulary)


def task_of(survey: Survey, asked: Asked) -> Task:
    """The task of a user's wishes, with the labels of the training rows.

    Raises:
      UserError: the labels are none, or the task is not whole.
    """
    kind = asked.task or "classify"
    labels = asked.labels or (_labels(survey, asked) if kind in LABELLED else ())
    fields = {name: getattr(asked, name) for name in ("second", "context", "candidates", "prompt", "metric")}
    target = {} if kind == "chat" else {"target": asked.target}
    column = survey.columns.get(asked.target)
    target |= {"unanswerable": True} if kind == "span" and column and column.missing else {}
    chinese = _is_chinese(survey, asked.target)
    return Task(
        kind=kind, input=asked.input, labels=labels, multi_label=asked.multi_label, chinese=chinese, **target, **fields
    )  # pyright: ignore[reportArgumentType]


def examine(
    survey: Survey, task: Task, allow_overlap: bool = False, shares: Mapping[str, float] | None = None
) -> Examined:
    """Read the examples of a task.

    Args:
      shares: the shares that are held out by name, instead of those that suit the number of rows.

    Raises:
      UserError: a row makes no example, a split is empty, or too many test examples are among the training ones.
    """
    notes: list[str] = []
    source = dataclasses.replace(survey.source, fields=("text",), template=(), task=task)
    for split in ("validation", "test"):
        path = survey.path(split)
        if path and task.has_target and task.target.partition(".")[0] not in _roots(survey.by_split[split]):
            there = ", ".join(survey.by_split[split])
            if split == "validation":
                raise UserError(f"{path} has no column {task.target!r} of --target; there are {there}.")
            notes.append(f"{path} has no column {task.target!r}, so it can be predicted and not scored.")
            source = dataclasses.replace(source, test="")
    share = float(f"{min(SHARE, MOST_HELD_OUT / survey.rows['train']):.2g}")
    cut = left_to_hash(source, Shares(share, share)._replace(**shares or {}))
    found = Examined(source, cut, {"train": Facts(), "validation": Facts(), "test": Facts()}, notes)
    for split, example in _examples(source, cut):
        found.facts[split].add(example)
    _check(found, allow_overlap)
    return found


def _examples(source: Source, cut: Shares) -> Iterator[tuple[AnySplit, Example]]:
    """All examples with their splits."""
    assert source.task is not None
    splits: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")
    for split in splits:
        if split != "train" and not getattr(source, split):
            continue
        faults = Faults(source.on_error == "skip")
        for row in rows_of(source, split, source.task.fields, faults, SETTING):
            for example in _made(source.task, row, faults):
                yield (split_by_hash(example.group, cut) if split == "train" else split), example


def _made(task: Task, row: Row, faults: Faults) -> list[Example]:
    """The examples of a row; one that makes none is a fault."""
    try:
        return list(examples_of(task, row))
    except UserError as error:
        faults.add(str(error))
        return []


def _check(found: Examined, allow_overlap: bool) -> None:
    path, total = found.source.path, sum(facts.count for facts in found.facts.values())
    for split, facts in found.facts.items():
        wanted = split != "test" or found.source.test or found.shares.test
        if wanted and not facts.count:
            raise UserError(
                f"{path} has {total} examples, of which the {split} split has none: "
                + (
                    f"give --{split} FILE, or a larger share by --data.held_out{'_test' * (split == 'test')}."
                    if split != "train"
                    else "lower --data.held_out."
                )
            )
    count = found.facts["test"].count
    if count and found.overlap > MOST_OVERLAP * count and not allow_overlap:
        raise UserError(
            f"{found.overlap:,} of {count:,} questions of {found.source.test} stand in {path} too, so the test would "
            "score what was learned: leave them out, or allow it with --allow_overlap."
        )


def _labels(survey: Survey, asked: Asked) -> tuple[str, ...]:
    """The labels of the training rows: by number where all are numbers, else by the alphabet."""
    column = survey.columns.get(asked.target) or Column(asked.target)
    where = f"{survey.source.path} has in the column {asked.target!r}"
    if asked.task == "tag" or asked.multi_label:
        separator = None if asked.task == "tag" else ","
        words = (part.strip() for value in column.values for part in value.split(separator))
        labels = {*column.within, *filter(None, words)}
    else:
        labels = set(column.values)
        if column.filled > 2 and len(labels) > max(column.filled // 2, 2):
            each = "as many values as rows" if len(labels) == column.filled else f"{len(labels):,} different values"
            raise UserError(
                f"{where} {each} ({column.filled:,} rows), so these are no labels: choose another --target, or "
                f"{COLUMN.get(asked.task, 'another --task')}."
            )
    if len(labels) < 2:
        only = f"the one value {next(iter(labels))!r}" if labels else "no value"
        raise UserError(
            f"{where} {only} in all {column.filled:,} rows, so there is nothing to learn: choose another --target."
        )
    return tuple(sorted(labels, key=_order))


def _order(label: str) -> tuple[int, float, str]:
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label


def _is_chinese(survey: Survey, target: str) -> bool:
    """True if most targets are Chinese."""
    column = survey.columns.get(target)
    return column is not None and column.chinese * 2 > max(column.filled, 1)


def _roots(columns: dict[str, Column]) -> set[str]:
    return {name.partition(".")[0] for name in columns} | set(columns)
