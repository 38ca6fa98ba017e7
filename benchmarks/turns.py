"""Programs that take turns on the same cores, each in a process of its own, so that what else the machine does hits all
alike."""

import importlib.util
import multiprocessing
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

PAUSE = 0.3
"""Seconds after which the threads of the process before have stopped to wait for more work."""


class LeftOutError(Exception):
    """A program that cannot do a case here, with the reason."""


class Turn(NamedTuple):
    """Seconds of one call, what it gave, and the process's peak memory so far in megabytes, libraries included."""

    seconds: float
    result: Any
    megabytes: int


class Contender:
    """A process with the function that `make` gives it for a case."""

    def __init__(self, make: Callable[..., Callable[..., Any]], *given: Any):
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, make, given), daemon=True)
        self._process.start()
        there.close()
        self.left_out: str = self._here.recv()
        """The reason that it takes no turns; empty where it does."""

    def __call__(self, *asked: Any) -> Turn:
        """Call the function, and time it."""
        time.sleep(PAUSE)
        self._here.send(asked)
        return Turn(*self._here.recv())

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


def _serve(there: Connection, make: Callable[..., Callable[..., Any]], given: tuple[Any, ...]) -> None:
    try:
        work = make(*given)
    except LeftOutError as reason:
        there.send(str(reason))
        return
    there.send("")
    while True:
        asked = there.recv()
        started = time.perf_counter()
        result = work(*asked)
        seconds = time.perf_counter() - started
        there.send((seconds, result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000))


def require_package(name: str) -> None:
    """Raises `LeftOutError` if a package is not installed."""
    if importlib.util.find_spec(name) is None:
        raise LeftOutError(f"{name} is not installed")
