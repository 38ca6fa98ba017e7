"""The roll call: before JAX connects the processes of a run, process 0 hears from each and asks it questions.

It goes over plain sockets at the address where JAX's coordination service starts afterwards, for that service kills a
process, without a sentence, when another does not come. Messages are lines of JSON; process 0 asks, the others answer
until they are dismissed.
"""

import contextlib
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from t5like.errors import UserError

PATIENCE = 10.0
"""Seconds that an answer may take."""
SAY_AFTER = 30.0
"""Seconds of waiting after which process 0 says for whom it waits."""
Questions = Mapping[str, Callable[[Any], Any]]
"""Name of a question -> what answers it, from what was said with it."""


class Line:
    """A connection on which each message is a line of JSON."""

    def __init__(self, connection: socket.socket):
        self._connection, self._read = connection, connection.makefile("rb")
        connection.settimeout(PATIENCE)

    def wait(self, seconds: float) -> None:
        """From now on waits so long for messages."""
        self._connection.settimeout(seconds)

    def send(self, message: Any) -> None:
        """Sends a message."""
        self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> Any:
        """The next message.

        Raises:
          OSError, ValueError: the connection ended or is another program's.
        """
        if not (line := self._read.readline(2**24)):
            raise ConnectionError("the connection ended")
        return json.loads(line)

    def close(self) -> None:
        """Ends the connection."""
        self._read.close()
        self._connection.close()

    def alive(self) -> bool:
        """Whether the other end is still there; it says nothing unasked."""
        self._connection.setblocking(False)
        try:
            return self._connection.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self._connection.settimeout(PATIENCE)


class Roll:
    """The processes that have come to process 0: `reports` is what each said of itself, its own included."""

    def __init__(self, address: str, count: int, report: Any):
        self.reports: dict[int, Any] = {0: report}
        self._address, self._count, self._lines = address, count, dict[int, Line]()
        self._server = _listen(address)

    def __enter__(self) -> "Roll":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Dismisses all: to go on, or with the sentence that they end with as well."""
        for line in self._lines.values():
            with contextlib.suppress(OSError):
                line.send(["dismissed", str(error) if isinstance(error, UserError) else ""])
            line.close()
        self._server.close()

    @property
    def missing(self) -> list[int]:
        """The processes that have not come."""
        return [number for number in range(self._count) if number not in self.reports]

    def wait(self, seconds: float) -> None:
        """Takes in those who come within so many seconds, until all are there.

        Raises:
          UserError: two processes have the same number.
        """
        started = said = time.monotonic()
        while self.missing and (left := started + seconds - time.monotonic()) > 0:
            self._server.settimeout(min(left, 1.0))
            with contextlib.suppress(TimeoutError):
                self._take_in(self._server.accept()[0])
            if time.monotonic() - said > SAY_AFTER:
                said = time.monotonic()
                print(f"Waiting for {listed(self.missing)} of {self._count} ...", file=sys.stderr, flush=True)

    def _take_in(self, connection: socket.socket) -> None:
        line = Line(connection)
        try:
            number, report = line.receive()
            old = self._lines.get(number)
        except (OSError, ValueError, TypeError):
            line.close()  # some other program
            return
        # One that ended and was started again takes its old place.
        if number == 0 or (old and old.alive()):
            line.send(["dismissed", f"There is a process {number} already: give each process a number of its own."])
            line.close()
            raise UserError(f"Process {number} was started twice: give each process a number of its own.")
        self._lines[number], self.reports[number] = line, report

    def ask(self, question: str, about: Any = None) -> Iterator[tuple[int, Any]]:
        """Each process's answer to a question that is put to all at once.

        Raises:
          UserError: a process ended.
        """
        for number, line in self._lines.items():
            with _heard(number):
                line.send([question, about])
        for number, line in sorted(self._lines.items()):
            with _heard(number):
                said = line.receive()
            yield number, said

    def clocks(self) -> Iterator[tuple[int, float, float]]:
        """By how many seconds each process's clock is ahead of this one's, and how far that may be wrong."""
        for number, line in sorted(self._lines.items()):
            before = time.time()
            with _heard(number):
                line.send(["time", None])
                said = float(line.receive())
            after = time.time()
            yield number, said - (before + after) / 2, (after - before) / 2


@contextlib.contextmanager
def _heard(number: int) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise UserError(f"Process {number} ended during the preflight ({error}): look at its messages.") from None


def listed(numbers: list[int]) -> str:
    """`process 1`, or `processes 1, 3`; the first ten of many."""
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    return f"process{'es' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:10]))}{more}"


def answer(address: str, number: int, report: Any, questions: Questions, seconds: float) -> None:
    """What processes other than 0 do: they report to process 0 and answer until they are dismissed.

    Raises:
      UserError: process 0 is not there within so many seconds, or found what the run cannot go on with.
    """
    deadline = time.monotonic() + seconds
    line = Line(_reach(address, number, deadline, seconds))
    try:
        line.send([number, report])
        line.wait(seconds + PATIENCE)  # process 0 may have begun to wait for the others only now
        while True:
            question, about = line.receive()
            if question == "dismissed":
                break
            line.send(time.time() if question == "time" else questions[question](about))
    except (OSError, ValueError) as error:
        raise UserError(f"Process 0 at {address} ended while process {number} reported to it ({error}).") from None
    finally:
        line.close()
    if about:
        raise UserError(about)


def _reach(address: str, number: int, deadline: float, seconds: float) -> socket.socket:
    host, _, port = address.rpartition(":")
    while True:
        try:
            return socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)
        except OSError as error:
            if time.monotonic() > deadline:
                reason = error.strerror or str(error)
                raise UserError(
                    f"Process {number} ({socket.gethostname()}) finds no process 0 at {address} within {seconds:.0f} s "
                    f"({reason}): start the same command on every host, and see that this address can be reached."
                ) from None
            time.sleep(0.2)


def _listen(address: str) -> socket.socket:
    """A server at the port of the address, on all of the machine's addresses, as JAX's own will be."""
    port = int(address.rpartition(":")[2])
    both = socket.has_dualstack_ipv6()
    try:
        family = socket.AF_INET6 if both else socket.AF_INET
        return socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=1024)
    except OSError as error:
        raise UserError(
            f"Process 0 ({socket.gethostname()}) cannot listen at port {port} of {address} ({error.strerror}): end "
            "what listens there, or choose another port."
        ) from None
