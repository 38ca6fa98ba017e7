"""A drill: an undisturbed run, and disturbed ones whose kinds take turns, each compared with it."""

import contextlib
import dataclasses
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence

from t5like.config import Config, presets
from t5like.drill.compare import Undisturbed
from t5like.drill.faults import disturb
from t5like.drill.moments import course_of
from t5like.drill.starts import Server, Way
from t5like.drill.trial import Drill, Trial, make_trial
from t5like.errors import UserError
from t5like.runs.directory import RunDirectory
from t5like.storage import path_of

SAVES = 3
"""Checkpoints that a run has to make in its course, so that there is one before the newest."""
CONTROL = "undisturbed"
"""The kind of a second run that nothing disturbs."""
Say = Callable[[str], None]
LONGEST = 24 * 3600.0
"""Seconds that the undisturbed run may take, with the preparation of its store."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """The course of a drill."""

    kinds: Sequence[str]
    """Signals and faults, which take turns."""
    numbers: Sequence[int]
    """Those of the disturbed runs, counted from 1."""
    seed: int
    processes: int
    cold: int
    """One start in so many is cold."""


def drilled(config: Config) -> Config:
    """The config of a drill's runs: each step's figures are logged.

    Raises:
      UserError: the run makes too few checkpoints.
    """
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, log_every=1))
    steps, every = config.train.steps, config.train.save_every
    if steps and steps < SAVES * every:
        raise UserError(
            f"A run of train.steps={steps} makes fewer than {SAVES} checkpoints with train.save_every={every}: set "
            f"train.save_every={max(steps // SAVES, 1)} or less, or more steps."
        )
    return config


@contextlib.contextmanager
def begun(
    config: Config, folder: pathlib.Path, asked: Asked, say: Callable[[str], None]
) -> Iterator[tuple[Drill, Trial]]:
    """Make the undisturbed run, started cold, and a second one, forked, which has to be the same.

    Raises:
      UserError: the run does not end well by itself.
    """
    config = drilled(config)
    shutil.rmtree(folder / "config", ignore_errors=True)
    (folder / "config").mkdir(parents=True)
    presets.write(config, path_of(folder / "config"))
    undisturbed = folder / CONTROL
    shutil.rmtree(undisturbed, ignore_errors=True)
    # Folders of compiled programs are taken from flags alone.
    flags = ("--train.compilation_cache", config.train.compilation_cache)
    with Server(asked.processes) as server:
        words = ["train", str(folder / "config"), "--train.directory", str(undisturbed), *flags]
        say("The undisturbed run ...")
        group = server.start(words, folder / f"{CONTROL}.log", Way(folder=pathlib.Path.cwd(), cold=True))
        if (statuses := group.wait(LONGEST)) is None or any(statuses):
            last = "".join(group.said()).strip().splitlines()[-1:]
            raise UserError(f"The undisturbed run ends with the statuses {statuses}: {' '.join(last)}")
        course = course_of(drilled(RunDirectory(undisturbed).config()), time.monotonic() - group.began)
        store = pathlib.Path(path_of(config.data.store))
        drill = Drill(
            folder=folder,
            config=folder / "config",
            store=store,
            undisturbed=Undisturbed(undisturbed),
            course=course,
            server=server,
            processes=asked.processes,
            cold=asked.cold,
            flags=flags,
        )
        control = make_trial(drill, 0, CONTROL, asked.seed)
        group = control.start()
        control.end(group, {0})
        drill = dataclasses.replace(drill, course=course._replace(seconds=time.monotonic() - group.began))
        control.compare()
        yield drill, control


def trials(config: Config, folder: pathlib.Path, asked: Asked, say: Say) -> Iterator[Trial]:
    """The control, and the disturbed runs one after the other; the folder of one that is as it should be is removed.

    Raises:
      UserError: the run does not end well by itself.
    """
    with begun(config, folder, asked, say) as (drill, control):
        yield control
        for number in asked.numbers:
            trial = make_trial(drill, number, asked.kinds[(number - 1) % len(asked.kinds)], asked.seed)
            try:
                disturb(trial)
            except Exception as error:  # of a run that is not as it should be; the next one is another
                trial.complain("ending", f"the trial broke off: {type(error).__name__}: {error}")
            if not trial.found:
                trial.remove()
            yield trial
