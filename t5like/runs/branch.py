"""A branch: a new run that goes on from a step of another with a changed config, its optimizer state and its data."""

import dataclasses
import shlex
from typing import Any

from t5like.config import Config
from t5like.errors import UserError
from t5like.runs.directory import RunDirectory

OWN = ("train.directory", "train.init_from", "train.branch_from", "train.row_offset")
"""Fields in which every branch differs from its run."""
FIXED = ("optimizer.name", "optimizer.freeze", "train.ema")
FIXED_GROUPS = ("model.", "data.vocabulary.")
FREE = ("model.dtype", "model.remat", "model.attention", "model.dropout")
"""Fields of the model that a branch may change; the state of others, and of those above, would be another."""


def may_branch(name: str) -> bool:
    """True if a branch may have another value of a field than its run."""
    return name in FREE or not (name in (*OWN, *FIXED) or name.startswith(FIXED_GROUPS))


def step_of(run: RunDirectory, asked: str | None) -> int:
    """The step that a branch starts at: the one that `--at` asks for, or the newest.

    Raises:
      UserError: there is no such checkpoint.
    """
    steps = run.steps() if run.exists() else []
    listed = ", ".join(map(str, steps))
    if not steps:
        raise UserError(f"{run.path} holds no checkpoint to branch from: train there first.")
    if asked is None:
        return steps[-1]
    if not asked.isdecimal() or int(asked) not in steps:
        raise UserError(f"--at {asked} is not there: {run.path} has checkpoints of the steps {listed}.")
    return int(asked)


def branch_of(run: RunDirectory, before: Config, config: Config, step: int) -> Config:
    """The config of a branch, whose data goes on behind the rows that the run had seen at `step`.

    Raises:
      UserError: it is over at that step.
    """
    if 0 < config.train.steps <= step:
        earlier = ", ".join(str(each) for each in run.steps() if each < config.train.steps)
        raise UserError(
            f"train.steps={config.train.steps} is not above {step}, the step at which the branch starts: give a larger "
            f"--train.steps{f', or --at one of {earlier}' if earlier else ''}."
        )
    offset = before.train.row_offset + step * (before.train.batch - config.train.batch)
    return dataclasses.replace(config, train=dataclasses.replace(config.train, row_offset=offset))


def command_for(run: RunDirectory, changed: dict[str, tuple[Any, Any]]) -> str:
    """The command that goes on from a run with changed fields."""
    values = {name: new if isinstance(new, tuple) else (new,) for name, (_, new) in changed.items()}
    flags = " ".join(f"--{name} {shlex.join(map(str, value))}".rstrip() for name, value in values.items())
    return f"t5like branch {shlex.quote(str(run.path))} {flags}"
