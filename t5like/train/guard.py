"""The guard of a run: signals that ask it to stop, and the clock that asks it to save, are heard between steps and
between the batches of an evaluation."""

import contextlib
import signal
import time
from types import TracebackType
from typing import NamedTuple

from jax.experimental import multihost_utils

from t5like.config import Train
from t5like.errors import InterruptedRunError
from t5like.processes.agreement import Agreement
from t5like.processes.distributed import connection
from t5like.processes.joining import notices_preemption
from t5like.signals import Signals, holding
from t5like.train.watchdog import Watchdog

SAVE = "save"


class Asked(NamedTuple):
    """The duties of a run after a step, the same on every process."""

    stop: signal.Signals | None = None
    save: bool = False


class StoppedEvaluationError(Exception):
    """A signal that is heard between the batches of an evaluation, which is made on resumption."""

    def __init__(self, number: signal.Signals):
        super().__init__(number.name)
        self.signal = number


class PreemptionHandler:
    """Remembers SIGTERM and SIGINT instead of dying of them; a second signal acts as it would without this.

    JAX's own (`multihost_utils.reached_preemption_sync_point`) is asked as well, which knows of notices that come
    another way; its handler of SIGTERM is replaced by ours, or no process would end while it compiles or prepares data.
    """

    def __init__(self, settings: Train, watchdog: Watchdog):
        self.signal: signal.Signals | None = None
        self._settings, self._watchdog, self._saved = settings, watchdog, time.monotonic()
        self._ends = False  # the processes agree on it
        self._stopping: signal.Signals | None = None
        self._late = False  # a save is asked for
        self._context = contextlib.ExitStack()
        connected, self._primary = connection(), True
        self._agreement = None
        if connected:
            self._primary = not connected.index
            self._agreement = Agreement(connected, self._wanted, self._heard, settings.limits.barrier)

    def __enter__(self) -> "PreemptionHandler":
        self._context.enter_context(Signals(self._remember))
        self._context.enter_context(holding("the newest checkpoint is whole, and the same command goes on from it"))
        if self._agreement:
            self._agreement.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._context.close()
        if self._agreement:
            self._agreement.end(kind in (None, InterruptedRunError))

    def after(self, step: int) -> Asked:
        """The duties at the end of a step, whichever process was sent a signal; asked for until they are done, since
        a run that goes back does not do them now."""
        stop, save = self._now()
        self._stopping, self._late = self._stopping or stop, self._late or save
        return Asked(self._stopping, self._late)

    def between_batches(self) -> None:
        """Between the batches of an evaluation.

        Raises:
          StoppedEvaluationError: a signal asks for the end.
        """
        stop, save = self._now()
        self._late |= save
        if stop:
            raise StoppedEvaluationError(stop)
        self._watchdog.goes_on()

    def saved(self) -> None:
        """Begin anew to count the time until the next save."""
        self._saved, self._late = time.monotonic(), False

    def _now(self) -> Asked:
        if self._agreement is None:
            return Asked(self.signal, self._is_late())
        with self._watchdog.phase("barrier"):
            asked = self._agreement.now()
        if notices_preemption() and multihost_utils.reached_preemption_sync_point(self._agreement.moments):
            return Asked(signal.SIGTERM)
        return Asked(None if asked in (None, SAVE) else signal.Signals[asked], asked == SAVE)

    def _is_late(self) -> bool:
        minutes = self._settings.save_minutes
        return minutes is not None and time.monotonic() - self._saved > 60 * minutes

    def _wanted(self) -> str | None:
        """The request of this process to the others; by time of process 0 alone."""
        if self._ends:
            return None
        if self.signal:
            return self.signal.name
        return SAVE if self._primary and not self._late and self._is_late() else None

    def _heard(self, asked: str) -> None:
        """The processes agree on a request."""
        if asked != SAVE:
            self._ends = True
            self._watchdog.expects_end(signal.Signals[asked], self._settings.grace)

    def _remember(self, number: signal.Signals) -> None:
        self.signal = number
        within = f" within {self._settings.grace:.0f} s" if self._settings.grace else ""
        print(f"\n{number.name}: finishing the step and saving{within}; once more to stop at once.", flush=True)
        self._watchdog.expects_end(number, self._settings.grace)
