"""A run opened for a program: `t5like.load`, which is imported when it is first called."""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass

from t5like.config.checks import require
from t5like.config.flags import override
from t5like.config.training import Step
from t5like.library import Run
from t5like.runs.changes import require_same_model
from t5like.runs.directory import RunDirectory, config_of, relocated
from t5like.runs.opened import open_run
from t5like.storage import path_of


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """`load` takes fields of the config alone."""


def load(run: str | os.PathLike[str], *, step: Step = None, config: Mapping[str, object] | None = None) -> Run:
    """As `t5like.load`, which says what it takes.

    Compiled programs are kept on disk only if `config` has "train.compilation_cache", for that is a setting of JAX's in
    the whole process.
    """
    found = RunDirectory(path_of(config_of(str(run)).train.directory))
    require(found.path.is_dir(), f"There is no run in {found.path}: `t5like train {run}` makes one.")
    settings = relocated(found.config(), str(found.path))
    settings = dataclasses.replace(settings, train=dataclasses.replace(settings.train, compilation_cache=""))
    if config:
        flags = [word for name, value in config.items() for word in _flag(name, value)]
        settings, _ = override(settings, NoOptions, flags, "t5like.load")
    require_same_model(found, settings)
    with open_run(settings, step) as restored:
        return Run(restored)


def _flag(name: str, value: object) -> list[str]:
    """The words of a flag: ("rules.embed", ("data", "fsdp")) -> ["--rules.embed", "data", "fsdp"]."""
    return [f"--{name}", *map(str, value)] if isinstance(value, tuple | list) else [f"--{name}={value}"]
