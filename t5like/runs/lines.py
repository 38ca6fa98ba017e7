"""Lines that a run appends: a file on a disk, and parts in a bucket, whose objects cannot grow.

The lines of gs://b/run/metrics.jsonl are those of gs://b/run/metrics/000001.jsonl, 000002.jsonl and so on. A process
begins a part of its own, under the next number that none has, and writes it again with each line until it has `PART`
bytes: so no line is lost to a kill, and none to another process that takes the run to be its own.

A log may have millions of lines, and what is looked for is mostly at its end: it is read from there, and no further
than needed. Lines that are damaged, or that a kill cut short, are no records.
"""

import contextlib
import datetime
import itertools
import shutil
from collections.abc import Callable, Iterator
from typing import Any

from t5like.json_files import parse
from t5like.storage import Path, is_remote, size_of
from t5like.strict_json import dumps

PART = 2**16
BLOCK = 2**18
"""Bytes that are read at once, from the end on."""
SETTLED = 2**16
"""Bytes of lines to keep in a row before which no line is looked at: lines of neighbouring steps may change places."""
Record = dict[str, Any]


def event(name: str, **fields: Any) -> Record:
    """A record of events.jsonl, with the time of now."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"event": name, "time": now, **fields}


class Appended:
    """Appends JSON lines to a log such as `<run>/metrics.jsonl`.

    Raises:
      OSError: a line cannot be written.
    """

    def __init__(self, log: Path):
        self.log, self._part = log, None
        self._file = None if is_remote(log) else log.open("a", encoding="utf-8")
        if self._file is not None and not _ends_whole(log):
            self._file.write("\n")

    def append(self, record: Record) -> None:
        line = dumps(record) + "\n"
        if self._file is not None:
            self._file.write(line)
            self._file.flush()
        elif self._part is None or len(self._content) + len(line) > PART:
            self._begin(line)
        else:
            self._content += line
            self._part.write_text(self._content, "utf-8")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _begin(self, line: str) -> None:
        from t5like.bucket_path import BucketPath

        self._content, number = line, len(_parts(self.log)) + 1
        while True:
            self._part = _folder(self.log) / f"{number:06}.jsonl"
            assert isinstance(self._part, BucketPath)
            if self._part.write_new(line.encode()):
                return
            number += 1


def read_lines(log: Path) -> list[Record]:
    """The records of a log; [] where there is none."""
    return list(records_back(log))[::-1]


def records_back(log: Path, holding: str = "") -> Iterator[Record]:
    """The records of a log from the last to the first; where a text is given, those of the lines that hold it. Nothing
    is read before it is asked for."""
    wanted = holding.encode()
    for file in reversed(_files(log)):
        found = (_record(line) for _, line in _lines_back(file) if wanted in line)
        yield from (record for record in found if record is not None)


def drop_lines(log: Path, keeps: Callable[[Record], bool]) -> int:
    """Drop the lines at the end whose records are not to be kept; the number of damaged ones among them, but for one
    that a kill cut short. `keeps` raises KeyError or TypeError of a record that is damaged."""
    damaged = 0
    for file in reversed(_files(log)):
        some, more = _drop(file, keeps)
        damaged += some
        if not more:
            break
    return damaged


def _drop(file: Path, keeps: Callable[[Record], bool]) -> tuple[int, bool]:
    """Drop lines of a file: the number of damaged ones, and True if it has none, or only few, that are kept."""
    size = end = begin = size_of(file)
    kept, damaged = list[tuple[int, bytes]](), 0
    for begin, line in _lines_back(file):
        keep = _keeps(line, keeps)
        damaged += keep is None and not kept and line.endswith(b"\n")
        if keep or (kept and keep is None):
            kept.append((begin, line))
            end = begin if not line.endswith(b"\n") else end  # which lacks its line feed
        else:
            end = begin
        if end - begin > SETTLED:
            break
    if end < size:
        _write_end(file, end, [line.rstrip(b"\n") + b"\n" for begin, line in reversed(kept) if begin >= end])
    return damaged, begin == 0


def _keeps(line: bytes, keeps: Callable[[Record], bool]) -> bool | None:
    """True if a line is to be kept, None if it is damaged."""
    record = _record(line)
    with contextlib.suppress(KeyError, TypeError):
        return None if record is None else keeps(record)
    return None


def _write_end(file: Path, begin: int, lines: list[bytes]) -> None:
    """Put other lines in the place of those that begin at a byte."""
    if is_remote(file):  # parts, which are small
        file.write_bytes(file.read_bytes()[:begin] + b"".join(lines))
        return
    changed = file.with_name(f"{file.name}.partial") if lines else file
    if lines:
        shutil.copyfile(file, changed)
    with changed.open("r+b") as opened:
        opened.truncate(begin)
        opened.seek(begin)
        opened.writelines(lines)
    if lines:
        changed.replace(file)


def _lines_back(file: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a file, each behind the byte at which it begins, from the last to the first."""
    end, rest = size_of(file), b""
    with file.open("rb") as opened:
        for power in itertools.count():  # more at once in each round, for lines may be of any length
            begin = max(0, end - (BLOCK << min(power, 6)))
            opened.seek(begin)
            block = opened.read(end - begin) + rest
            first = block.find(b"\n") + 1 if begin else 0
            if not begin or first:
                at = len(block)
                while at > first:
                    start = max(first, block.rfind(b"\n", first, at - 1) + 1)
                    yield begin + start, block[start:at]
                    at = start
                rest = block[:first]
            else:
                rest = block
            if not begin:
                return
            end = begin


def _record(line: bytes) -> Record | None:
    with contextlib.suppress(ValueError):
        record = parse(line)
        return record if isinstance(record, dict) else None
    return None


def _ends_whole(file: Path) -> bool:
    """True if a file is empty or its last line has ended."""
    with file.open("rb") as opened:
        opened.seek(max(0, size_of(file) - 1))
        return opened.read() in (b"", b"\n")


def _files(log: Path) -> list[Path]:
    """The files that hold a log's lines, in their order."""
    return _parts(log) if is_remote(log) else [log] if log.exists() else []


def _parts(log: Path) -> list[Path]:
    return sorted(_folder(log).glob("*.jsonl"))


def _folder(log: Path) -> Path:
    return log.with_suffix("")
