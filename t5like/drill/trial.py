"""One disturbed run, from its first start to its end, and what is found to be wrong with it."""

import pathlib
import re
import shutil
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import numpy as np

from t5like.drill import watch
from t5like.drill.compare import Aspect, Undisturbed, complaints
from t5like.drill.moments import POLL, Course, Moment, draw, wait_for
from t5like.drill.starts import Group, Server, Way

GRACE = 30.0
"""Seconds within which a run that was asked to stop has saved its state and ended."""
TRIES = 3
"""Starts that a supervisor makes after a status that says that another may do."""
CRASHES = re.compile(r"Traceback \(most recent call last\)|Fatal Python error|\*\*\* Check failure stack trace")
"""What no ending shows that is foreseen."""
BEGUN = ("started", "resumed")
"""Events of a start that has found its state."""
INTERRUPTED = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Drill:
    """The ground that all trials share: the config as a folder, the run to compare with, and the start of processes."""

    folder: pathlib.Path
    config: pathlib.Path
    store: pathlib.Path
    undisturbed: Undisturbed
    course: Course
    server: Server
    processes: int
    cold: int
    """One start in so many is cold."""
    flags: tuple[str, ...] = ()
    """Flags of all commands: what a config that is read from a folder does not say."""


@dataclass
class Trial:
    """A run that is disturbed; methods start it, wait for it, and note what is not as promised."""

    drill: Drill
    number: int
    kind: str
    random: np.random.Generator
    folder: pathlib.Path
    """All that belongs to the trial."""
    path: pathlib.Path
    """The run directory."""
    flags: list[str] = field(default_factory=list)
    """Those of the command, besides the run's directory."""
    working: pathlib.Path = field(default_factory=pathlib.Path.cwd)
    """The working folder of commands."""
    source: pathlib.Path | None = None
    """What the command trains, if not the drill's config."""
    starts: int = 0
    disturbances: list[str] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    """Steps that each disturbance made the run compute again."""
    endings: list[float] = field(default_factory=list)
    """Seconds from each signal that asks for the end to this."""
    found: list[tuple[str, str]] = field(default_factory=list)
    """Complaints: the aspect, and a sentence without its full stop."""
    forgiven: set[int] = field(default_factory=set)
    """Steps whose lines of metrics were damaged."""
    _begun: int = 0
    _reached: int = 0

    @property
    def longest(self) -> float:
        """Seconds after which a command hangs."""
        return 300 + 20 * self.drill.course.seconds

    def note(self, what: str) -> None:
        """A disturbance has been made."""
        self.disturbances.append(what)

    def complain(self, aspect: Aspect, sentence: str) -> None:
        """Something is not as promised."""
        self.found.append((aspect, sentence))

    def start(self, slow: float = 0.0, confined: bool = False) -> Group:
        """Start the command that trains, all of its processes."""
        special = bool(slow or confined)
        cold = not special and int(self.random.integers(self.drill.cold)) == 0
        words = ["train", str(self.source or self.drill.config), "--train.directory", str(self.path)]
        words += [*self.drill.flags, *self.flags]
        self.starts += 1
        log = self.path.with_name(f"{self.path.name}.{self.starts}.log")
        return self.drill.server.start(words, log, Way(folder=self.working, cold=cold, slow=slow, confined=confined))

    def moment(self) -> Moment:
        """The next moment that the seed gives."""
        return draw(self.random)

    def wait_for(self, moment: Moment, group: Group) -> bool:
        """Wait until the moment has come; False if the run ended before."""
        return wait_for(moment, self.path, group, self.drill.course)

    def until(self, condition: Callable[[], bool], group: Group) -> bool:
        """Wait until a condition holds; False if the run ended before."""
        while not condition():
            if group.ended:
                return False
            time.sleep(POLL)
        return True

    def until_saved(self, count: int, group: Group) -> bool:
        """Wait for so many whole checkpoints."""
        return self.until(lambda: len(watch.saved(self.path)) >= count, group)

    def end(self, group: Group, allowed: Collection[int], crashes: bool = False) -> list[int]:
        """Wait for the end of a command, whose statuses should be among those allowed, and note the steps that it came
        to; it should not crash either."""
        statuses = group.wait(self.longest)
        said = group.said()
        if statuses is None:
            self.complain("ending", f"start {self.starts} hangs: {_last_line(said)}")
            statuses = []
        for index, status in enumerate(statuses):
            if status not in allowed:
                self.complain("ending", f"start {self.starts}, process {index}: status {status}, {_last_line(said)}")
        if not crashes and any(map(CRASHES.search, said)):
            self.complain("ending", f"start {self.starts} ends with a crash and no sentence")
        self._note_loss()
        return statuses

    def interrupt(self, number: signal.Signals, group: Group, which: Collection[int] | None = None) -> list[int]:
        """Send a signal, and wait for the end that it asks for."""
        sent = time.monotonic()
        group.send(number, which)
        if number not in INTERRUPTED:
            return self.end(group, {128 + number, 0}, crashes=True)
        statuses = self.end(group, {128 + number, 0})
        self.endings.append(time.monotonic() - sent)
        if self.endings[-1] > GRACE:
            self.complain("ending", f"it took {self.endings[-1]:.0f} s to end after {number.name}")
        return statuses

    def finish(self) -> None:
        """Start the command until it has ended well."""
        for left in reversed(range(TRIES)):
            if 75 not in self.end(self.start(), {0, 75} if left else {0}):
                return

    def compare(self) -> None:
        """Compare the run that has ended with the undisturbed one."""
        try:
            for aspect, sentence in complaints(self.drill.undisturbed, self.path, self.forgiven):
                self.complain(aspect, sentence)
        except Exception as error:  # whatever a run that is not whole lacks, the drill goes on with the next
            self.complain("ending", f"it cannot be compared: {type(error).__name__}: {error}")

    def remove(self) -> None:
        """Remove the run and its logs."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _note_loss(self) -> None:
        """Count the steps that the start which has just ended had to compute again, and note how far it came."""
        events = watch.records(self.path / "events.jsonl")
        begun = [event["step"] for event in events if event.get("event") in BEGUN]
        if len(begun) > self._begun and self.starts > 1 and self.disturbances:
            lost = self._reached - begun[-1]
            self.lost.append(lost)
            failed = sum(event.get("event") == "save_failed" for event in events)
            most = (2 + failed) * self.drill.course.save_every
            if lost > most and not any(event.get("event") == "damaged" for event in events):
                self.complain("lost", f"{lost} steps are lost, where {most} are the most")
            self._reached = begun[-1]
        self._begun = len(begun)
        self._reached = max(self._reached, watch.last_step(self.path))


def _last_line(said: list[str]) -> str:
    lines = [line for text in said for line in text.splitlines() if line.strip()]
    return repr(lines[-1][:300]) if lines else "without a word"


def make_trial(drill: Drill, number: int, kind: str, seed: int) -> Trial:
    """The trial of a number: all that is drawn for it depends on the seed and the number alone."""
    folder = drill.folder / f"{number:03}_{kind}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return Trial(drill, number, kind, np.random.default_rng([seed, number]), folder, folder / "run")
