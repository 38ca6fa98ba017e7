"""The moment at which a run is disturbed: drawn from a seed, and found again in the run by what its folder shows."""

import pathlib
import time
from typing import Literal, NamedTuple

import numpy as np

from t5like.config import Config
from t5like.drill import watch
from t5like.drill.starts import Group

POLL = 0.004
"""Seconds between two looks."""
LONGEST_DELAY = {"time": 0.0, "step": 0.1, "save": 0.4, "evaluation": 0.4}
"""Seconds at most that a disturbance comes after what it waits for: as long as that may take."""
What = Literal["time", "step", "save", "evaluation"]
WHATS: tuple[What, ...] = ("time", "step", "save", "evaluation")


class Moment(NamedTuple):
    """`time` is a share of an undisturbed run's seconds, from the start of the process on; the others come after a
    share of the steps that are left, when the next step of the kind begins, and `delay` seconds later."""

    what: What
    share: float
    delay: float

    def __str__(self) -> str:
        where = "time" if self.what == "time" else "steps"
        after = f" and {1000 * self.delay:.0f} ms" if self.delay else ""
        return f"{self.what} at {self.share:.0%} of the {where}{after}"


def draw(random: np.random.Generator) -> Moment:
    """A moment in start-up, steps, saves or evaluations."""
    what = WHATS[random.integers(len(WHATS))]
    return Moment(what, float(random.random()), float(random.random() * LONGEST_DELAY[what]))


class Course(NamedTuple):
    """The course of an undisturbed run: seconds from its start to its end, and the steps at which it does what."""

    seconds: float
    steps: int
    save_every: int
    evaluate_every: int

    def step(self, moment: Moment, first: int) -> int:
        """The step that a moment of a run which begins after the step `first` waits for."""
        step = first + 1 + int(moment.share * max(self.steps - first - 1, 0))
        every = {"save": self.save_every, "evaluation": self.evaluate_every}.get(moment.what, 1)
        return min(-(-step // every) * every, self.steps)


def course_of(config: Config, seconds: float) -> Course:
    """The course of a run with this config."""
    return Course(seconds, config.train.steps, config.train.save_every, config.eval.every)


def wait_for(moment: Moment, run: pathlib.Path, group: Group, course: Course) -> bool:
    """Wait until the moment has come; False if the run ended before."""
    first = max(watch.saved(run), default=0)
    step = course.step(moment, first)
    while not group.ended:
        if moment.what == "time":
            come = time.monotonic() - group.began >= moment.share * course.seconds
        elif moment.what == "save":
            come = watch.saving(run) >= step or max(watch.saved(run), default=0) >= step
        else:
            come = watch.last_step(run) >= step > first
        if come:
            time.sleep(moment.delay)
            return not group.ended
        time.sleep(POLL)
    return False
