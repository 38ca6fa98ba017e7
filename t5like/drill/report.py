"""The findings of a drill: a line for each kind of disturbance, and the complaints."""

from collections.abc import Iterator, Sequence
from typing import Any

from t5like.data.aligned import aligned
from t5like.drill.compare import COMPARED
from t5like.drill.trial import Trial

HEADER = ("", "runs", "disturbed", "starts", "steps lost", "s to end", *COMPARED, "endings")

SHOWN = 4
"""Complaints of a trial that its line has."""


def figures(trials: Sequence[Trial]) -> dict[str, dict[str, Any]]:
    """The figures of each kind: runs, disturbances, starts, the most steps that one lost, the most seconds to an end
    that was asked for, and how many runs were right in each aspect."""
    found = {}
    for kind in dict.fromkeys(trial.kind for trial in trials):
        own = [trial for trial in trials if trial.kind == kind]
        right = {aspect: sum(not _has(trial, aspect) for trial in own) for aspect in COMPARED}
        found[kind] = {
            "runs": len(own),
            "disturbances": sum(len(trial.disturbances) for trial in own),
            "starts": sum(trial.starts for trial in own),
            "steps_lost": max((lost for trial in own for lost in trial.lost), default=0),
            "seconds_to_end": round(max((seconds for trial in own for seconds in trial.endings), default=0.0), 2),
            **right,
            "endings": sum(not (_has(trial, "ending") or _has(trial, "lost")) for trial in own),
            "right": sum(not trial.found for trial in own),
        }
    return found


def _has(trial: Trial, aspect: str) -> bool:
    return any(found == aspect for found, _ in trial.found)


def table(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A line for each kind; of the last columns those that are right, of all runs."""
    rows = []
    for kind, values in found.items():
        right = [f"{values[name]}/{values['runs']}" for name in (*COMPARED, "endings")]
        numbers = [values[name] for name in ("runs", "disturbances", "starts", "steps_lost", "seconds_to_end")]
        rows.append([kind, *map(str, numbers), *right])
    yield from aligned(HEADER, rows)


def line(trial: Trial) -> str:
    """A trial in a line: what disturbed it, and what is wrong with it."""
    what = "; ".join(trial.disturbances) or ("nothing" if trial.kind == "undisturbed" else "nothing, it came too late")
    wrong = "; ".join(f"{aspect}: {sentence}" for aspect, sentence in trial.found[:SHOWN])
    wrong += f"; and {len(trial.found) - SHOWN} more" if len(trial.found) > SHOWN else ""
    return f"{trial.number} {trial.kind}: {what}: {f'WRONG, {wrong}' if wrong else 'right'}"


def record(trial: Trial) -> dict[str, Any]:
    """A trial as values of JSON."""
    return {
        "number": trial.number,
        "kind": trial.kind,
        "disturbances": trial.disturbances,
        "starts": trial.starts,
        "steps_lost": trial.lost,
        "seconds_to_end": [round(seconds, 3) for seconds in trial.endings],
        "complaints": [list(each) for each in trial.found],
    }
