"""Events of a run: lines of events.jsonl, each with its name and its time."""

import contextlib
import datetime
from typing import Any

from t5like.runs.directory import RunDirectory
from t5like.runs.lines import Appended, Record, read_lines
from t5like.storage import Path

FILE = "events.jsonl"


def event(name: str, fields: dict[str, Any]) -> Record:
    """The line of an event that happens now."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"event": name, "time": now, **fields}


def add_event(folder: Path, name: str, **fields: Any) -> None:
    """Append an event from any process or thread, as one that is about to end does; nothing comes of a folder that
    cannot be written."""
    with contextlib.suppress(OSError):
        log = Appended(folder / FILE)
        log.append(event(name, fields))
        log.close()


def finished(run: RunDirectory, step: int) -> bool:
    """True if a run's events say that it was finished at this step or a later one, or the run keeps none."""
    events = read_lines(run.path / FILE)
    steps = [line.get("step") for line in events if line.get("event") == "finished"]
    return not events or any(isinstance(each, int) and each >= step for each in steps)
