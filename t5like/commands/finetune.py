"""Commands from a labelled file to a model: task inspect, finetune."""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Sequence
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
    from t5like.tasks.derive import Derived


@dataclass(frozen=True, kw_only=True)
class InspectTaskOptions:
    """Options of `t5like task inspect`."""

    asked: Annotated[Asked, without_prefix()] = Asked()
    """The task, as far as it is known."""
    reading: Annotated[Reading, without_prefix()] = Reading()
    """The form of the files."""
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
    """The form of the files."""
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
    from t5like.tasks.base import base_of
    from t5like.tasks.derive import kind_of, prompted
    from t5like.tasks.files import source_of
    from t5like.tasks.finetuning import examined, with_vocabulary
    from t5like.tasks.lengths import estimate
    from t5like.tasks.report import columns_as_text, examples_as_text, files_of, task_line
    from t5like.tasks.survey import survey

    seen = survey(source_of(files, options.validation, options.test, options.reading), bool(options.asked.target))
    print(columns_as_text(seen))
    given, found = examined(seen, options.asked, True)
    base = base_of(options.run) if options.run else None
    _, count, vocabulary = with_vocabulary(base, seen, found) if base else (None, estimate(), None)
    kind = kind_of(base, found.task, given.head) if base else "sequence_to_sequence"
    found = prompted(found, kind)
    lengths = found.lengths(kind, count, vocabulary)
    print(examples_as_text(found, lengths, kind, "tokens" if vocabulary else "tokens (estimated)"))
    splits = {"--validation": options.validation, "--test": options.test}
    extra = [word for flag, value in splits.items() if value for word in (flag, value)]
    names = files if len(files) > 1 else files_of(seen) if seen.source.kind == "parallel" else files
    print(task_line(options.run or "RUN", names, given, extra))


def given(words: Sequence[str], flags: Sequence[str]) -> tuple[list[str], list[str], FinetuneOptions]:
    """The arguments of `finetune` from the words of a command line, and the flags behind them.

    Raises:
      UserError: there are no files, or there is no such option.
    """
    from t5like.config.flags import option_flags, parse, underscored

    if ASKING & {*flags}:
        parse(FinetuneOptions, ["--help"], "t5like finetune")
    if len(words) < 2:
        raise UserError(
            f"t5like finetune {' '.join(words)} needs a RUN or preset, and behind it the files of a task: "
            "t5like finetune runs/pretrained reviews.tsv."
        )
    named = [_own_name(underscored(flag)) for flag in flags]
    own, fields = _parted(named, option_flags(FinetuneOptions))
    return list(words), fields, parse(FinetuneOptions, own, f"t5like finetune {words[0]}")


def plan_of(words: Sequence[str], fields: Sequence[str], options: FinetuneOptions) -> Planned:
    """The run that a RUN and files make, with fields that flags set.

    Raises:
      UserError: a flag does not exist, or the files, the task and the model do not fit together.
    """
    from t5like.commands.source import with_architecture
    from t5like.config.flags import override
    from t5like.tasks.base import base_of
    from t5like.tasks.finetuning import Finetuning

    run, *files = words
    base = base_of(run)
    config, rest = with_architecture(base.config, list(fields))
    if own := _parted(rest, {name: None for name in presets.leaves(config) if name.startswith("data.vocabulary.")})[0]:
        config, _ = override(config, NoOptions, own, f"t5like finetune {run}")
        base = base._replace(vocabulary=config.data.vocabulary)
    splits = {"validation": options.validation, "test": options.test}
    given = (options.asked, splits, options.reading, options.allow_overlap, _shares(rest))
    task = Finetuning(base._replace(config=config), files, *given)

    def overridden(fixed: dict[str, Any]) -> tuple[Derived, Config]:
        derived = task.derived(fixed)
        return derived, override(derived.config, NoOptions, rest, f"t5like finetune {run}")[0]

    derived, config = overridden({})
    if changed := {name: new for name, (_, new) in presets.differences(derived.config, config).items()}:
        derived, config = overridden(changed)
    title = f"{task.found.task.kind} of {' '.join(files)}, from {run}: written by t5like finetune."
    return Planned(config, task.said(derived, config), title)


def finetune(words: Sequence[str], fields: Sequence[str], options: FinetuneOptions) -> None:
    from t5like.config.python_text import as_preset

    plan = plan_of(words, fields, options)
    if options.dry_run:
        for line in plan.choices:
            print(line, file=sys.stderr, flush=True)
        print(as_preset(plan.config, plan.title), end="")
        return
    from t5like.processes.preflight import processes

    _require_own(plan.config)
    with processes(plan.config, {"files": words[1:]}, writes=True):
        _carry_out(plan)


def _carry_out(plan: Planned) -> None:
    """Train, score the test split, or the validation split where there is none, and say what comes next."""
    from t5like.commands.models import TrainOptions, train
    from t5like.commands.tasks import judge
    from t5like.convert.kinds import kind_of

    print("\n".join(plan.choices), flush=True)
    train(plan.config, TrainOptions())
    tested = bool(plan.config.data.sources[0].test or plan.config.data.held_out_test)
    run, split = plan.config.train.directory, "test" if tested else "validation"
    print()
    judge(plan.config, split, None)
    print("Next:")
    for command in (f"eval {run} --split {split}", f"predict {run} NEW_FILE"):
        print(f"  t5like {command}")
    with contextlib.suppress(UserError):  # no model of transformers has its architecture
        kind_of(plan.config.model)
        print(f"  t5like export {run} FOLDER")


def _shares(flags: Sequence[str]) -> dict[str, float]:
    """The shares of examples that flags hold out, as `Shares` names them."""
    from t5like.config.flags import take

    named = {"validation": "--data.held_out", "test": "--data.held_out_test"}
    given = {name: take(flags, (flag,), "a share")[0] for name, flag in named.items()}
    return {name: float(value) for name, value in given.items() if value and value.replace(".", "", 1).isdecimal()}


def _parted(flags: Sequence[str], own: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The flags of the command's own options, and all others, each with their values."""
    parts: tuple[list[str], list[str]] = [], []
    side = 1
    for word in flags:
        if word.startswith("--"):
            name = word[2:].partition("=")[0]
            side = 0 if name in own or ("." not in name and difflib.get_close_matches(name, own, cutoff=0.65)) else 1
        parts[side].append(word)
    return parts


def _own_name(word: str) -> str:
    """The command's own flag for a field of the source that says how it is read."""
    name, equals, value = word.partition("=")
    bare = name.removeprefix("--data.sources.0.")
    return f"--{bare}{equals}{value}" if bare != name and bare in vars(Reading()) else word


def _require_own(config: Config) -> None:
    """Raise `UserError` if the run directory has another run."""
    from t5like.runs.changes import differences
    from t5like.runs.directory import RunDirectory

    run = RunDirectory(path_of(config.train.directory))
    changed = differences(run, config) if run.begun() else {}
    if other := [name for name in changed if name.startswith(("model.", "data.")) or name == "train.init_from"]:
        names = ", ".join(other[:3]) + (f" and {len(other) - 3} more" if len(other) > 3 else "")
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
