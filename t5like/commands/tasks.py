"""Commands of tasks: the score of a run on a split, and predictions for the rows of a file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from t5like.commands import Command
from t5like.commands.output import Progress, made_by, resumed, say
from t5like.commands.standard_input import Named, named
from t5like.config import Config, Source
from t5like.config.checks import FLAGS, require, require_fields, require_positive
from t5like.config.marks import applies_to
from t5like.config.training import Step
from t5like.errors import UserError
from t5like.strict_json import dumps

if TYPE_CHECKING:
    from t5like.runs.opened import Restored

TOGETHER = 2048
"""Rows that are predicted together, so that those of one length may stand beside each other."""


def judge(config: Config, split: Literal["train", "validation", "test"], step: Step) -> None:
    """Score a run's tasks on a split, print the results and keep them in the run directory."""
    from t5like.processes.distributed import is_primary_process
    from t5like.processes.preflight import processes
    from t5like.runs.opened import open_run
    from t5like.tasks.evaluate import check_tasks, evaluate, write

    check_tasks(config.data)
    with processes(config, {"split": split, "step": step}), open_run(config, step) as restored:
        print(f"{restored.of_step}:\n")
        results = []
        for result in evaluate(restored.network, restored.vocabulary, restored.params, split, say):
            print(result.as_text())
            results.append(result)
        if is_primary_process():
            written = write(results, restored.run.path / "results", restored.step)
            print(f"Kept: {', '.join(map(str, written))}")


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Options of `t5like predict`."""

    source: int = 0
    """Number of the source whose task the file is for, where the run has learned several."""
    kind: Literal["files", "text", "jsonl", "json", "csv", "tsv", "parquet", "arrow"] = "files"
    """Form of the file, or of standard input, where it is named -; files: by its name or content."""
    columns: tuple[str, ...] = ()
    """Names of all columns of a CSV or TSV without a header line."""
    batch: int = 64
    """Rows that are computed at once; no prediction depends on it."""
    output: str = ""
    """File that the lines are written to instead. The same command goes on with it after a kill."""
    overwrite: Annotated[bool, applies_to("output")] = False
    """Write the file anew, whatever it holds."""
    step: Step = None
    """Checkpoint to use: a step, best or newest; by default the best where the run has train.best, else the newest."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "batch")
        require(self.source >= 0, f"--source {self.source} must not be negative.")


def predict(config: Config, options: PredictOptions, file: str) -> None:
    from t5like.processes.preflight import processes
    from t5like.runs.opened import open_run
    from t5like.tasks.evaluate import check_tasks, tasks_of

    check_tasks(config.data)
    known = tasks_of(config.data)
    there = ", ".join(f"{number} ({name})" for number, (name, _) in known.items())
    require(options.source in known, f"--source {options.source} has no task; there are {there}.")
    with (
        _named(file) as found,
        processes(config, {"options": options, "file": file, "standard input": found.sha256}),
        open_run(config, options.step) as restored,
    ):
        _predict(restored, options, found)


def _predict(restored: Restored, options: PredictOptions, file: Named) -> None:
    source = _source(restored.config, options, file.path)
    if not options.output:
        _predict_rows(restored, options, source, lambda record: print(record, flush=True))
        return
    with resumed(options.output, _made_from(restored, source, file.sha256), options.overwrite) as lines:
        _predict_rows(restored, options, source, lines.append, lines.count)
        say(f"{options.output} has {lines.count:,} predictions.")


def _predict_rows(
    restored: Restored, options: PredictOptions, source: Source, write: Callable[[str], None], before: int = 0
) -> None:
    """Predict for the rows of a source and write each record, but for those that were there `before`."""
    import itertools

    from t5like.data.tasks.examples import examples_of
    from t5like.data.tasks.reading import unlabelled
    from t5like.infer.batches import in_parts
    from t5like.library import Run
    from t5like.tasks.evaluate import judged, tasks_of

    name, task = tasks_of(restored.config.data)[options.source]
    run = Run(restored)
    asked = ((row, example) for row in unlabelled(source) for example in examples_of(task, row, labelled=False))
    labelled, count, progress = [], before, Progress("rows predicted", 0, before)
    for _, part in in_parts(itertools.islice(asked, before, None), TOGETHER):
        found = run.predictions([example for _, example in part], task, options.batch)
        for (row, example), prediction in zip(part, progress.counted(found), strict=True):
            value = prediction.value if prediction.value is not None else prediction.text
            record = {**row.values, "prediction": value, **({"scores": prediction.scores} if prediction.scores else {})}
            write(dumps(record, ensure_ascii=False, default=str))
            if example.target is not None:
                labelled.append((example, prediction))
        count += len(part)
    require(count > 0, f"{source.path} has no rows: there is nothing to predict.")
    if labelled:
        result = judged(name, task, "test", [e for e, _ in labelled], [p for _, p in labelled])
        figure, (low, high) = result.scores.figures[result.main], result.scores.intervals[result.main]
        of = f"{count - before:,} rows" + (", predicted now," if before else "")
        say(f"{len(labelled):,} of {of} have a target: {result.main} {figure:.2f} [{low:.2f}, {high:.2f}].")


@contextlib.contextmanager
def _named(file: str) -> Iterator[Named]:
    """The file, of which no row is left out."""
    from t5like.data.sources.faults import REMEDY

    try:
        with named(file) as found:
            yield found
    except UserError as error:
        raise UserError(str(error).replace(REMEDY, "Mend it.")) from None


def _made_from(restored: Restored, source: Source, content: str) -> dict[str, Any]:
    """All that predictions depend on: the checkpoint, the rows with their files or the hash of their `content`, and
    fields of the config."""
    import hashlib

    from t5like.config.presets import leaves
    from t5like.data.sources.identity import identify

    if not content:
        files = sorted(map(str, identify((source,)).items()))
        content = hashlib.sha256("\n".join(files).encode()).hexdigest()
    rows = {name: value for name, value in leaves(source).items() if name != "path"}
    return {**made_by(restored), "rows": content, **rows}


def _source(config: Config, options: PredictOptions, file: str) -> Source:
    """The file as a source of rows with all of their fields, in order."""
    import dataclasses

    given = config.data.sources[options.source]
    return dataclasses.replace(
        given,
        kind=options.kind,
        path=file,
        validation="",
        test="",
        columns=options.columns if options.kind in ("files", "csv", "tsv") else (),
        document="line" if options.kind in ("files", "text") else "file",
        dataset="",
        split="train",
        delimiter=given.delimiter if options.kind in ("files", "csv") else "",
        records=given.records if options.kind in ("files", "json") else "",
        on_error="stop",
    )


COMMANDS = (
    Command(
        "predict",
        "run and file",
        "predictions of a run with a task for the rows of a file, or of standard input (-), as JSON lines",
        predict,
        PredictOptions,
    ),
)
