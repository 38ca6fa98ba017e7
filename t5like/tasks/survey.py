"""A survey of files that nobody has seen: their columns, of which type each is, and its values, in one pass."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from t5like.config import Source
from t5like.data.sources import rows_of
from t5like.errors import UserError

AnyType = Literal["empty", "constant", "label", "number", "text", "words", "tags", "messages", "answers", "list"]
"""Types of columns: nothing; one value; one of few values; numbers; texts; lists of texts; lists of a few texts, as the
tags of words; turns of a dialogue; answers in a context, as SQuAD has them; lists of anything else."""
DISTINCT = 50_000
"""Different values that are kept of a column."""
MOST_LABELS, LONGEST_LABEL = 300, 80
"""Labels of a column, and characters of one."""


@dataclass
class Column:
    """A column, and what its values are."""

    name: str
    filled: int = 0
    missing: int = 0
    """Rows with nothing there, or without the column."""
    kinds: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    """Counts of each text or number, for as many as are kept."""
    within: Counter[str] = field(default_factory=Counter)
    """The same for the texts in lists."""
    sizes: list[int] = field(default_factory=list)
    """Characters of each text, or elements of each list."""
    chinese: int = 0
    """Texts with Chinese characters."""

    def add(self, value: Any) -> None:
        """Take in the value of a row."""
        if value is None or value == "" or value == [] or value == ():
            self.missing += 1
            return
        self.filled += 1
        self.kinds[_kind(value)] += 1
        if isinstance(value, list):
            self.sizes.append(len(value))
            _count(self.within, [str(each) for each in value if isinstance(each, str | int)])
        elif not isinstance(value, Mapping):
            text = str(value).lower() if isinstance(value, bool) else str(value)
            self.sizes.append(len(text))
            self.chinese += bool(re.search("[\u4e00-\u9fff]", text[:200]))
            _count(self.values, [text.strip()])

    @property
    def distinct(self) -> int:
        """Different values, at most `DISTINCT`."""
        return len(self.values)

    @property
    def mean(self) -> float:
        """Mean characters of a text or elements of a list."""
        return float(np.mean(self.sizes)) if self.sizes else 0.0

    @property
    def is_numeric(self) -> bool:
        """True if all values are numbers."""
        return bool(self.values) and all(map(_is_number, self.values))

    @property
    def has_fractions(self) -> bool:
        """True if all values are numbers, and some are not whole ones."""
        return self.is_numeric and any(not float(value).is_integer() for value in self.values)

    @property
    def type(self) -> AnyType:
        if not self.filled:
            return "empty"
        kind = self.kinds.most_common(1)[0][0]
        if kind in ("messages", "answers", "list"):
            return kind
        if kind == "words":
            few = len(self.within) <= MOST_LABELS and len(self.within) * 4 <= sum(self.sizes)
            return "tags" if few and max(map(len, self.within)) <= LONGEST_LABEL else "words"
        if self.distinct == 1:
            return "constant"
        longest = max(map(len, self.values))
        most = min(MOST_LABELS, max(self.filled // 2, 2))
        if self.distinct <= most and longest <= LONGEST_LABEL and not (self.has_fractions and self.distinct > 2):
            return "label"
        return "number" if self.is_numeric else "text"


@dataclass
class Survey:
    """The columns and rows of a source."""

    source: Source
    rows: dict[str, int]
    """Rows by split."""
    by_split: dict[str, dict[str, Column]]
    """The columns of each split by name; a dot leads into a column."""

    @property
    def columns(self) -> dict[str, Column]:
        """The columns of the training rows."""
        return self.by_split["train"]

    def path(self, split: str) -> str:
        """The files of a split."""
        return self.source.path if split == "train" else getattr(self.source, split)

    def of_type(self, *types: AnyType) -> list[Column]:
        """The columns of some types, in their order."""
        return [column for column in self.columns.values() if column.type in types]


def survey(source: Source, wider: bool = False) -> Survey:
    """Read all rows of a source.

    Args:
      wider: allow rows of a table without names that have more columns than the first.

    Raises:
      UserError: a file is missing or damaged, a row has more or fewer columns than others, or a split has no rows.
    """
    found = Survey(source, {}, {})
    for split in ("train", "validation", "test"):
        if split == "train" or found.path(split):
            columns = found.by_split.setdefault(split, {})
            found.rows[split] = sum(1 for _ in _added(columns, source, split, wider))
            if not found.rows[split]:
                raise UserError(f"{found.path(split)} has no rows: the {split} split is empty.")
            for column in columns.values():
                column.missing = found.rows[split] - column.filled
    return found


def _added(
    columns: dict[str, Column], source: Source, split: Literal["train", "validation", "test"], wider: bool
) -> Iterator[None]:
    """Take in the rows of a split, one after the other."""
    width = 0
    for row in rows_of(source, split):
        width = width or len(row.values)
        unnamed = all(name.isdecimal() for name in row.values)
        if unnamed and (len(row.values) < width or (len(row.values) > width and not wider)):
            remedy = "mend it" if len(row.values) < width else "mend it, or name --input and --target by their numbers"
            raise UserError(f"{row.where()} has {len(row.values)} columns where the first row has {width}: {remedy}.")
        for name, value in _leaves(row.values):
            columns.setdefault(name, Column(name)).add(value)
        yield


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a row, those of fields within by a dot; answers stay whole."""
    for name, value in values.items():
        if isinstance(value, Mapping) and _kind(value) != "answers":
            yield from _leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "answers" if "text" in value and "answer_start" in value else "list"
    if isinstance(value, list):
        first = value[0]
        if isinstance(first, Mapping):
            if ("role" in first and "content" in first) or ("from" in first and "value" in first):
                return "messages"
            return "answers" if "text" in first and "answer_start" in first else "list"
        return "words" if all(isinstance(each, str | int) for each in value) else "list"
    return "text"


def _count(counter: Counter[str], texts: list[str]) -> None:
    for text in texts:
        if text in counter or len(counter) < DISTINCT:
            counter[text] += 1


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
