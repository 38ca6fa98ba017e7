"""What a run does at some of its steps besides training: evaluations, checkpoints and its end."""

from t5like.runs.checkpoints import Checkpoints, State
from t5like.tasks.figures import Figures
from t5like.train.logger import Logger
from t5like.train.reporter import Reporter
from t5like.train.selection import Selection
from t5like.train.state import Training


class Milestones:
    """Evaluates and saves states of a run, and ends it."""

    def __init__(
        self,
        training: Training,
        evaluator: Figures,
        checkpoints: Checkpoints,
        selection: Selection,
        report: Reporter,
        logger: Logger,
    ):
        self._training, self._evaluator, self._checkpoints = training, evaluator, checkpoints
        self._selection, self._report, self._logger = selection, report, logger

    def evaluate(self, state: State, step: int) -> bool:
        """Log the figures of a step; True if it is the best so far."""
        figures = self._evaluator(self._training.evaluated(state))
        self._report.held_out(step, figures)
        best = self._selection.add(step, figures)
        if best:
            self._logger.say(f"step {step:,}: {self._selection.best} so far")
        return best

    def save(self, state: State, step: int) -> None:
        """Begin to save a step."""
        self._checkpoints.save(self._training.own(state), step, self._selection.step)
        self._logger.event("saved", step=step)

    def finish(self, step: int) -> None:
        """End the run after its last step, or after one that was the last for want of better ones."""
        self._checkpoints.wait()
        settings, best = self._training.config.train, self._selection.best
        early = self._selection.over and step < settings.steps
        fields = ({"stopped": "patience"} if early else {}) | ({"best": best._asdict()} if best else {})
        self._logger.event("finished", step=step, **fields)
        if early:
            self._logger.say(
                f"The run is finished at step {step:,}, after {settings.patience} evaluations without a better "
                f"{settings.best}."
            )
