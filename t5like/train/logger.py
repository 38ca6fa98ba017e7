"""The logs of a run: metrics.jsonl, events.jsonl, TensorBoard, and one line on the terminal.

On a terminal the line is rewritten in place; elsewhere (a file, a pipe, a pod's log) each is printed.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple

from t5like.errors import UserError
from t5like.runs.lines import Appended, drop_lines, event
from t5like.storage import Path
from t5like.train.board import Board


class Logger:
    """The logs of one run directory; lines of steps after `first_step` that a killed run left behind are dropped.

    Without a folder, as on all processes of a run but the first, nothing is kept.
    """

    def __init__(self, folder: Path | None, first_step: int, tensorboard: bool):
        self._width, self._live, self._folder = 0, sys.stdout.isatty(), folder
        self._metrics = self._events = self._board = None
        if folder is None:
            return
        damaged = drop_lines(folder / "metrics.jsonl", lambda record: record["step"] <= first_step)
        self._metrics, self._events = Appended(folder / "metrics.jsonl"), Appended(folder / "events.jsonl")
        if tensorboard:
            self._board = Board(folder / "tensorboard", first_step)
        if damaged:
            self.event("damaged", file="metrics.jsonl", lines=damaged)
            self.say(f"{folder / 'metrics.jsonl'} had {damaged:,} damaged lines at its end, which are left out.")

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end_line()
        for file in filter(None, (self._metrics, self._events, self._board)):
            file.close()

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Keep figures of a step; figures of one name over steps make a curve."""
        _append(self._metrics, {"step": step, **values})
        if self._board:
            self._board.add(step, values)

    def go_back(self, step: int) -> None:
        """Drop the metrics of the steps after one, to which the run goes back."""
        if self._folder is None or self._metrics is None:
            return
        self._metrics.close()
        drop_lines(self._metrics.log, lambda record: record["step"] <= step)
        self._metrics = Appended(self._metrics.log)
        if self._board:
            self._board.close()
            self._board = Board(self._folder / "tensorboard", max(step, 1))

    def event(self, name: str, **fields: Any) -> None:
        """Keep that something happened, with its time."""
        _append(self._events, event(name, **fields))

    def say(self, text: str) -> None:
        """A line that stays."""
        self._end_line()
        print(text, flush=True)

    def progress(self, text: str) -> None:
        """A line that the next one replaces, where the terminal can."""
        if not self._live:
            print(text, flush=True)
            return
        print(f"\r{text:<{self._width}}", end="", flush=True)
        self._width = len(text)

    def _end_line(self) -> None:
        if self._width:
            print(flush=True)
            self._width = 0


class Speed(NamedTuple):
    """Seconds a step, seconds that the rest will take at that speed, and the share of the time spent on input."""

    step: float
    left: float
    waiting: float


class Throughput:
    """The throughput of steps, from those since the last call.

    A step counts from when its predecessor's metrics were there until its own were, so nothing is counted that was only
    dispatched. The first `DROPPED` steps of a process do not count: they compile and fill caches.
    """

    DROPPED = 3

    def __init__(self, first_step: int, last_step: int):
        self._first_step, self._last_step, self._began = first_step, last_step, time.monotonic()
        self._step, self._time, self._waited = first_step, self._began, 0.0

    def ended(self, step: int) -> None:
        """A step's metrics are there."""
        if step <= self._first_step + self.DROPPED:
            self._step = step
            self.restart()

    def __call__(self, step: int) -> Speed | None:
        """The speed up to a step whose metrics are there; None before any step has counted."""
        if step <= self._step:
            return None
        now = time.monotonic()
        seconds = max(now - self._time, 1e-9)
        speed = seconds / (step - self._step)
        speed = Speed(speed, speed * (self._last_step - step), self._waited / seconds)
        self._step, self._time, self._waited = step, now, 0.0
        return speed

    def go_back(self, step: int) -> None:
        """Count from an earlier step on, to which the run goes back."""
        self._step = step
        self.restart()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count its time as spent waiting for input."""
        started = time.monotonic()
        yield
        self._waited += time.monotonic() - started

    def restart(self) -> None:
        """Leave out the time since the last call, which something else than steps took."""
        self._time, self._waited = time.monotonic(), 0.0


def duration(seconds: float) -> str:
    """`1:02:03`, or `2:03` below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _append(log: Appended | None, record: dict[str, Any]) -> None:
    if log is None:
        return
    try:
        log.append(record)
    except OSError as error:
        raise UserError(f"{log.log} cannot be written: {error.strerror}; the last checkpoint is safe.") from None
