"""SIGTERM and SIGINT, acted on by a thread.

Python calls its own handlers when the main thread is back in Python, which a compiler, a collective or a save may keep
for minutes. So the number of a signal goes through a pipe (`signal.set_wakeup_fd`, which is written to at once) to a
thread.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

STOPPING = (signal.SIGTERM, signal.SIGINT)
LONGEST = 2.0
"""Seconds that the end of a process takes at most."""
_ending = threading.Lock()
_holding: list[str] = []
"""What holds if the process ends now, the innermost last."""


class Signals:
    """Within, the first SIGTERM or SIGINT calls `act` in a thread; later ones do what they would without this."""

    def __init__(self, act: Callable[[signal.Signals], None]):
        self._act, self._seen, self._outer, self._again = act, False, -1, False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Signals":
        """Take the signals; a thread other than the main one has none."""
        if threading.current_thread() is not threading.main_thread():
            return self
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before = {number: signal.signal(number, self._in_main) for number in STOPPING}
        self._outer = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._before:
            return
        signal.set_wakeup_fd(self._outer, warn_on_full_buffer=False)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.write(self._write, b"\0")
        self._thread.join()
        os.close(self._read)
        os.close(self._write)

    def _watch(self) -> None:
        while number := os.read(self._read, 1)[0]:
            if number not in STOPPING or self._seen:
                if self._outer >= 0:
                    os.write(self._outer, bytes([number]))
                continue
            self._seen = True
            self._act(signal.Signals(number))

    def _in_main(self, number: int, frame: FrameType | None) -> None:
        """Python's handler: the thread has acted, but a second signal may be for whom there was before."""
        again, self._again = self._again, True
        if again and self._outer < 0:
            signal.signal(number, self._before[signal.Signals(number)])
            signal.raise_signal(number)


@contextlib.contextmanager
def holding(what: str) -> Iterator[None]:
    """Have a signal's last line say what holds, such as "what is prepared so far is kept"."""
    _holding.append(what)
    try:
        yield
    finally:
        _holding.remove(what)


def end_at_once(number: signal.Signals) -> None:
    """End the process with a line and the status that a shell expects of the signal."""
    end_now(128 + number, f"stopped by {number.name}{f': {_holding[-1]}' if _holding else ''}.")


def end_now(status: int, sentence: str) -> None:
    """Print the sentence and end the process, whatever its other threads are doing; the first of them that ends it says
    why, and with which status."""
    if not _ending.acquire(blocking=False):
        time.sleep(LONGEST)
        os._exit(status)
    # sys.stderr may be held by a thread that never comes back
    with contextlib.suppress(OSError):
        os.write(2, f"t5like: {sentence}\n".encode(errors="backslashreplace"))
    leaving = threading.Thread(target=_leave_nothing, daemon=True)
    leaving.start()
    leaving.join(LONGEST / 2)
    os._exit(status)


def _leave_nothing() -> None:
    """Flush what was printed, end worker processes, and take back their semaphores, of which Python would warn."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if "multiprocessing.util" in sys.modules:
        from multiprocessing import active_children
        from multiprocessing.util import _run_finalizers  # pyright: ignore[reportAttributeAccessIssue]

        for worker in active_children():
            worker.kill()
            worker.join()
        _run_finalizers(0)


def uninterrupted() -> None:
    """The call between batches that nobody wants to stop."""
