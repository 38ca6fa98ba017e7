"""The rows that a run has skipped before a step, from its events: a rollback goes on behind the rows of a bad step."""

from t5like.runs.directory import RunDirectory
from t5like.runs.lines import read_lines


def rows_skipped(run: RunDirectory, step: int) -> int:
    """The rows that lie between those of a step and those of the steps before it in a run that never went back.

    Each rollback holds from the step that it goes back to. A run that goes on from a checkpoint has what is said there,
    whatever rollbacks came after it.
    """
    kept: list[tuple[int, int]] = []
    for event in read_lines(run.path / "events.jsonl"):
        if "rows_skipped" not in event:
            continue
        since = event["to"] if event["event"] == "rolled_back" else event["step"]
        kept = [pair for pair in kept if pair[0] < since] + [(since, event["rows_skipped"])]
    return next((rows for since, rows in reversed(kept) if since < step), 0)
