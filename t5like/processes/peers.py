"""The knowledge that the processes of a run have of each other while they work: who is silent, who ended, and why.

JAX's coordination service notices a process that is lost, and then aborts each of the others with a stack of C++
(measured with jax 0.10.2: its client's call-back can be given, but fails to convert its argument, which ends in
`std::terminate`). A thread of each process keeps in the service's store that it lives, so that at that moment
each knows whom to name: it says so in a sentence, and ends with a status after which supervisors try again.
"""

import contextlib
import ctypes
import json
import socket
import sys
import threading
import time
from types import TracebackType
from typing import Any

import jax

from t5like.errors import TRY_AGAIN, InterruptedRunError, TransientError
from t5like.processes.distributed import TOGETHER, Connection
from t5like.processes.stacks import stacks
from t5like.runs.events import add_event
from t5like.signals import end_now
from t5like.storage import Path

KEY = "t5like/peers"
BEAT = 2.0
"""Seconds between signs of life; more where there are over 200 processes."""
SILENT = 2.5
"""Beats after which a process counts as silent."""
REMEDY = "the same command goes on from the newest checkpoint."


class Peers:
    """Watches the other processes. `address` is that of process 0; `folder` the run directory whose events say who was
    lost, if any."""

    def __init__(self, connected: Connection, address: str, folder: Path | None):
        self._connected, self._address, self._folder = connected, address, folder
        self._pause = max(BEAT, connected.count / 100)
        self._reached = time.monotonic()
        self._beats: dict[int, tuple[int, float]] = {}
        self._hosts: dict[int, str] = {}
        self._silent: list[int] = []
        self._ended: tuple[int, str] | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="signs of life", daemon=True)

    def __enter__(self) -> "Peers":
        _take_terminations(self)
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Tell the others of an error, and name the process that is lost in the place of JAX's.

        Raises:
          TransientError: another process is lost or ended, and JAX's error is a consequence.
        """
        if isinstance(error, jax.errors.JaxRuntimeError) and (lost := self.lost(4 * SILENT * self._pause)):
            self._over.set()
            self._tell(lost)
            raise TransientError(f"{lost}: {REMEDY}") from None
        self._over.set()
        if error is not None and not isinstance(error, InterruptedRunError):
            said = str(error).partition("\n")[0] or type(error).__name__
            with contextlib.suppress(jax.errors.JaxRuntimeError):  # another was first, or process 0 is lost
                self._connected.client.key_value_set(f"{KEY}/ended", json.dumps([self._connected.index, said]))

    def lost(self, seconds: float) -> str | None:
        """The process that ended or is lost, as the begin of a sentence, once it is known within so many seconds."""
        deadline = time.monotonic() + seconds
        while True:
            if found := self._lost():
                return found
            if time.monotonic() > deadline:
                return None
            time.sleep(0.1)

    def _lost(self) -> str | None:
        if self._ended:
            number, said = self._ended
            return f"{self._named(number)} ended ({said.rstrip('.')})"
        silent = self._silent
        if self._connected.index and self._is_cut_off():
            silent = [0]
        if not silent:
            return None
        names = [self._named(number) for number in silent[:10]]
        more = f" and {len(silent) - 10} more" if len(silent) > 10 else ""
        verb = "is" if len(silent) == 1 else "are"
        return f"{', '.join(names)}{more} {verb} lost (killed, stopped, or without a network)"

    def _is_cut_off(self) -> bool:
        """True if process 0, which has the store, cannot be reached."""
        if time.monotonic() - self._reached > SILENT * self._pause:
            return True
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=BEAT).close()
        except OSError:
            return True
        return False

    def _named(self, number: int) -> str:
        return f"Process {number}{f' ({self._hosts[number]})' if number in self._hosts else ''}"

    def _watch(self) -> None:
        count, ended = 0, 0.0
        while not self._over.wait(self._pause if count else 0):
            count += 1
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                self._beat(count)
                self._reached = time.monotonic()
            if self._ended is None or self._ended[0] == self._connected.index:
                continue
            ended = ended or time.monotonic()
            # One that fails for the same reason ends by itself; one that waits for the other never does.
            if time.monotonic() - ended > TOGETHER and not self._over.is_set():
                self.end(self._lost() or "Another process ended")

    def _beat(self, count: int) -> None:
        client, own = self._connected.client, self._connected.index
        client.key_value_set(f"{KEY}/beat/{own}", json.dumps([count, socket.gethostname()]), allow_overwrite=True)
        self._ended = self._read("ended") or self._ended
        if own:
            self._silent, hosts = self._read("silent") or ([], {})
            self._hosts = {int(number): host for number, host in hosts.items()}
            return
        now = time.monotonic()
        for key, text in client.key_value_dir_get(f"{KEY}/beat/"):
            number, (beat, self._hosts[number]) = int(key.rpartition("/")[2]), json.loads(text)
            if self._beats.get(number, (0, 0.0))[0] != beat:
                self._beats[number] = beat, now
        late = SILENT * self._pause
        silent = [number for number, (_, seen) in sorted(self._beats.items()) if now - seen > late]
        if (silent, len(self._hosts)) != (self._silent, len(self._beats)) or count % 5 == 1:
            hosts = {number: self._hosts[number] for number in {0, *silent}}
            client.key_value_set(f"{KEY}/silent", json.dumps([silent, hosts]), allow_overwrite=True)
        self._silent = silent

    def _read(self, name: str) -> Any:
        try:
            return json.loads(self._connected.client.key_value_try_get(f"{KEY}/{name}"))
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" in str(error):
                return None
            raise

    def contact_lost(self) -> bool:
        """End the process if another one is lost; False if nothing is known of it."""
        if self._over.is_set():
            return False
        if lost := self.lost(2 * SILENT * self._pause):
            self.end(lost)
        return False

    def end(self, lost: str) -> None:
        """End the process with the sentence, and keep it."""
        self._tell(lost)
        end_now(TRY_AGAIN, f"{lost}: {REMEDY}")

    def _tell(self, lost: str) -> None:
        others = [number for number in range(self._connected.count) if number not in self._silent]
        first = 1 if self._connected.index and self._is_cut_off() else next(iter(others), 0)
        if self._folder is not None and self._connected.index == first:
            add_event(self._folder, "lost", said=lost, process=first, stacks=stacks())


_terminations: list[Any] = []
"""The handler of `std::terminate`, which C++ keeps an address of, and the peers that it asks."""


def _take_terminations(peers: Peers) -> None:
    """Let `peers` say why JAX ends this process; every other end of that kind stays as it is."""
    if _terminations:
        _terminations[1] = peers
        return
    try:
        library = ctypes.CDLL("libstdc++.so.6" if sys.platform == "linux" else "libc++.1.dylib")
        take = library._ZSt13set_terminatePFvvE  # std::set_terminate(void (*)())
    except (OSError, AttributeError):
        return
    take.restype = ctypes.c_void_p

    def ended() -> None:
        if not _terminations[1].contact_lost():
            ctypes.CFUNCTYPE(None)(before)()

    _terminations.extend([ctypes.CFUNCTYPE(None)(ended), peers])
    before = take(_terminations[0])
