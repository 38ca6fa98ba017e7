"""The guard of a run: signals that ask it to stop are handled between steps."""

import contextlib
import itertools
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType

import jax

from t5like.processes.distributed import Connection, connection

AGREED_WITHIN = 600
"""Seconds until all processes must have come to their loops, of which some may still compile."""
JOINED_WITHIN = 10
"""Seconds that the end of a loop waits for the thread that watches, which looks up once a second."""
_consensuses = itertools.count()


class PreemptionHandler:
    """Remembers SIGTERM and SIGINT instead of dying of them; a second signal acts as it would without this.

    It is ours since JAX's (`multihost_utils.reached_preemption_sync_point`) takes SIGTERM from the start of a process
    on, so that none would end while it compiles or prepares data.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}
        connected = connection()
        self._consensus = StopConsensus(connected, lambda: self.signal) if connected else None

    def __enter__(self) -> "PreemptionHandler":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._remember)
        if self._consensus:
            self._consensus.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()
        if self._consensus:
            self._consensus.end()

    def after(self, step: int) -> signal.Signals | None:
        """The signal that ends the run after this step, if any: the same on every process, whichever was sent it."""
        return self._consensus.after(step) if self._consensus else self.signal

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        print(f"\n{self.signal.name}: finishing the step and saving; once more to stop at once.", flush=True)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]


class StopConsensus:
    """Agrees with the other processes on the step to stop after, once one of them was sent a signal.

    A thread of each process watches for the signal through the coordination service, so that a step costs no message.
    When there is one, each says which step it has come to while its loop is held, and all stop after the step that
    follows the largest: none has passed that.
    """

    def __init__(self, connected: Connection, signalled: Callable[[], signal.Signals | None]):
        self._connected, self._signalled = connected, signalled
        self._key = f"t5like/stop/{next(_consensuses)}"
        self._step, self._last, self._signal = 0, -1, signal.SIGTERM
        self._held, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="signals of other processes", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def end(self) -> None:
        """End the watch; while the processes agree, it may have to wait for others for a while."""
        self._over.set()
        self._thread.join(JOINED_WITHIN)

    def after(self, step: int) -> signal.Signals | None:
        """The signal if this is the step to stop after; to be called after each step."""
        with self._held:
            self._step = step
            return self._signal if 0 <= self._last <= step else None

    def _watch(self) -> None:
        client = self._connected.client
        while not self._over.is_set():
            if own := self._signalled():
                with contextlib.suppress(jax.errors.JaxRuntimeError):  # another was first
                    client.key_value_set(self._key, own.name)
            try:
                self._signal = signal.Signals[client.blocking_key_value_get(self._key, 1000)]
            except jax.errors.JaxRuntimeError:
                continue
            with self._held:
                self._agree()
            return

    def _agree(self) -> None:
        client = self._connected.client
        client.key_value_set(f"{self._key}/{self._connected.index}", str(self._step))
        try:
            client.wait_at_barrier(f"{self._key}/said", AGREED_WITHIN * 1000)
        except jax.errors.JaxRuntimeError as error:
            print(f"The processes did not agree on a step to stop after: {error}", file=sys.stderr, flush=True)
            return
        self._last = 1 + max(int(step) for _, step in client.key_value_dir_get(f"{self._key}/"))
