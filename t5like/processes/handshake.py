"""The handshake: before JAX connects the processes of a run, all of them come to process 0, which says who is missing.

JAX's coordination service cannot say it: its key-value store serves only processes that are registered, and
registration is a barrier of all of them, at whose time limit each process is aborted (SIGABRT, no exception) without
the number of the missing one (measured with jax 0.10.2). So each process sends its number and host name over a plain
socket to the address where JAX's service starts afterwards, and gets one answer: go on, or the sentence to end with.
All that is compared later goes through JAX's key-value store, see `preflight`.
"""

import contextlib
import json
import socket
import sys
import time
from collections.abc import Iterable

from t5like.errors import TransientError, UserError
from t5like.processes.distributed import Outcome, ProcessInfo, outcome_of, raise_outcome

PATIENCE = 10.0
"""Seconds that one message may take."""
SAY_AFTER = 30.0
"""Seconds of waiting after which process 0 says for whom it waits."""
KEEP_ALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""Options of a connection that ends within 30 s of the other machine's end, which may be too sudden to say so."""


def assemble(info: ProcessInfo, seconds: float) -> None:
    """Wait until every process of the run is there; all of them return, or all raise the same sentence.

    Raises:
      TransientError: a process is missing after `seconds`, or process 0 cannot be reached.
      UserError: two processes have the same number, or the port is taken.
    """
    if info.index:
        _report(info, seconds)
    else:
        _take_in_all(info, seconds)


def _take_in_all(info: ProcessInfo, seconds: float) -> None:
    """Process 0: wait for the others, then answer each of them."""
    hosts, connections = {0: socket.gethostname()}, dict[int, socket.socket]()
    outcome = outcome_of(
        TransientError(f"Process 0 ({hosts[0]}) ended before all processes were there: look at its messages.")
    )
    with _listen(info.address) as server:
        try:
            _wait(server, info.count, hosts, connections, seconds)
            if missing := _missing(info.count, hosts, connections):
                there = ", ".join(f"process {number} ({hosts[number]})" for number in sorted(hosts)[:10])
                raise TransientError(
                    f"{listed(missing).capitalize()} of {info.count} did not come within {seconds:.0f} s (there "
                    f"{'is' if len(hosts) == 1 else 'are'} {there}): start the same command on every host, or set "
                    "JAX_NUM_PROCESSES to the number that there are."
                )
            outcome = None
        except (TransientError, UserError) as error:
            outcome = outcome_of(error)
            raise
        finally:
            _answer(connections.values(), outcome)


def _wait(
    server: socket.socket, count: int, hosts: dict[int, str], connections: dict[int, socket.socket], seconds: float
) -> None:
    """Fill `hosts` and `connections` with the processes that come within so many seconds, until all are there."""
    started = said = time.monotonic()
    while (missing := _missing(count, hosts, connections)) and (left := started + seconds - time.monotonic()) > 0:
        server.settimeout(min(left, 1.0))
        with contextlib.suppress(TimeoutError):
            _take_in(server.accept()[0], hosts, connections)
        if time.monotonic() - said > SAY_AFTER:
            said = time.monotonic()
            print(f"Waiting for {listed(missing)} of {count} ...", file=sys.stderr, flush=True)


def _missing(count: int, hosts: dict[int, str], connections: dict[int, socket.socket]) -> list[int]:
    """The processes that have not come; once all have, those that came and have ended since."""
    if len(hosts) == count:
        for number in [number for number, connection in connections.items() if not _is_open(connection)]:
            connections.pop(number).close()
            del hosts[number]
    return [number for number in range(count) if number not in hosts]


def _take_in(connection: socket.socket, hosts: dict[int, str], connections: dict[int, socket.socket]) -> None:
    """Read the number and host name of a process, such as `[1, "host-b"]`."""
    connection.settimeout(PATIENCE)
    _keep_alive(connection)
    try:
        number, host = json.loads(_line(connection))
        old = connections.get(number)
    except (OSError, ValueError, TypeError):
        connection.close()  # some other program
        return
    # A process that ended and was started again replaces itself.
    if number == 0 or (old and _is_open(old)):
        twice = UserError(f"Process {number} was started twice: give each process a number of its own.")
        _answer([connection], outcome_of(twice))
        raise twice
    if old:
        old.close()
    connections[number], hosts[number] = connection, host


def _answer(connections: Iterable[socket.socket], outcome: Outcome | None) -> None:
    """Let the others go on, or end as this process does."""
    for connection in connections:
        with contextlib.suppress(OSError), connection:
            connection.sendall(json.dumps(outcome).encode() + b"\n")


def _keep_alive(connection: socket.socket) -> None:
    """Have the system notice the end of the machine at the other end, as far as it has `KEEP_ALIVE`."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _line(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as file:
        if not (line := file.readline(2**16)):
            raise ConnectionError("the connection ended")
    return line


def _is_open(connection: socket.socket) -> bool:
    """True if the process at the other end is still there; it says nothing more."""
    connection.setblocking(False)
    try:
        return connection.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        connection.settimeout(PATIENCE)


def listed(numbers: list[int]) -> str:
    """`process 1`, or `processes 1, 3`; the first ten of many."""
    more = f" and {len(numbers) - 10} more" if len(numbers) > 10 else ""
    return f"process{'es' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:10]))}{more}"


def _report(info: ProcessInfo, seconds: float) -> None:
    """A process other than 0: say that it is there, and wait for the answer."""
    with _reach(info, seconds) as connection:
        try:
            connection.sendall(json.dumps([info.index, socket.gethostname()]).encode() + b"\n")
            connection.settimeout(seconds + PATIENCE)  # process 0 may have begun to wait for the others only now
            _keep_alive(connection)
            outcome = json.loads(_line(connection))
        except (OSError, ValueError) as error:
            raise TransientError(
                f"Process 0 at {info.address} ended while process {info.index} reported to it ({error})."
            ) from None
    raise_outcome(outcome)


def _reach(info: ProcessInfo, seconds: float) -> socket.socket:
    """A connection to process 0, which may start later than this one."""
    host, _, port = info.address.rpartition(":")
    deadline = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)
        except OSError as error:
            if time.monotonic() > deadline:
                reason = error.strerror or str(error)
                raise TransientError(
                    f"Process {info.index} ({socket.gethostname()}) finds no process 0 at {info.address} within "
                    f"{seconds:.0f} s ({reason}): start the same command on every host, and see that this address can "
                    "be reached."
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
