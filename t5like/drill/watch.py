"""The view of a run directory from outside while a run goes on: the last step, the checkpoints, the logs."""

import contextlib
import json
import pathlib
import re
from typing import Any

TAIL = 2**14
"""Bytes at the end of a log in which its last whole line lies."""
UNFINISHED = re.compile(r"(\d+)\.\D.*tmp")


def last_step(run: pathlib.Path) -> int:
    """The step of the last line of metrics.jsonl; 0 where there is none."""
    with contextlib.suppress(OSError), (run / "metrics.jsonl").open("rb") as file:
        file.seek(max(file.seek(0, 2) - TAIL, 0))
        for line in reversed(file.read().split(b"\n")[:-1]):
            with contextlib.suppress(ValueError, TypeError, KeyError):
                return int(json.loads(line)["step"])
    return 0


def saved(run: pathlib.Path) -> list[int]:
    """The steps that have a whole checkpoint, ascending."""
    with contextlib.suppress(OSError):
        return sorted(int(path.name) for path in (run / "checkpoints").iterdir() if path.name.isdecimal())
    return []


def saving(run: pathlib.Path) -> int:
    """The largest step whose checkpoint is being written; 0 where none is."""
    found = [0]
    with contextlib.suppress(OSError):
        names = (UNFINISHED.fullmatch(path.name) for path in (run / "checkpoints").iterdir())
        found += [int(name[1]) for name in names if name]
    return max(found)


def records(log: pathlib.Path) -> list[dict[str, Any]]:
    """The records of a log, without lines that are none."""
    found = []
    for line in log.read_bytes().split(b"\n") if log.exists() else ():
        with contextlib.suppress(ValueError):
            if isinstance(record := json.loads(line), dict):
                found.append(record)
    return found
