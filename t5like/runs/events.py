"""Events that others than a run's logger write, and what its events say."""

import contextlib
from typing import Any

from t5like.runs.directory import RunDirectory
from t5like.runs.lines import Appended, event, records_back
from t5like.storage import Path

FILE = "events.jsonl"


def add_event(folder: Path, name: str, **fields: Any) -> None:
    """Append an event from any process or thread, as one that is about to end does; nothing comes of a folder that
    cannot be written."""
    with contextlib.suppress(OSError):
        log = Appended(folder / FILE)
        log.append(event(name, **fields))
        log.close()


def finished(run: RunDirectory, step: int) -> bool:
    """True if a run's events say that it was finished at this step or a later one, or the run keeps none."""
    log = run.path / FILE
    if next(records_back(log), None) is None:
        return True
    steps = (line.get("step") for line in records_back(log, '"finished"') if line.get("event") == "finished")
    return any(isinstance(each, int) and each >= step for each in steps)
