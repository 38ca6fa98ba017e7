"""Checks before several processes compile anything: all are there, alike, in time, and see one directory.

Each mistake is one sentence with the number and the host of the process concerned, within `T5LIKE_START_SECONDS`; every
process ends with it. A process alone checks nothing here.
"""

import contextlib
import hashlib
import os
import pathlib
import platform
import socket
import sys
import time
import uuid
from collections.abc import Iterator, Mapping

from t5like.config import Config, presets
from t5like.errors import TransientError, UserError
from t5like.processes.distributed import (
    Connection,
    ProcessInfo,
    connection,
    find_process,
    is_primary_process,
)
from t5like.processes.handshake import PATIENCE, assemble
from t5like.processes.joining import connect, coordinator_address
from t5like.processes.peers import Peers
from t5like.storage import path_of
from t5like.versions import VERSION, versions

PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "tensorflow", "tensorflow-cpu", "numpy")
FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
"""Variables that change the compiled program."""
APART = 5.0
"""Seconds that clocks may differ: credentials and the order of events depend on them."""
VISIBLE = 5.0
"""Seconds until a file that one host wrote must be seen on another."""
Report = dict[str, dict[str, str]]
"""A process of itself: groups `host`, `versions`, `flags` and `config` of named values."""
REMEDIES = {
    "versions": "install the same on every host",
    "flags": "set it to the same on every host",
    "config": "start every process with the same command",
}


@contextlib.contextmanager
def processes(config: Config, asked: Mapping[str, object], writes: bool = False) -> Iterator[None]:
    """Join the other processes of the run, if there are any; within, process 0 alone prints.

    Args:
      asked: the rest of the command, which has to be the same everywhere.
      writes: whether every process has to be able to write into `train.directory`.

    Raises:
      UserError: a process differs from the others in what has to be the same.
      TransientError: a process is missing, or lost.
    """
    seconds = _seconds()
    if connection() is None and (info := find_process(seconds)):
        assemble(info, seconds)
        connect(info, seconds)
        connected = connection()
        assert connected is not None
        require_alike(connected, report_of(info, config, asked))
        if writes:
            directory = path_of(config.train.directory)
            require_shared(connected, socket.gethostname(), str(directory))
    with contextlib.ExitStack() as joined:
        if (connected := connection()) is not None:
            folder = path_of(config.train.directory) if writes else None
            joined.enter_context(Peers(connected, coordinator_address(), folder))
            joined.enter_context(_print_on_primary())
        yield


def _seconds() -> float:
    value = os.environ.get("T5LIKE_START_SECONDS", "300")
    if not value.isdecimal() or not int(value):
        raise UserError(f"T5LIKE_START_SECONDS={value} is no number of seconds above 0.")
    return float(value)


def report_of(info: ProcessInfo, config: Config, asked: Mapping[str, object]) -> Report:
    """The report of this process."""
    values = {name: repr(value) for name, value in (presets.leaves(config) | dict(asked)).items()}
    return {
        "host": {"name": socket.gethostname()},
        "versions": {
            "Python": platform.python_version(),
            **versions(PACKAGES),
            "t5like": f"{VERSION} of source {_source()}",
        },
        "flags": {"the number of processes": str(info.count), **{name: os.environ.get(name, "") for name in FLAGS}},
        "config": values,
    }


def _source() -> str:
    """A short hash of the package's own files, which an editable installation may have in any state."""
    root = pathlib.Path(__file__).parents[1]
    files = sorted(root.rglob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def require_alike(connected: Connection, report: Report) -> None:
    """Compare the processes; all of them return, or all raise the same sentence.

    Raises:
      UserError: a process differs from process 0 in a version, flag or field, or its clock is apart.
    """
    # All processes leave the barrier at the same moment, within a message's time: their clocks can be compared.
    connected.wait_for_all("t5like/preflight/clocks", PATIENCE)
    connected.share("t5like/preflight/report", [time.time(), report])

    def compare() -> None:
        shared = connected.collect("t5like/preflight/report", PATIENCE)
        reports = {number: report for number, (_, report) in shared.items()}
        compare_values(reports)
        compare_clocks({number: seconds for number, (seconds, _) in shared.items()}, reports)

    connected.run_on_primary("t5like/preflight/alike", "compare the processes", compare)


def who(number: int, reports: Mapping[int, Report]) -> str:
    """A process by number and host."""
    return f"process {number} ({reports[number]['host']['name']})"


def capital(text: str) -> str:
    """The text as it begins a sentence."""
    return text[:1].upper() + text[1:]


def compare_values(reports: Mapping[int, Report]) -> None:
    """Raise `UserError` at the first value in which a process differs from process 0."""
    first = reports[0]
    for number, report in sorted(reports.items()):
        for group, remedy in REMEDIES.items():
            for name in first[group].keys() | report[group].keys():
                here, there = (values[group].get(name, "nothing") for values in (first, report))
                if here != there:
                    raise UserError(
                        f"{capital(who(number, reports))} has {name}={there}, but {who(0, reports)} has {here}: "
                        f"{remedy}."
                    )


def compare_clocks(seconds: Mapping[int, float], reports: Mapping[int, Report]) -> None:
    """Raise `UserError` for the first process whose clock, read at one moment on all, is apart from process 0's."""
    for number, read in sorted(seconds.items()):
        if abs(ahead := read - seconds[0]) > APART:
            way = "ahead of" if ahead > 0 else "behind"
            raise UserError(
                f"The clock of {who(number, reports)} is {abs(ahead):.0f} s {way} that of {who(0, reports)}: set "
                "both by a time server (NTP)."
            )


def require_shared(connected: Connection, host: str, directory: str) -> None:
    """Check that every process can write into a directory and sees what process 0 wrote there.

    All of them return, or all raise the same sentence, which names a host.

    Raises:
      UserError: one cannot.
      TransientError: one does not answer.
    """
    file = path_of(directory) / f".{uuid.uuid4().hex}"
    try:
        if connected.index == 0:
            writes = not complaint_about(directory)
            file.touch() if writes else None
            connected.client.key_value_set("t5like/preflight/token", file.name if writes else "")
        token = connected.get("t5like/preflight/token", int(1000 * PATIENCE))
        if token is None:
            raise TransientError(f"Process 0 did not write into train.directory={directory} within {PATIENCE:.0f} s.")
        connected.share("t5like/preflight/directory", [host, complaint_about(directory, token)])

        def require_none() -> None:
            shared = connected.collect("t5like/preflight/directory", VISIBLE + PATIENCE)
            for number, (host, said) in shared.items():
                if said:
                    raise UserError(f"Process {number} ({host}) {said}.")

        connected.run_on_primary("t5like/preflight/shared", "compare the directories", require_none)
    finally:
        if connected.index == 0 and file.exists():
            file.unlink()


def complaint_about(directory: str, token: str = "") -> str:
    """Try a directory; what this process cannot do with it is returned as the rest of a sentence, nothing as "".

    Args:
      token: the name of a file in it that process 0 has written.
    """
    folder = path_of(directory)
    deadline = time.monotonic() + VISIBLE
    while token and not (folder / token).exists():
        if time.monotonic() > deadline:
            return (
                f"does not see what process 0 wrote into train.directory={directory}: choose one on storage that all "
                "hosts share, such as NFS or a mounted bucket"
            )
        time.sleep(0.1)
    own = folder / f".{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        own.touch()
        own.unlink()
    except OSError as error:
        return (
            f"cannot write into train.directory={directory} ({error.strerror or error}): choose another, or let "
            "every host write there"
        )
    return ""


@contextlib.contextmanager
def _print_on_primary() -> Iterator[None]:
    """Let Python print on process 0 alone, since all would print the same; errors appear from each process.

    What libraries print past Python (Gloo does) goes to standard error, so that programs can read a command's output.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    with open(
        kept if is_primary_process() else os.devnull, "w", encoding=sys.stdout.encoding, errors="backslashreplace"
    ) as out:
        with contextlib.redirect_stdout(out):
            yield
        out.flush()
        os.dup2(kept, 1)
