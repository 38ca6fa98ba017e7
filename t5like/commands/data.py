"""Commands that make data or show it: prepare, inspect, data."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from t5like.commands import Command, NoOptions
from t5like.config import Config, presets
from t5like.config.checks import FLAGS, require, require_fields, require_positive
from t5like.config.marks import applies_to
from t5like.errors import UserError
from t5like.storage import etils_path, path_of
from t5like.strict_json import dumps

if TYPE_CHECKING:
    import t5like.data.store
    import t5like.data.vocabulary
    import t5like.runs.directory

MOST_ROWS = 2**62
"""Rows that have numbers."""
SHOWN = 3
"""Damaged files that are named."""


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """Options of `t5like prepare`; none of them changes the store."""

    processes: Annotated[int | None, applies_to("runner", "")] = None
    """Processes that tokenise; one for each CPU by default."""
    runner: str = ""
    """Apache Beam runner that tokenises instead, e.g. DirectRunner or DataflowRunner; needs the extra `beam`."""
    runner_options: Annotated[tuple[str, ...], applies_to("runner")] = ()
    """Beam's own options, without their dashes: project=P region=R."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require(self.processes is None or self.processes > 0, f"--processes {self.processes} must be above 0.")


def prepare(config: Config, options: PrepareOptions) -> None:
    from t5like.data.prepare import prepare
    from t5like.data.prepare.workers import beam, pool
    from t5like.data.store import Store

    workers, reported = None, []
    if options.runner:
        import logging

        logging.getLogger().setLevel(logging.ERROR)  # Beam warns of libraries for services that nobody asked for
        workers = beam(options.runner, [f"--{option}" for option in options.runner_options])
    elif options.processes:
        workers = pool(options.processes)

    def report(text: str) -> None:
        reported.append(text)
        print(text, flush=True)

    prepare(config.data, report, workers, update="all")
    if not reported:
        store = Store(etils_path(config.data.store))
        files = len(store.manifest.get("inputs", {}).get("files", []))
        seen = f"{store.bytes:,} bytes" + (f" from {files:,} files that have not changed" if files else "")
        print(f"{store.folder} is prepared already ({seen}); try: t5like data stats {store.folder}")


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """Options of `t5like inspect`."""

    step: int = 1
    """Training step whose batch is shown, as logs count them: the first is 1."""
    row: int | None = None
    """Shows this row of the batch alone; the first is 0."""
    json: bool = False
    """Print JSON lines."""
    color: Annotated[Literal["auto", "always", "never"], applies_to("json", False)] = "auto"
    """Mark segments and special pieces by colours; auto: on a terminal."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "step")


def inspect(config: Config, options: InspectOptions) -> None:
    """Print the batch of a step as training sees it, with the vocabulary of the run if the config is that of one."""
    batch, step, offset = config.train.batch, options.step, config.train.row_offset
    if step <= config.train.branched_at:
        raise UserError(
            f"--step {step} is before this run began, at step {config.train.branched_at + 1}: inspect the run that "
            f"train.branch_from={config.train.branch_from} is of."
        )
    if options.row is not None and not 0 <= options.row < batch:
        raise UserError(f"--row {options.row} must be at least 0 and below train.batch={batch}.")
    if step > MOST_ROWS // batch:
        raise UserError(f"--step {step} is beyond the last step that has a number, {MOST_ROWS // batch}.")
    import numpy as np

    from t5like.data.inspection import as_json, as_text
    from t5like.data.prepare import prepare
    from t5like.data.rows.stream import Rows
    from t5like.runs.skipped import rows_skipped

    vocabulary = prepare(config.data, lambda text: print(text, file=sys.stderr, flush=True))
    run = _run_of(config)
    vocabulary = _vocabulary_of_run(run, config, vocabulary) if run else vocabulary
    rows = Rows(config.data, vocabulary, "train")
    numbers = (step - 1) * batch + offset + (rows_skipped(run)(step) if run else 0) + np.arange(batch)
    numbers = numbers if options.row is None else numbers[[options.row]]
    features, origins, first = rows(numbers), rows.origins(numbers), options.row or 0
    labels = config.data.objective.kind == "token_classification"
    if options.json:
        for record in as_json(features, vocabulary, origins, first, labels):
            print(dumps(record, ensure_ascii=False))
        return
    color = options.color == "always" or (options.color == "auto" and sys.stdout.isatty())
    width = shutil.get_terminal_size((100, 24)).columns
    print(as_text(features, vocabulary, origins, color, first, width, labels), end="")


def _run_of(config: Config) -> t5like.runs.directory.RunDirectory | None:
    """The run of this very data in the config's directory, if there is one."""
    from t5like.runs.directory import RunDirectory, relocated

    run = RunDirectory(path_of(config.train.directory))
    if not (run.vocabulary / "vocabulary.json").exists() or not run.exists():
        return None
    return run if relocated(run.config(), str(run.path)).data == config.data else None


def _vocabulary_of_run(
    run: t5like.runs.directory.RunDirectory, config: Config, prepared: t5like.data.vocabulary.Vocabulary
) -> t5like.data.vocabulary.Vocabulary:
    """The vocabulary that the run keeps, which must be the prepared one."""
    from t5like.data.vocabulary import open_vocabulary

    kept = open_vocabulary(run.vocabulary)
    if kept.hash != prepared.hash:
        raise UserError(
            f"{run.path} was trained with another vocabulary than {config.data.store} holds now, so its batches are "
            "lost: put the store that it was trained on back."
        )
    return kept


def stats(paths: list[str], options: NoOptions) -> None:
    from t5like.data.statistics import as_text, pack_tables

    for number, store in enumerate(map(_store, paths)):
        if len(paths) > 1:
            print(f"{'' if number == 0 else chr(10)}{store.folder}:")
        print(as_text(store.manifest, pack_tables(store.folder)))


def verify(paths: list[str], options: NoOptions) -> None:
    from t5like.data.vocabulary import open_vocabulary

    damaged: list[str] = []
    for path in paths:
        store = _store(path)
        open_vocabulary(store.folder / "vocabulary")
        found = list(store.verify())
        damaged += found
        if not found:
            print(f"{store.folder}: all files are as they were written ({store.bytes:,} bytes).")
    if damaged:
        more = [f"{len(damaged) - SHOWN:,} more files have changed too."] if len(damaged) > SHOWN else []
        raise UserError(" ".join(damaged[:SHOWN] + more))


def _store(path: str) -> t5like.data.store.Store:
    """The store in a folder, or that of a preset or run directory."""
    from t5like.data.store import Store

    named = has_config(path)
    folder = etils_path(presets.load(path).data.store if named else path)
    if not any((folder / name).exists() for name in ("plan.json", "manifest.json")):
        remedy = f"run `t5like prepare {path}`" if named else "give a store, a preset or a run directory"
        raise UserError(f"There is no store in {folder}: {remedy}.")
    return Store(folder)


def has_config(path: str) -> bool:
    """True if a path is a preset, or its name in the package, or a run directory. A glob of Python files is text."""
    given = presets.find(path)
    return (given.suffix == ".py" and not set("*?[") & set(path)) or (given / presets.FILE).is_file()


COMMANDS = (
    Command(
        "prepare",
        "config",
        "learn the vocabulary and tokenise the documents (train does it by itself)",
        prepare,
        PrepareOptions,
    ),
    Command("inspect", "config", "print the batch of a training step, decoded", inspect, InspectOptions),
    Command("data stats", "paths", "print what a store holds and what its filters dropped", stats),
    Command("data verify", "paths", "check that a store's files are as they were written", verify),
)
