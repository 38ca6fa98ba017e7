"""The rows that a run has skipped before each step, from its events: it goes on behind the rows of a bad step."""

from collections.abc import Callable

from t5like.runs.directory import RunDirectory
from t5like.runs.lines import read_lines


def rows_skipped(run: RunDirectory) -> Callable[[int], int]:
    """A function from a step to the rows between its own and those that it would have if the run had never gone back.

    Each rollback holds for the steps behind the one that it goes back to. A run that goes on from a checkpoint has what
    that says, whatever rollbacks came after it was saved.
    """
    kept: list[tuple[int, int]] = []
    for event in read_lines(run.path / "events.jsonl"):
        if "rows_skipped" in event:
            since = event["to"] if event["event"] == "rolled_back" else event["step"]
            kept = [pair for pair in kept if pair[0] < since] + [(since, event["rows_skipped"])]
    return lambda step: next((rows for since, rows in reversed(kept) if since < step), 0)
