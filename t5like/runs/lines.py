"""Lines that a run appends: a file on a disk, and parts in a bucket, whose objects cannot grow.

The lines of gs://b/run/metrics.jsonl are those of gs://b/run/metrics/000001.jsonl, 000002.jsonl and so on. A process
begins a part of its own, under the next number that none has, and writes it again with each line until it has `PART`
bytes: so no line is lost to a kill, and none to another process that takes the run to be its own.
"""

import contextlib
import datetime
import json
from collections.abc import Callable
from typing import Any

from t5like.storage import Path, is_remote, write_small
from t5like.strict_json import dumps

PART = 2**16
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
    """The records of a log, without lines that a kill cut short; [] where there is none."""
    return [record for file in _files(log) for _, record in _whole(file)]


def drop_lines(log: Path, keeps: Callable[[Record], bool]) -> None:
    """Leave only the whole lines whose record is to be kept."""
    for file in reversed(_files(log)):
        kept = "".join(f"{line}\n" for line, record in _whole(file) if keeps(record))
        if kept != file.read_text("utf-8"):
            write_small(file, kept)


def _whole(file: Path) -> list[tuple[str, Record]]:
    """The lines of a file that are whole, with their records."""
    found = []
    for line in file.read_text("utf-8").splitlines():
        with contextlib.suppress(ValueError):
            found.append((line, json.loads(line)))
    return found


def _files(log: Path) -> list[Path]:
    """The files that hold a log's lines, in their order."""
    return _parts(log) if is_remote(log) else [log] if log.exists() else []


def _parts(log: Path) -> list[Path]:
    return sorted(_folder(log).glob("*.jsonl"))


def _folder(log: Path) -> Path:
    return log.with_suffix("")
