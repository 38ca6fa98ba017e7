"""Results of commands: files that appear in a run, lines with which a killed command goes on, and how far one is."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, TypedDict, TypeVar

from t5like.errors import UserError
from t5like.json_files import loads, read_object
from t5like.storage import Path, is_remote, path_of, write_small
from t5like.strict_json import dumps

if TYPE_CHECKING:
    from t5like.runs.opened import Restored

EVERY = 10.0
"""Seconds between two lines of a progress."""
WAIT = 300.0
"""Seconds that processes wait for each other's answer."""
Item = TypeVar("Item")
Record = Mapping[str, Any]


def keep(file: Path, text: str) -> None:
    """Write a result into the run directory, from one process of the run."""
    from t5like.processes.distributed import is_primary_process

    if not is_primary_process():
        return
    try:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}.") from None


def note_step(restored: Restored) -> None:
    """Say on standard error which step answers, where it need not be the newest."""
    if restored.why:
        say(f"t5like: {restored.of_step}.")


def made_by(restored: Restored) -> dict[str, Any]:
    """The checkpoint, and fields of the config that were given other values than the run has, for `resumed`."""
    from t5like.config.presets import differences

    changed = {name: new for name, (_, new) in differences(restored.run.config(), restored.config).items()}
    counted = {name: new for name, new in changed.items() if name.startswith(("model.", "data.", "eval.ema"))}
    return {"run": str(restored.run.path.resolve()), "checkpoint": restored.step, **counted}


class Progress:
    """A line on standard error every `EVERY` seconds, of commands that take longer."""

    def __init__(self, done: str, total: int, count: int = 0):
        """`done` is what is counted, such as "prompts answered", of which `count` are there before; `total` is 0 where
        it is not known."""
        self._done, self._total, self._count, self._first = done, total, count, count
        self._began = self._said = time.monotonic()

    def counted(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, of which each that has been taken counts."""
        for item in items:
            yield item
            self.reach(self._count + 1)

    def reach(self, count: int) -> None:
        """Say that so many are done, if it is time."""
        self._count = count
        now = time.monotonic()
        if now - self._said < EVERY:
            return
        self._said, each = now, (now - self._began) / max(self._count - self._first, 1)
        text = f"{self._count:,}" + (f" of {self._total:,}" if self._total else "") + f" {self._done}"
        left = each * (self._total - self._count)
        text += f", {1 / each:,.1f} a second" + (f", {_time(left)} left" if self._total else "")
        say(f"{text}.")


def say(text: str) -> None:
    """Print a line on standard error, from one process of the run."""
    from t5like.processes.distributed import is_primary_process

    if is_primary_process():
        print(text, file=sys.stderr, flush=True)


def _time(seconds: float) -> str:
    size, unit = (1, "s") if seconds < 100 else (60, "min") if seconds < 6000 else (3600, "h")
    return f"{seconds / size:.0f} {unit}"


class Lines:
    """A file of JSON lines that `resumed` opens: line n is the record of number n."""

    def __init__(self, name: str, written: int, early: dict[int, Record], *files: IO[bytes]):
        """`written` lines are there, and the records of `early`, whose turn has not come. `files` hold these and those;
        processes that do not write have none."""
        self._name, self._written, self._early, self._files = name, written, early, files

    @property
    def count(self) -> int:
        """The records that are there."""
        return self._written + len(self._early)

    @property
    def there(self) -> tuple[int, list[int]]:
        """The lines that are written, and the numbers of the records that wait for their turn."""
        return self._written, list(self._early)

    def known(self, number: int) -> bool:
        """True if the record of that number is there."""
        return number < self._written or number in self._early

    def put(self, number: int, record: Record) -> None:
        """Write the line of a record, and of those that waited for it, or keep it until its turn comes.

        Raises:
          UserError: a file cannot be written.
        """
        if self.known(number):
            return
        self._early[number] = record
        if number > self._written:
            self._write(1, dumps([number, record], ensure_ascii=False))
        while self._written in self._early:
            self.append(dumps(self._early.pop(self._written), ensure_ascii=False))
        if self._files and not self._early:
            self._files[1].truncate(0)

    def append(self, line: str) -> None:
        """Write the next line."""
        self._write(0, line)
        self._written += 1

    def _write(self, file: int, line: str) -> None:
        with _sentences(self._name):
            for opened in self._files[file : file + 1]:
                opened.write(line.encode("utf-8", "backslashreplace") + b"\n")
                opened.flush()


@contextlib.contextmanager
def resumed(file: str, made_from: Record, overwrite: bool) -> Iterator[Lines]:
    """Open a file of JSON lines, with which the same command goes on after a kill; what a kill has cut off is dropped.

    Beside FILE lie `FILE.made_from.json`, and `FILE.waiting` with the lines whose turn has not come. In a run of
    several processes process 0 writes.

    Raises:
      UserError: the file is there and made from something else, or it cannot be written.
    """
    from t5like.processes.distributed import connection, run_on_primary

    if is_remote(file):
        raise UserError(f"--output {file} lies in a bucket, where files cannot grow: name a local file.")
    with contextlib.ExitStack() as opened:
        lines = run_on_primary("open --output", lambda: _open(path_of(file), made_from, overwrite, opened))
        if (connected := connection()) is not None:  # all know of the lines that are there
            connected.share("t5like/output", lines and lines.there)
            written, early = connected.collect("t5like/output", WAIT)[0]
            lines = lines or Lines(file, written, {number: {} for number in early})
        assert lines is not None
        yield lines


def _open(path: Path, made_from: Record, overwrite: bool, opened: contextlib.ExitStack) -> Lines:
    record, waiting = (path.with_name(f"{path.name}.{end}") for end in ("made_from.json", "waiting"))
    with _sentences(str(path)):
        for file in (path, waiting, record) if overwrite else ():
            file.unlink(missing_ok=True)
        made_from = json.loads(json.dumps(made_from, default=str))
        if any(file.is_file() and file.stat().st_size for file in (path, waiting)):
            _require_same(path, record, made_from)
        write_small(record, json.dumps(made_from, ensure_ascii=False, indent=2) + "\n")
        files = [opened.enter_context(_appended(file)) for file in (path, waiting)]
        written = sum(1 for _ in files[0])
        early = dict(_waiting(line, waiting) for line in files[1])
        early = {number: value for number, value in early.items() if number >= written}
        opened.callback(lambda: waiting.unlink(missing_ok=True) if not waiting.stat().st_size else None)
        return Lines(str(path), written, early, *files)


class _MadeFrom(TypedDict):
    """The record of a file: names and values, which are only compared."""


def _waiting(line: bytes, file: Path) -> tuple[int, Record]:
    """The number and the record of a line that waits.

    Raises:
      UserError: it is damaged.
    """
    try:
        number, record = loads(str(line, "utf-8"))
        if isinstance(number, int) and isinstance(record, dict):
            return number, record
    except (ValueError, TypeError):
        pass
    raise UserError(f"{file} is damaged: delete it, and what it holds is made again.")


def _require_same(path: Path, record: Path, made_from: Record) -> None:
    """Raise `UserError` if the record of a file says that it is made from something else."""
    remedy = "name another file, or write it anew with --overwrite"
    if not record.is_file():
        raise UserError(f"--output {path} is there, and nothing says what it is made from: {remedy}.")
    there = read_object(record, _MadeFrom, remedy)
    for name in sorted(there.keys() | made_from.keys()):
        if (old := there.get(name)) != (new := made_from.get(name)):
            differs = f"other {name}" if name in ("prompts", "rows") else f"{name} {old!r}, not {new!r}"
            raise UserError(f"--output {path} is made with {differs}: {remedy}.")


@contextlib.contextmanager
def _appended(path: Path) -> Iterator[IO[bytes]]:
    """Open a file of lines to read it and to append to it, without what a kill left of a line at its end."""
    file = path.open("a+b")
    try:
        file.seek(0)
        whole = sum(len(line) for line in file if line.endswith(b"\n"))
        file.truncate(whole)
        file.seek(0)
        yield file
    finally:
        with contextlib.suppress(OSError):  # which a write has said already
            file.close()


@contextlib.contextmanager
def _sentences(file: str) -> Iterator[None]:
    """Turn an error of the system into a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--output {file} cannot be written: {error.strerror or error}; once that is mended, the same command goes "
            "on from where it stopped."
        ) from None
