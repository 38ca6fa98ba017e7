"""What must hold before several processes compile anything: all are there, alike, in time, and see one directory.

Each mistake is one sentence with the number and the host of the process concerned, within `T5LIKE_START_SECONDS`; every
process ends with it. A process alone checks nothing here.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import socket
import sys
import time
import uuid
from collections.abc import Iterator, Mapping

from t5like.config import Config, presets
from t5like.errors import UserError
from t5like.processes.distributed import Place, client, connect, find_place, leads
from t5like.processes.roll_call import Roll, answer, listed

PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "tensorflow", "tensorflow-cpu", "numpy")
FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
"""Variables that change the compiled program."""
APART = 5.0
"""Seconds that clocks may differ: credentials and the order of events depend on them."""
VISIBLE = 5.0
"""Seconds until a file that one host wrote must be seen on another."""
Report = dict[str, dict[str, str]]
"""What a process says of itself: groups `host`, `versions`, `flags` and `config` of named values."""
REMEDIES = {
    "versions": "install the same on every host",
    "flags": "set it to the same on every host",
    "config": "start every process with the same command",
}


@contextlib.contextmanager
def processes(config: Config, asked: Mapping[str, object], writes: bool = False) -> Iterator[None]:
    """Joins the other processes of the run, if there are any; within, process 0 alone prints.

    Args:
      asked: the rest of the command, which has to be the same everywhere.
      writes: whether every process has to be able to write into `train.directory`.

    Raises:
      UserError: a process is missing, or differs from the others in what has to be the same.
    """
    seconds = _seconds()
    if client() is None and (place := find_place(seconds)):
        directory = str(pathlib.Path(config.train.directory).expanduser()) if writes else ""
        call_roll(place, report_of(place, config, asked), directory, seconds)
        connect(place, seconds)
    with _one_voice() if client() is not None else contextlib.nullcontext():
        yield


def _seconds() -> float:
    value = os.environ.get("T5LIKE_START_SECONDS", "300")
    if not value.isdecimal() or not int(value):
        raise UserError(f"T5LIKE_START_SECONDS={value} is no number of seconds above 0.")
    return float(value)


def report_of(place: Place, config: Config, asked: Mapping[str, object]) -> Report:
    """What this process says of itself."""
    values = {**{name: repr(value) for name, value in presets.leaves(config).items()}}
    values |= {name: repr(value) for name, value in asked.items()}
    return {
        "host": {"name": socket.gethostname()},
        "versions": {
            "Python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
            "t5like": f"{version('t5like')} of source {_source()}",
        },
        "flags": {"the number of processes": str(place.count), **{name: os.environ.get(name, "") for name in FLAGS}},
        "config": values,
    }


def version(package: str) -> str:
    """The version of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _source() -> str:
    """A short hash of the package's own files, which an editable installation may have in any state."""
    root = pathlib.Path(__file__).parents[1]
    files = sorted(root.rglob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def call_roll(place: Place, report: Report, directory: str, seconds: float) -> None:
    """Checks the processes against each other; all return, or all raise the same sentence.

    Raises:
      UserError: what is wrong, and where.
    """
    if place.index:
        look = functools.partial(complaint_about, directory)
        answer(place.address, place.index, report, {"directory": look}, seconds)
        return
    with Roll(place.address, place.count, report) as roll:
        roll.wait(seconds)
        reports = roll.reports
        if roll.missing:
            there = ", ".join(who(number, reports) for number in sorted(reports)[:10])
            raise UserError(
                f"{capital(listed(roll.missing))} of {place.count} did not come within {seconds:.0f} s (there "
                f"{'is' if len(reports) == 1 else 'are'} {there}): start the same command on every host, or set "
                "JAX_NUM_PROCESSES to the number that there are."
            )
        require_alike(reports)
        for number, ahead, doubt in roll.clocks():
            if abs(ahead) > APART + doubt:
                way = "ahead of" if ahead > 0 else "behind"
                raise UserError(
                    f"The clock of {who(number, reports)} is {abs(ahead):.0f} s {way} that of {who(0, reports)}: set "
                    "both by a time server (NTP)."
                )
        if directory:
            _check_directory(roll, directory)


def who(number: int, reports: Mapping[int, Report]) -> str:
    """A process by number and host."""
    return f"process {number} ({reports[number]['host']['name']})"


def capital(text: str) -> str:
    """The text as it begins a sentence."""
    return text[:1].upper() + text[1:]


def require_alike(reports: Mapping[int, Report]) -> None:
    """Raises `UserError` at the first value in which a process differs from process 0."""
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


def _check_directory(roll: Roll, directory: str) -> None:
    """Whether every process can write there, and sees what process 0 wrote."""
    token = f".{uuid.uuid4().hex}"
    if said := complaint_about(directory):
        raise UserError(f"{capital(who(0, roll.reports))} {said}.")
    file = pathlib.Path(directory) / token
    try:
        file.touch()
        for number, said in roll.ask("directory", token):
            if said:
                raise UserError(f"{capital(who(number, roll.reports))} {said}.")
    finally:
        file.unlink(missing_ok=True)


def complaint_about(directory: str, token: str = "") -> str:
    """What this process cannot do with a directory, as the rest of a sentence; empty when all is well.

    Args:
      token: the name of a file in it that process 0 has written.
    """
    folder = pathlib.Path(directory)
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
def _one_voice() -> Iterator[None]:
    """What Python prints appears from process 0 alone, since all would print the same; errors appear from each.

    What libraries print past Python (Gloo does) goes to standard error, so that programs can read a command's output.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    with open(kept if leads() else os.devnull, "w", encoding=sys.stdout.encoding, errors="backslashreplace") as out:
        with contextlib.redirect_stdout(out):
            yield
        out.flush()
        os.dup2(kept, 1)
