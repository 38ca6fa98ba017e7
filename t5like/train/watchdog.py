"""The watchdog of a run: a phase without progress ends it, with the stacks of all threads in its events.

A thread of each process looks at the clock. The first that finds its phase too long asks the others for their stacks,
keeps all of them as the event `hang`, and names those that do not answer; all end with status 75, after which
supervisors start the same command again.
"""

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import jax

from t5like.config.limits import Limits
from t5like.errors import TRY_AGAIN
from t5like.processes.distributed import Connection, connection
from t5like.processes.handshake import listed
from t5like.processes.stacks import stacks
from t5like.runs.events import add_event
from t5like.signals import end_now
from t5like.storage import Path

KEY = "t5like/hang"
ANSWERED = 15.0
"""Seconds that the other processes have to send their stacks."""
LOOKS = 1.0
"""Seconds between looks at the clock."""
SLEPT = 10.0
"""Seconds without a look after which this process was stopped itself, as by Ctrl-Z, and no phase was too long."""
USUAL = 10
"""A phase may take so many times as long as one of its kind has taken."""
WORDS = {
    "first_step": "The first step",
    "step": "Step",
    "evaluation": "A batch of the evaluation",
    "save": "The save",
    "barrier": "The agreement of the processes",
}


class Watchdog:
    """Watches the phases of a run, and ends the process by `end` where one takes too long."""

    def __init__(self, limits: Limits, folder: Path, end: Callable[[int, str], None] = end_now):
        self._limits, self._folder, self._end, self._connected = limits, folder, end, connection()
        self._phase, self._step, self._since = "", 0, time.monotonic()
        self._longest = dict.fromkeys(vars(limits), 0.0)
        self._stop: tuple[signal.Signals, float] | None = None
        self._asks, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()

    def enters(self, phase: str, step: int) -> None:
        """A phase begins, and the one before it has ended."""
        self._ended()
        self._phase, self._step = phase, step

    def goes_on(self) -> None:
        """The phase has made progress, such as a batch of an evaluation."""
        self._ended()

    @contextlib.contextmanager
    def phase(self, name: str, step: int | None = None) -> Iterator[None]:
        """A phase within another one, which begins anew afterwards."""
        outer = self._phase, self._step
        self.enters(name, self._step if step is None else step)
        try:
            yield
        finally:
            self.enters(*outer)

    def expects_end(self, number: signal.Signals, seconds: float | None) -> None:
        """Let the running step, and the begin of a save, take so many seconds from now on, or end the run as it is."""
        if seconds is not None and self._stop is None:
            self._stop = number, time.monotonic() + max(seconds, 2 * self._longest["step"])

    def _ended(self) -> None:
        now = time.monotonic()
        if self._phase:
            self._longest[self._phase] = max(self._longest[self._phase], now - self._since)
        self._since = now

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._over.wait(LOOKS):
            now = time.monotonic()
            if now - looked > SLEPT:
                self._since += now - looked
            looked = now
            self._look(now)

    def _look(self, now: float) -> None:
        """Act on what is late."""
        if self._stop and now > self._stop[1] and self._phase != "save":
            number = self._stop[0]
            self._end(
                128 + number,
                f"{number.name}: {_said(self._phase, self._step)} did not end in time, so its state is not saved: the "
                "same command goes on from the newest checkpoint (train.grace).",
            )
        elif (seconds := self.late(now)) is not None:
            self._hangs(seconds)
        elif self._connected and now > self._asks:
            self._asks = now + max(2 * LOOKS, self._connected.count / 100)
            if asked := _value(self._connected, KEY):
                self._answer(self._connected, asked)

    def late(self, now: float) -> float | None:
        """The seconds that the phase has taken, if those are too many."""
        phase, since = self._phase, self._since
        limit = getattr(self._limits, phase, None)
        taken = now - since
        return taken if limit is not None and taken > max(limit, USUAL * self._longest[phase]) else None

    def _hangs(self, seconds: float) -> None:
        about = {"phase": self._phase, "step": self._step, "seconds": round(seconds)}
        sentence = f"{_said(self._phase, self._step)} has not ended for {seconds:.0f} s (train.limits.{self._phase})"
        if (connected := self._connected) is None:
            self._tell(sentence, about | {"stacks": {"0": stacks()}})
            return
        try:
            connected.client.key_value_set(KEY, json.dumps(f"{sentence} in process {connected.index}"))
        except jax.errors.JaxRuntimeError:  # another was first, or process 0 is lost
            if asked := _value(connected, KEY):
                self._answer(connected, asked)
            return
        self._collect(connected, f"{sentence} in process {connected.index} ({socket.gethostname()})", about)

    def _collect(self, connected: Connection, sentence: str, about: dict[str, Any]) -> None:
        """Keep the stacks of all processes, and end them."""
        found: dict[str, Any] = {str(connected.index): self._own()}
        deadline = time.monotonic() + ANSWERED
        while len(found) < connected.count and time.monotonic() < deadline:
            time.sleep(LOOKS / 4)
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                answers = connected.client.key_value_dir_get(f"{KEY}/stacks/")
                found |= {key.rpartition("/")[2]: json.loads(text) for key, text in answers}
        silent = [number for number in range(connected.count) if str(number) not in found]
        if silent:
            sentence += f"; {listed(silent)} did not answer"
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            connected.client.key_value_set(f"{KEY}/told", json.dumps(sentence))
        _last(connected)
        self._tell(sentence, about | {"process": connected.index, "stacks": found, "silent": silent})

    def _own(self) -> dict[str, Any]:
        return {"host": socket.gethostname(), "phase": self._phase, "step": self._step, "stacks": stacks()}

    def _answer(self, connected: Connection, asked: str) -> None:
        """Send the stacks of this process, and end when the other has kept them."""
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            connected.client.key_value_set(f"{KEY}/stacks/{connected.index}", json.dumps(self._own()))
        deadline, told = time.monotonic() + ANSWERED + SLEPT, None
        while told is None and time.monotonic() < deadline:
            time.sleep(LOOKS / 4)
            told = _value(connected, f"{KEY}/told")
        _last(connected)
        self._end(TRY_AGAIN, f"{told or asked}: see the event `hang` of {self._folder}.")

    def _tell(self, sentence: str, about: dict[str, Any]) -> None:
        add_event(self._folder, "hang", **about)
        self._end(
            TRY_AGAIN,
            f"{sentence}: the stacks of all threads are in events.jsonl of {self._folder}, event `hang`; the same "
            "command goes on from the newest checkpoint.",
        )


def _said(phase: str, step: int) -> str:
    """`The step 7`, `The save of step 7`."""
    words = WORDS.get(phase, "What comes before the first step")
    return f"{words} {step:,}" if phase == "step" else f"{words} of step {step:,}" if step else words


def _last(connected: Connection) -> None:
    """Let process 0, which has the store of values, end after the others have read it."""
    if connected.index == 0:
        time.sleep(3 * LOOKS)


def _value(connected: Connection, key: str) -> Any:
    """The value of a key, through JSON; None if there is none, or process 0 is lost."""
    try:
        return json.loads(connected.client.key_value_try_get(key))
    except jax.errors.JaxRuntimeError:
        return None
