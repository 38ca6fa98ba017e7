"""What a run does at some of its steps besides training: evaluations, checkpoints and its end."""

import signal

from t5like.errors import InterruptedRunError, UserError
from t5like.runs.checkpoints import Checkpoints, State
from t5like.tasks.figures import Figures
from t5like.train.logger import Logger
from t5like.train.reporter import Reporter
from t5like.train.saver import Saver
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
        self._training, self._evaluator = training, evaluator
        self._selection, self._report, self._logger = selection, report, logger
        self.saver = Saver(checkpoints, training.config.train, logger)

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
        self.saver.begin(self._training.own(state), step, self._selection.step)

    def stop(self, state: State, step: int, number: signal.Signals) -> None:
        """End the run at a signal, once its step is saved.

        Raises:
          InterruptedRunError: always.
        """
        unsaved = ""
        try:
            self.saver.ensure(self._training.own(state), step, self._selection.step)
        except UserError as error:
            unsaved = str(error)
        self._logger.event("preempted", step=step, signal=number.name)
        raise InterruptedRunError(number, step, unsaved)

    def finish(self, state: State, step: int) -> None:
        """End the run after its last step, or after one that was the last for want of better ones."""
        self.saver.ensure(self._training.own(state), step, self._selection.step)
        settings, best = self._training.config.train, self._selection.best
        early = self._selection.over and step < settings.steps
        fields = ({"stopped": "patience"} if early else {}) | ({"best": best._asdict()} if best else {})
        self._logger.event("finished", step=step, **fields)
        if early:
            self._logger.say(
                f"The run is finished at step {step:,}, after {settings.patience} evaluations without a better "
                f"{settings.best}."
            )
