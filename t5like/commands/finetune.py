"""Commands from a labelled file to a model: task inspect, finetune."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from t5like.commands import Command, NoOptions
from t5like.config import Config, presets
from t5like.config.checks import FLAGS, require_fields
from t5like.config.marks import without_prefix
from t5like.errors import UserError
from t5like.storage import path_of
from t5like.tasks.asked import Asked, Reading

if TYPE_CHECKING:
    from t5like.data.vocabulary import Vocabulary
    from t5like.tasks.derive import Base, Derived
    from t5like.tasks.examine import Examined
    from t5like.tasks.survey import Survey


@dataclass(frozen=True, kw_only=True)
class InspectTaskOptions:
    """Options of `t5like task inspect`."""

    asked: Annotated[Asked, without_prefix()] = Asked()
    """The task, as far as it is known."""
    reading: Annotated[Reading, without_prefix()] = Reading()
    """How the files are read."""
    run: str = ""
    """Run, or preset, whose tokens are counted and that the command at the end is for."""
    validation: str = ""
    """Files of the validation split, where their names do not say it."""
    test: str = ""
    """Files of the test split."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions:
    """Options of `t5like finetune`."""

    asked: Annotated[Asked, without_prefix()] = Asked()
    """The task, as far as it is known."""
    reading: Annotated[Reading, without_prefix()] = Reading()
    """How the files are read."""
    validation: str = ""
    """Files of the validation split, where their names do not say it."""
    test: str = ""
    """Files of the test split. A split without files is cut by hash."""
    allow_overlap: bool = False
    """Allow test examples that are among the training ones."""
    dry_run: bool = False
    """Print the preset that does the same, and do nothing."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)


ASKING = {"-h", "--help"}


class Planned(NamedTuple):
    """A fine-tuning run before it starts."""

    config: Config
    choices: list[str]
    title: str


def inspect_task(files: list[str], options: InspectTaskOptions) -> None:
    from t5like.tasks.derive import kind_of
    from t5like.tasks.files import source_of
    from t5like.tasks.lengths import counter, estimate
    from t5like.tasks.report import columns_as_text, examples_as_text, files_of, task_line
    from t5like.tasks.survey import survey

    seen = survey(source_of(files, options.validation, options.test, options.reading), bool(options.asked.target))
    print(columns_as_text(seen))
    given, found = _examined(seen, options.asked, True, {})
    base = _base(options.run) if options.run else None
    vocabulary = _vocabulary(base) if base else None
    kind = kind_of(base, found.task, given.head) if base else "sequence_to_sequence"
    settings = base.config.data.vocabulary if base else None
    lengths = found.lengths(kind, counter(vocabulary) if vocabulary else estimate(settings), vocabulary)
    print(examples_as_text(found, lengths, kind, "tokens" if vocabulary else "tokens (estimated)"))
    splits = {"--validation": options.validation, "--test": options.test}
    extra = [word for flag, value in splits.items() if value for word in (flag, value)]
    names = files if len(files) > 1 else files_of(seen) if seen.source.kind == "parallel" else files
    print(task_line(options.run or "RUN", names, given, extra))


def plan_of(words: Sequence[str], flags: Sequence[str]) -> tuple[Planned, FinetuneOptions]:
    """The run that `t5like finetune WORDS FLAGS` makes.

    Raises:
      UserError: there are no files, a flag does not exist, or the files, the task and the model do not fit together.
    """
    from t5like.commands.source import with_architecture
    from t5like.config.flags import option_flags, override, parse, underscored

    if ASKING & {*flags}:
        parse(FinetuneOptions, ["--help"], "t5like finetune")
    if len(words) < 2:
        raise UserError(
            f"t5like finetune {' '.join(words)} needs a RUN or preset, and behind it the files of a task: "
            "t5like finetune runs/pretrained reviews.tsv."
        )
    run, *files = words
    command = f"t5like finetune {run}"
    named = [_own_name(underscored(flag)) for flag in flags]
    own, rest = _parted(named, option_flags(FinetuneOptions))
    options: FinetuneOptions = parse(FinetuneOptions, own, command)
    base = _base(run)
    config, rest = with_architecture(base.config, rest)
    base = base._replace(config=config)
    task = _Task(base, files, options, _shares(rest))

    def overridden(fixed: dict[str, Any]) -> tuple[Derived, Config]:
        derived = task.derived(fixed)
        return derived, override(derived.config, NoOptions, rest, command)[0]

    derived, config = overridden({})
    if changed := {name: new for name, (_, new) in presets.differences(derived.config, config).items()}:
        derived, config = overridden(changed)
    title = f"{task.found.task.kind} of {' '.join(files)}, from {run}: written by t5like finetune."
    return Planned(config, [*task.said(config), *derived.choices], title), options


def finetune(plan: Planned, options: FinetuneOptions) -> None:
    from t5like.config.python_text import as_preset

    if options.dry_run:
        for line in plan.choices:
            print(line, file=sys.stderr, flush=True)
        print(as_preset(plan.config, plan.title), end="")
        return
    from t5like.commands.models import train
    from t5like.commands.tasks import judge

    _require_own(plan.config)
    print("\n".join(plan.choices), flush=True)
    train(plan.config, NoOptions())
    config, source = plan.config, plan.config.data.sources[0]
    tested = bool(source.test or config.data.held_out_test)
    print()
    judge(config, "test" if tested else "validation", None)
    run, split = config.train.directory, "test" if tested else "validation"
    print("Next:")
    for command in (f"eval {run} --split {split}", f"predict {run} NEW_FILE", f"export {run} FOLDER"):
        print(f"  t5like {command}")


class _Task:
    """The files of a task, surveyed and examined for a model."""

    def __init__(self, base: Base, files: Sequence[str], options: FinetuneOptions, shares: Mapping[str, float]):
        from t5like.tasks.derive import kind_of, smaller
        from t5like.tasks.files import source_of, stem
        from t5like.tasks.lengths import counter, estimate
        from t5like.tasks.survey import survey

        seen = survey(source_of(files, options.validation, options.test, options.reading), bool(options.asked.target))
        self.given, self.found = _examined(seen, options.asked, options.allow_overlap, shares)
        self.kind = kind_of(base, self.found.task, self.given.head)
        vocabulary = _vocabulary(base)
        if vocabulary is None:
            characters = sum(sum(column.sizes) for column in seen.columns.values() if column.values)
            small = smaller(base.config.data.vocabulary, characters)
            base = base._replace(vocabulary=small)
        else:
            base = base._replace(has_cls=vocabulary.role("cls") is not None)
        count = counter(vocabulary) if vocabulary else estimate(base.vocabulary)
        self.lengths = self.found.lengths(self.kind, count, vocabulary)
        self.base, self.name, self._rows = base, stem(seen.source), seen.rows

    def derived(self, fixed: dict[str, Any]) -> Derived:
        from t5like.tasks.derive import derive, directory_of

        directory = fixed.get("train.directory") or directory_of(self.base.start, self.name)
        return derive(self.base, self.found, self.kind, self.lengths, directory, fixed)

    def said(self, config: Config) -> list[str]:
        """Lines on the files and their task."""
        from t5like.tasks.report import flags_of

        found = self.found
        counts = ", ".join(f"{name} {facts.count:,}" for name, facts in found.facts.items() if facts.count)
        cut = {name: share for name, share in found.shares._asdict().items() if share}
        lines = [f"{' '.join(flags_of(self.given))}: {counts} examples"]
        if cut:
            shares = " and ".join(f"{share:g} for {name}" for name, share in cut.items())
            lines.append(f"without files for it, a hash of each example holds out {shares}")
        lines += [f"{found.overlap:,} test questions are among the training ones"] if found.overlap else []
        return [*lines, *found.notes, f"{config.train.directory} is the run, {config.data.store} its store"]


def _shares(flags: Sequence[str]) -> dict[str, float]:
    """The shares of examples that flags hold out, as `Shares` names them."""
    from t5like.config.flags import take

    named = {"validation": "--data.held_out", "test": "--data.held_out_test"}
    given = {name: take(flags, (flag,), "a share")[0] for name, flag in named.items()}
    return {name: float(value) for name, value in given.items() if value and value.replace(".", "", 1).isdecimal()}


def _examined(seen: Survey, asked: Asked, allow_overlap: bool, shares: Mapping[str, float]) -> tuple[Asked, Examined]:
    from t5like.tasks.evaluate import takes
    from t5like.tasks.examine import examine, task_of
    from t5like.tasks.guess import guess
    from t5like.tasks.metrics import check

    given = guess(seen, asked)
    task = task_of(seen, given)
    check(task.judged_by, takes(task))
    return given, examine(seen, task, allow_overlap, shares)


def _parted(flags: Sequence[str], own: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The flags of the command's own options, and all others, each with their values."""
    parts: tuple[list[str], list[str]] = [], []
    side = 1
    for word in flags:
        if word.startswith("--"):
            name = word[2:].partition("=")[0]
            side = 0 if name in own or ("." not in name and name not in ("architecture", "model", "rules")) else 1
        parts[side].append(word)
    return parts


def _own_name(word: str) -> str:
    """The command's own flag for a field of the source that says how it is read."""
    name, equals, value = word.partition("=")
    bare = name.removeprefix("--data.sources.0.")
    return f"--{bare}{equals}{value}" if bare != name and bare in vars(Reading()) else word


def _base(run: str) -> Base:
    """What a RUN or preset gives to a fine-tuning run.

    Raises:
      UserError: it is neither, or a run without a checkpoint.
    """
    from t5like.runs.directory import RunDirectory, kept_vocabulary, named_checkpoint
    from t5like.tasks.derive import Base

    directory, _ = named_checkpoint(str(presets.find(run)))
    if not directory.path.is_dir():
        return Base(presets.load(run))
    config = directory.config()
    if not directory.steps():
        raise UserError(f"{run} holds no checkpoint: train there first, or name a preset to start from scratch.")
    folder = str(RunDirectory(directory.path).vocabulary)
    return Base(config, run, kept_vocabulary(config.data.vocabulary, folder))


def _vocabulary(base: Base) -> Vocabulary | None:
    """The vocabulary of the run, or of a preset that names one that is there."""
    from t5like.data.vocabulary import Bytes, load_pieces, make_vocabulary, open_vocabulary
    from t5like.runs.directory import named_checkpoint

    if base.start:
        return open_vocabulary(named_checkpoint(base.start)[0].vocabulary)
    settings = base.config.data.vocabulary
    if settings.kind == "bytes":
        return make_vocabulary(Bytes(), settings)
    file = path_of(settings.path)
    return make_vocabulary(load_pieces(file, settings.lowercase), settings) if settings.path and file.exists() else None


def _require_own(config: Config) -> None:
    """Raise `UserError` if the run directory has another run."""
    from t5like.runs.changes import differences
    from t5like.runs.directory import RunDirectory

    run = RunDirectory(path_of(config.train.directory))
    if run.begun() and (changed := differences(run, config)):
        names = ", ".join(list(changed)[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise UserError(
            f"{run.path} holds another run, which differs in {names}: choose --train.directory, or delete that folder."
        )


COMMANDS = (
    Command(
        "finetune",
        "run and files",
        "from labelled files to a tested model, with a config that is derived from them",
        finetune,
        FinetuneOptions,
    ),
    Command(
        "task inspect",
        "paths",
        "columns, labels and lengths of labelled files, and the task that fits",
        inspect_task,
        InspectTaskOptions,
    ),
)
