"""The evaluations of a run as it goes: the best one, and the end where none was better for too long."""

from t5like.config import Train
from t5like.runs.best import Best, after, best_of, evaluations, require_figure
from t5like.runs.directory import RunDirectory
from t5like.runs.events import finished


class Selection:
    """Follows the figure of `train.best`, from what the run directory keeps of evaluations up to the step `first`.

    All processes of a run have the same figures and read the same file, so they decide alike.
    """

    def __init__(self, settings: Train, run: RunDirectory, first: int):
        self._settings, self._run = settings, run
        self.go_back(first)
        self.noted = finished(run, first)

    def go_back(self, first: int) -> None:
        """Follow the figure from what is kept of evaluations up to a step on."""
        figure = self._settings.best
        values = evaluations(self._run, figure or "loss", first)
        self._steps = self._run.steps()
        self.best: Best | None = best_of(figure, values, self._steps) if figure else None
        self._evaluated = max(values, default=None)

    def __bool__(self) -> bool:
        """True if the run has a figure to be best in."""
        return bool(self._settings.best)

    @property
    def step(self) -> int | None:
        """The step of the best evaluation so far."""
        return self.best and self.best.step

    def owes(self, step: int, every: int, last: int) -> bool:
        """True if the run itself, and not one that it branched from, was stopped after it saved this step and before it
        evaluated it."""
        due = step in self._steps and (step % every == 0 or step >= last)
        return due and self._evaluated != step

    def add(self, step: int, figures: dict[str, float]) -> bool:
        """Take in an evaluation; True if it is the best so far."""
        if not self:
            return False
        require_figure(self._settings.best, figures)
        self.best = after(self.best, self._settings.best, step, figures[self._settings.best])
        return self.step == step

    @property
    def over(self) -> bool:
        """True if as many evaluations as `train.patience` had no better figure."""
        patience = self._settings.patience
        return patience is not None and self.best is not None and self.best.since >= patience
