"""The best of a run's evaluations, by the figure that `train.best` names.

It is found in metrics.jsonl, which keeps every evaluation of the steps up to the newest checkpoint and no other: so a
run that was killed knows as much as one that was not, and every process the same.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from t5like.config.training import Step
from t5like.errors import UserError
from t5like.runs.directory import RunDirectory
from t5like.runs.lines import records_back

LOW = ("loss", "perplexity", "bits_per_byte")
"""Ends of the names of figures that shall be low; all others shall be high."""


class Best(NamedTuple):
    """The best evaluation by a figure; `since` counts those that came after it."""

    figure: str
    step: int
    value: float
    since: int = 0

    def __str__(self) -> str:
        return f"the best {self.figure}, {self.value:.4g}"


def shall_be_low(figure: str) -> bool:
    """True if less is better: of `loss`, `text_loss` and `reviews/loss`, not of `accuracy`."""
    return figure.rpartition("/")[2].endswith(LOW)


def after(best: Best | None, figure: str, step: int, value: float) -> Best | None:
    """The best of an evaluation and those before it; of equals the first. What is not a number is never best."""
    if math.isnan(value) or (best and (value >= best.value if shall_be_low(figure) else value <= best.value)):
        return best and best._replace(since=best.since + 1)
    return Best(figure, step, value)


def evaluations(run: RunDirectory, figure: str, last: int | None = None) -> dict[int, float]:
    """Step -> figure of the evaluations up to the step `last`, from that of the first checkpoint that is left on: those
    before it decide nothing. The log is read from its end, no further than there."""
    name, first, found = f"eval/{figure}", min(run.steps(), default=0), dict[int, float]()
    for line in records_back(run.path / "metrics.jsonl", f'"{name}"'):
        step, value = line.get("step"), line.get(name, "")
        value = math.nan if value is None else value
        if not isinstance(step, int) or not isinstance(value, int | float):
            continue
        if step < first:
            break
        if last is None or step <= last:
            found.setdefault(step, value)
    return dict(reversed(found.items()))


def best_of(figure: str, values: Mapping[int, float], steps: Collection[int]) -> Best | None:
    """The best evaluation among those whose steps have a checkpoint; later ones count, whether they have one or not."""
    best = None
    for step, value in values.items():
        found = after(best, figure, step, value)
        if found and found.step == step and step not in steps:
            found = best and best._replace(since=best.since + 1)
        best = found
    return best


def require_figure(figure: str, there: Iterable[str]) -> None:
    """Raise `UserError` if `train.best` names a figure that evaluations do not have."""
    names = sorted(there)
    if figure and figure not in names:
        raise UserError(f"train.best={figure!r} is no figure of the evaluation; there are {', '.join(names)}.")


class Chosen(NamedTuple):
    """The step of a checkpoint that a command uses, and why: a part of a sentence, empty where nobody would ask."""

    step: int
    why: str = ""


def choose(run: RunDirectory, figure: str, asked: Step = None, damaged: Collection[int] = ()) -> Chosen:
    """The checkpoint that `--step` asks for; by default the best where the run has one, else the newest. Those of the
    steps `damaged` do not count.

    Raises:
      UserError: there is no such checkpoint.
    """
    steps = [step for step in run.steps() if step not in damaged]
    if not steps and damaged:
        listed = ", ".join(map(str, sorted(damaged)))
        raise UserError(f"{run.checkpoints} holds no good checkpoint: {listed} cannot be read; put one back.")
    if not steps:
        raise UserError(f"{run.checkpoints} holds no checkpoint: train first.")
    best = best_of(figure, evaluations(run, figure), steps) if figure and asked in (None, "best") else None
    if asked == "best" and best is None and not damaged:
        raise UserError(
            f"{run.path} has no best checkpoint, which train.best and an evaluation make: leave --step out."
        )
    if isinstance(asked, int):
        return Chosen(asked)
    newest = "the newest" if figure or asked else ""
    if damaged:
        why = f"{best or newest or 'the newest'} of those that are good"
        return Chosen(best.step if best else steps[-1], why)
    return Chosen(best.step, str(best)) if best else Chosen(steps[-1], newest)
