"""The command of likelihoods: score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from t5like.commands import Command
from t5like.commands.output import Progress, say
from t5like.commands.standard_input import named
from t5like.config import Config, Source
from t5like.config.checks import FLAGS, require, require_fields, require_positive
from t5like.config.marks import without_prefix
from t5like.config.scoring import Scoring
from t5like.config.training import Step
from t5like.errors import UserError
from t5like.strict_json import dumps
from t5like.tasks.asked import Reading

if TYPE_CHECKING:
    from t5like.data.sources.faults import Faults
    from t5like.data.sources.records import Row
    from t5like.infer.score import Asked
    from t5like.results import Scored
    from t5like.runs.opened import Restored

TOGETHER = 2048
"""Rows that are scored together, so that texts of one length may stand beside each other."""
FIELDS = "--target and --input"
"""The options that name fields, for errors."""


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """Options of `t5like score`."""

    target: tuple[str, ...] = ("text",)
    """Columns of texts, each of which is scored; the lines of a plain file are `text`."""
    input: str = ""
    """Column of what the targets stand behind, an encoder's input or the beginning of a decoder's text; or a text with
    columns in braces, such as "review: {text} sentiment:"."""
    scoring: Annotated[Scoring, without_prefix()] = Scoring()
    """The tokens on which those of a text are conditioned."""
    token_scores: bool = False
    """Write each token with its log-probability."""
    kind: Literal["files", "text", "jsonl", "json", "csv", "tsv", "parquet", "arrow"] = "files"
    """Form of the file; files: by its name or content."""
    reading: Annotated[Reading, without_prefix()] = Reading()
    """Further form of the file, where it does not show it."""
    batch: int = 64
    """Rows that are computed at once; no score depends on it."""
    step: Step = None
    """Checkpoint to use: a step, best or newest; by default the best where the run has train.best, else the newest."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "batch")
        require(bool(self.target), "There is nothing to score: give --target a column.")
        require(len(set(self.target)) == len(self.target), f"--target {' '.join(self.target)} names a column twice.")


def score(config: Config, options: ScoreOptions, file: str) -> None:
    from t5like.processes.preflight import processes
    from t5like.runs.opened import open_run

    with named(file) as (path, content):
        asked = {"options": options, "file": file, "standard input": content}
        with processes(config, asked), open_run(config, options.step) as restored:
            _score(restored, options, path)


def _score(restored: Restored, options: ScoreOptions, path: str) -> None:
    import itertools

    from t5like.data.sources.faults import Faults
    from t5like.infer.score import Scorer
    from t5like.results import scored_of

    faults, scorer = Faults(), Scorer(restored, options.scoring, options.batch)
    rows = _rows(options, path, faults)
    columns, count, wins = options.target, 0, dict.fromkeys(options.target, 0)
    progress = Progress("rows scored", 0)
    while part := list(itertools.islice(rows, TOGETHER)):
        asked = [_asked(row, column, options.input) for row in part for column in columns]
        found = [scored_of(*pair, restored.vocabulary) for pair in zip(asked, scorer(asked), strict=True)]
        for number, row in enumerate(part):
            record = _record(found[number * len(columns) : (number + 1) * len(columns)], options)
            if taken := [name for name in record if name in row.values]:
                raise UserError(f"{row.where()} has a field {taken[0]!r} already, as the score would: rename it.")
            if record.get("likeliest"):
                wins[record["likeliest"]] += 1
            print(dumps({**row.values, **record}, ensure_ascii=False, default=str), flush=True)
        count += len(part)
        progress.reach(count)
    say(f"{count:,} rows scored.")
    if faults.count:
        say(f"{faults.count:,} rows are left out: {faults.examples[0]}")
    if len(columns) > 1 and count:
        shares = ", ".join(f"{name} in {wins[name] / count:.1%}" for name in columns)
        say(f"Likeliest of {count:,} rows: {shares}.")


def _asked(row: Row, column: str, given: str) -> Asked:
    """A target of a row behind its input, the column `given` or that text with columns in it."""
    from t5like.data.sources.records import text_of, value_of
    from t5like.infer.score import Asked

    def text(name: str) -> str:
        return text_of(value_of(row, name, FIELDS), name, row.where)[0]

    inside = Source.names_in(given)
    behind = Source.fill(given, {name: text(name) for name in inside}) if inside else text(given) if given else None
    return Asked(text(column), behind, row.where)


def _record(found: Sequence[Scored], options: ScoreOptions) -> dict[str, Any]:
    """The figures of a row: those of its only target, or of each by its column, and the column of the highest score."""
    records = [dict(each.figures) for each in found]
    if options.token_scores:
        records = [{**r, "token_scores": s.token_scores} for r, s in zip(records, found, strict=True)]
    if len(records) == 1:
        return records[0]
    named = {name: {c: r[name] for c, r in zip(options.target, records, strict=True)} for name in records[0]}
    known = {column: value for column, value in named["score"].items() if value is not None}
    best = [column for column, value in known.items() if value == max(known.values())]
    return {**named, "likeliest": best[0] if len(best) == 1 and len(known) == len(options.target) else None}


def _rows(options: ScoreOptions, path: str, faults: Faults) -> Iterator[Row]:
    """The rows of the file, with all of their fields, in order; `faults` counts those that are left out."""
    from t5like.data.sources import file_kind, rows_of

    kind: Any = file_kind(Source(kind=options.kind, path=path), path)
    own = {name: value for name, value in vars(options.reading).items() if value != getattr(Reading(), name)}
    source = Source(kind=kind, path=path, document="line" if kind == "text" else "file", **own)
    given = Source.names_in(options.input) or ([options.input] if options.input else [])
    return rows_of(source, "train", (*options.target, *given), faults, FIELDS)


COMMANDS = (
    Command(
        "score",
        "run and file",
        "log-likelihoods of the texts of a file, of targets behind inputs, as JSON lines",
        score,
        ScoreOptions,
    ),
)
