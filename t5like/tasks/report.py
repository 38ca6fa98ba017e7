"""A survey as text for a terminal: files, columns, lengths, and the command that fits."""

import shlex
from collections.abc import Iterator, Sequence

import numpy as np

from t5like.config.sources import sides
from t5like.data.aligned import aligned, shortened
from t5like.tasks.asked import Asked
from t5like.tasks.examine import Examined
from t5like.tasks.lengths import Lengths, share_cut
from t5like.tasks.survey import Column, Survey

SHOWN = 8
"""Labels of a column that are counted."""
WIDTH = 70
"""Columns of an example, or of the counts of labels."""
ROWS = (64, 128, 256, 512)
"""Lengths of rows whose cuts are said."""


def columns_as_text(survey: Survey) -> str:
    """The files, their rows, and their columns with types and values."""
    source = survey.source
    lines = [f"{files_of(survey)[0]}: {source.kind}, {survey.rows['train']:,} rows"]
    lines += [f"{survey.path(name)}: {count:,} rows ({name})" for name, count in survey.rows.items() if name != "train"]
    header = ("column", "type", "filled", "missing", "different", "mean length", "longest", "values")
    rows = [_row(column) for column in survey.columns.values() if not _is_again(column, survey)]
    return "\n".join([*lines, "", *aligned(header, rows)]) + "\n"


def _is_again(column: Column, survey: Survey) -> bool:
    """True for the columns of a CoNLL file by their numbers, of which `words` and `tags` are better names."""
    named = [survey.columns[name].within for name in ("words", "tags") if name in survey.columns]
    return survey.source.kind == "conll" and column.name.lstrip("-").isdecimal() and column.within in named


def _row(column: Column) -> Sequence[str]:
    sizes = column.sizes
    counted = column.values or column.within
    different = f"{len(counted):,}" if counted else "-"
    return (
        column.name,
        column.type,
        f"{column.filled:,}",
        f"{column.missing:,}",
        different,
        f"{column.mean:,.0f}" if sizes else "-",
        f"{max(sizes):,}" if sizes else "-",
        _values(column),
    )


def _values(column: Column) -> str:
    """The counts of labels, the range of numbers, or an example."""
    counted = column.within if column.type == "tags" else column.values
    if column.type in ("label", "tags"):
        shown = ", ".join(f"{shortened(label, 24)} {count:,}" for label, count in counted.most_common(SHOWN))
        more = len(counted) - SHOWN
        return shortened(f"{shown}, and {more:,} more" if more > 0 else shown, WIDTH)
    if column.type == "number":
        numbers = [float(value) for value in column.values]
        return f"{min(numbers):g} to {max(numbers):g}"
    return shortened(next(iter(counted), ""), WIDTH)


def examples_as_text(found: Examined, lengths: Lengths, kind: str, unit: str) -> str:
    """The examples of the task that fits: splits, labels, duplicates, lengths and what rows would cut."""
    counts = {name: facts.count for name, facts in found.facts.items() if facts.count}
    cut = [name for name in ("validation", "test") if getattr(found.shares, name)]
    said = f" ({' and '.join(cut)} cut by hash)" if cut else ""
    lines = [f"{found.task.kind}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()) + said]
    lines += [
        f"  duplicates: {facts.duplicates:,} in {name}" for name, facts in found.facts.items() if facts.duplicates
    ]
    if found.overlap:
        lines.append(f"  {found.overlap:,} test questions stand in the training files too")
    if found.facts["train"].unanswerable:
        lines.append(f"  without an answer: {found.facts['train'].unanswerable:,}")
    if found.task.labels and (counted := found.facts["train"].labels):
        total = sum(counted.values())
        common = ", ".join(f"{shortened(name, 24)} {count / total:.0%}" for name, count in counted.most_common(SHOWN))
        lines.append(f"  {len(found.task.labels)} labels: {common}")
    lines += [f"  {line}" for line in _lengths(lengths, kind, unit)]
    return "\n".join([*lines, *(f"  {note}" for note in found.notes)]) + "\n"


def _lengths(lengths: Lengths, kind: str, unit: str) -> Iterator[str]:
    """Quantiles, and the shares that rows of some lengths would cut."""
    read = {"read": lengths.of_rows(kind)} | ({"written": lengths.written} if lengths.written.any() else {})
    for name, counts in read.items():
        middle, most = np.quantile(counts, [0.5, 0.99], method="higher")
        cuts = [(length, share_cut(counts, length)) for length in ROWS]
        none = next((length for length, share in cuts if not share), None)
        said = [f"{length} cuts {share:.1%}" for length, share in cuts if share] + [f"{none} cuts none"] * bool(none)
        yield f"{unit} {name}: median {middle:,}, 99 % {most:,}, longest {counts.max():,}; {', '.join(said)}"


def files_of(survey: Survey) -> list[str]:
    """The training files as a user would type them."""
    source = survey.source
    return list(sides(source.path).values()) if source.kind == "parallel" else [source.path]


def flags_of(given: Asked) -> list[str]:
    """The flags that name a task."""
    usual, flags = Asked(), list[str]()
    for name, value in vars(given).items():
        if value and value != getattr(usual, name) and name != "labels":
            values = value if isinstance(value, tuple) else (value,)
            flags += [f"--{name}", *([] if value is True else map(shlex.quote, values))]
    return flags


def task_line(run: str, files: Sequence[str], given: Asked, extra: Sequence[str] = ()) -> str:
    """The complete command that fine-tunes a run on files."""
    return " ".join(["t5like finetune", run, *map(shlex.quote, files), *flags_of(given), *map(shlex.quote, extra)])
