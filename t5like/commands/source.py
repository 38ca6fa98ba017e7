"""The config that the flags of a command line change: that of its SOURCE, of a published size where it asks for one,
and with the vocabulary of the run that it starts from."""

import dataclasses
from collections.abc import Callable, Sequence

from t5like.commands.models import BranchOptions
from t5like.config import Config, Model, Vocabulary
from t5like.config.conditions import effective
from t5like.config.flags import take, unchecked, underscored
from t5like.config.objective import LABELLED
from t5like.config.other_names import PUBLISHED
from t5like.errors import UserError, did_you_mean
from t5like.runs.branch import branch_of, step_of
from t5like.runs.changes import inherited_vocabulary, require_branch, require_unbegun, with_schedule_of
from t5like.runs.directory import RunDirectory, relocated
from t5like.storage import path_of

ARCHITECTURE = ("--architecture", "--model")
COMPUTED = ("dtype", "dropout", "attention", "remat")
"""Fields of a model that say how it is computed; a published size leaves them as they are."""
HEAD = ("head", "labels", "problem_type", "head_bias", "pooling", "pooler")
"""Fields of the head, which a published size leaves as they are where labels are learned."""
TEXT = ("--data.sources.", "--data.filters.", "--data.held_out")
"""Flags of the text that a vocabulary is learned from."""


def based(config: Config, flags: Sequence[str]) -> tuple[Config, list[str]]:
    """The config before its flags, which may not fit together without them, and the flags that are left.

    Raises:
      UserError: there is no published size of the name that the flags give.
    """
    flags = list(map(underscored, flags))
    config, flags = _with_architecture(config, flags)
    config = _with_course(config, flags)
    return _with_vocabulary(config, flags), flags


def branched(
    config: Config, flags: Sequence[str], overridden: Callable[[Config], tuple[Config, BranchOptions]]
) -> tuple[Config, BranchOptions]:
    """The config of a new run that goes on from a step of that of `config`, and the options of the command.

    Args:
      overridden: gives the config that the flags change another one to.

    Raises:
      UserError: there is no such run or step, or the new run would be over, or cannot have what the flags change.
    """
    run = RunDirectory(path_of(config.train.directory))
    step = step_of(run, take(flags, ("--at",), "a step")[0])
    before = relocated(run.config(), str(run.path))
    own = {"directory": f"{run.path}_at_{step}", "branch_from": f"{run.checkpoints / str(step)}", "init_from": ""}
    new, options = overridden(unchecked(before, train=unchecked(before.train, **own)))
    if path_of(new.train.directory).resolve() == run.path.resolve():
        raise UserError(f"train.directory={run.path} is the run's own directory: choose another one for the branch.")
    require_branch(run, new)
    new = with_schedule_of(run, branch_of(run, before, new, step))
    require_unbegun(RunDirectory(path_of(new.train.directory)), new)
    return new, options


def _with_course(config: Config, flags: list[str]) -> Config:
    """The config without its steps where flags give epochs, and the other way round.

    Raises:
      UserError: they give both.
    """
    steps, rest = take(flags, ("--train.steps",), "a number")
    epochs, _ = take(rest, ("--train.epochs",), "a number")
    if steps and epochs and steps != "0" and epochs != "None":
        raise UserError(
            f"--train.steps {steps} and --train.epochs {epochs} both say how long to train: give one of them."
        )
    if epochs and epochs != "None":
        return unchecked(config, train=unchecked(config.train, steps=0))
    return unchecked(config, train=unchecked(config.train, epochs=None)) if steps and steps != "0" else config


def _with_architecture(config: Config, flags: list[str]) -> tuple[Config, list[str]]:
    """The config with the published size that `--architecture NAME` or `--model NAME` asks for."""
    name, rest = take(flags, ARCHITECTURE, "the name of a published size: `t5like architectures` lists them")
    if name is None:
        return config, flags
    from t5like.model.architectures import ARCHITECTURES

    if name not in ARCHITECTURES:
        there = name.rpartition("/")[2].lower().replace("-", "_")
        hint = f"; here it is {PUBLISHED[there]!r}." if there in PUBLISHED else ""
        hint = hint or did_you_mean(there, ARCHITECTURES, "`t5like architectures` lists them")
        raise UserError(f"There is no architecture {name!r}{hint}")
    kept = {field: getattr(config.model, field) for field in COMPUTED}
    return unchecked(config, model=_with_head(dataclasses.replace(ARCHITECTURES[name], **kept), config, rest)), rest


def _with_head(model: Model, config: Config, flags: Sequence[str]) -> Model:
    """The model with the preset's own head where labels are learned, and of a published BERT's two heads without the
    one that the objective does not learn."""
    needed = config.data.objective.spec.head or "vocabulary"
    other = any(flag.startswith("--data.objective.kind") for flag in flags)
    if config.data.objective.kind in LABELLED and not other:
        return Model(**effective(Model, vars(model) | {name: getattr(config.model, name) for name in HEAD}))
    if other or model.head != "next_sentence" or model.head == needed:
        return model
    return Model(**effective(Model, vars(model) | {"head": needed}))


def _with_vocabulary(config: Config, flags: Sequence[str]) -> Config:
    """The config with the vocabulary of the run that `train.init_from` names, unless the flags or it give one."""
    start, rest = take(flags, ("--train.init_from",), "a run directory")
    start = config.train.branch_from or (config.train.init_from if start is None else start)
    given = any(flag.startswith("--data.vocabulary.") for flag in flags)
    if not start or given or config.data.vocabulary.kind in ("file", "bytes"):
        return config
    directory, _ = take(rest, ("--train.directory",), "the new run's folder")
    vocabulary: Vocabulary = inherited_vocabulary(
        config.data, start, directory or config.train.directory, any(flag.startswith(TEXT) for flag in flags)
    )
    return unchecked(config, data=unchecked(config.data, vocabulary=vocabulary))
