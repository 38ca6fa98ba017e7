"""Starts commands as processes, forked from a server or cold, one or several of a run, and signals and watches them."""

import contextlib
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

ROOT = str(pathlib.Path(__file__).parents[2])
SERVER = "from t5like.drill.server import serve; serve()"


class Process(NamedTuple):
    """A running process: its number, its log, and its exit status by `poll`, None while it runs."""

    number: int
    log: pathlib.Path
    poll: Callable[[], int | None]


@dataclass(frozen=True, kw_only=True)
class Way:
    """The way in which a command is started."""

    folder: pathlib.Path
    """The working folder."""
    cold: bool = False
    """By a new interpreter; else by a fork, which alone can be `slow` or `confined`."""
    slow: float = 0.0
    """Seconds that what a disk does takes longer."""
    confined: bool = False
    """Permissions hold for root too."""


class Server:
    """The fork server, which starts with the first command that asks for it and ends with the context."""

    def __init__(self, processes: int):
        self._count, self._server, self._cold = processes, None, list[subprocess.Popen[bytes]]()
        self._environment = dict(os.environ)
        self._environment["PYTHONPATH"] = os.pathsep.join(filter(None, (ROOT, os.environ.get("PYTHONPATH"))))
        if processes > 1:  # an accelerator belongs to one process of a machine
            self._environment["JAX_PLATFORMS"] = "cpu"

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._cold:
            process.kill()
            process.wait()
        if self._server:
            assert self._server.stdin and self._server.stdout
            self._server.stdin.close()
            self._server.wait()
            self._server.stdout.close()

    def start(self, words: Sequence[str], log: pathlib.Path, way: Way) -> "Group":
        """Start `t5like WORDS` as all processes of a run, whose output goes to `<log>.<number>`."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            address = f"127.0.0.1:{listening.getsockname()[1]}"
        begun = []
        for index in range(self._count):
            environment = self._environment
            if self._count > 1:
                several = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(self._count)}
                environment = environment | several | {"JAX_PROCESS_ID": str(index)}
            file = log.with_name(f"{log.name}.{index}")
            begun.append((self._start_cold if way.cold else self._fork)(words, environment, file, way))
        return Group(begun)

    def _start_cold(self, words: Sequence[str], environment: dict[str, str], log: pathlib.Path, way: Way) -> Process:
        with log.open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "t5like", *words],
                env=environment,
                cwd=way.folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self._cold.append(process)
        return Process(process.pid, log, process.poll)

    def _fork(self, words: Sequence[str], environment: dict[str, str], log: pathlib.Path, way: Way) -> Process:
        asked = {"words": list(words), "environment": environment, "folder": str(way.folder), "log": str(log)}
        number = self._ask(asked | {"slow": way.slow, "confined": way.confined})
        ended: list[int] = []

        def poll() -> int | None:
            if not ended and (status := self._ask({"poll": number})) is not None:
                ended.append(status)
            return ended[0] if ended else None

        return Process(number, log, poll)

    def _ask(self, request: dict[str, Any]) -> Any:
        if self._server is None:
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "start_new_session": True}
            self._server = subprocess.Popen([sys.executable, "-c", SERVER], env=self._environment, **pipes)
            assert self._server.stdout
            self._server.stdout.readline()  # it is ready
        assert self._server.stdin and self._server.stdout
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


class Group:
    """The processes of one command."""

    def __init__(self, processes: Sequence[Process]):
        self.processes, self.began = processes, time.monotonic()

    def statuses(self) -> list[int | None]:
        """The exit status of each process, 128 + n of one that signal n ended; None while it runs."""
        found = [process.poll() for process in self.processes]
        return [status if status is None or status >= 0 else 128 - status for status in found]

    @property
    def ended(self) -> bool:
        """True if no process runs."""
        return None not in self.statuses()

    def send(self, number: signal.Signals, which: Collection[int] | None = None) -> None:
        """Send a signal to all processes that run, or to those of `which` numbers."""
        for index, process in enumerate(self.processes):
            if (which is None or index in which) and process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.number, number)

    def limit_files(self, size: int | None) -> None:
        """Let no file of the processes grow over so many bytes, as on a full disk; None takes the limit away."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                hard = resource.prlimit(process.number, resource.RLIMIT_FSIZE)[1]
                resource.prlimit(process.number, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))

    def wait(self, seconds: float) -> list[int] | None:
        """The exit statuses once all have ended; None if they had to be killed after so many seconds."""
        deadline = time.monotonic() + seconds
        while not self.ended:
            if time.monotonic() > deadline:
                self.send(signal.SIGKILL)
                self.wait(60.0)
                return None
            time.sleep(0.02)
        return [status for status in self.statuses() if status is not None]

    def said(self) -> list[str]:
        """All that each process wrote."""
        return [process.log.read_text("utf-8", "replace") for process in self.processes]
