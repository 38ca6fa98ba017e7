"""The work of a run at some of its steps besides training: evaluations, checkpoints and its end."""

import signal
from typing import NoReturn

from t5like.errors import InterruptedRunError, UserError
from t5like.runs.checkpoints import Checkpoints, State
from t5like.tasks.figures import Figures
from t5like.train.guard import Asked, PreemptionHandler, StoppedEvaluationError
from t5like.train.logger import Logger
from t5like.train.reporter import Reporter
from t5like.train.saver import Saver
from t5like.train.selection import Selection
from t5like.train.state import Training
from t5like.train.watchdog import Watchdog


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
        watchdog: Watchdog,
    ):
        self._training, self._evaluator = training, evaluator
        self._selection, self._report, self._logger, self._watchdog = selection, report, logger, watchdog
        self.saver = Saver(checkpoints, training.config.train, logger)

    def due(self, step: int, asked: Asked) -> bool:
        """True if something is to be done after a step."""
        return self._saves(step, asked) or self._evaluates(step)

    def reach(self, state: State, step: int, asked: Asked, preemption: PreemptionHandler) -> bool:
        """Do what is due after a step; True if the run has no better evaluation any more. An evaluation that may be the
        best comes before the step is saved, others after it; one that a signal prevents is made on resumption.

        Raises:
          InterruptedRunError: a signal asks for the end; the state is saved.
        """
        saves, evaluates = self._saves(step, asked), self._evaluates(step)
        waits = bool(self._selection) and evaluates and not asked.stop
        if saves and not waits:
            self.save(state, step)
            preemption.saved()
        if asked.stop:
            self.stop(state, step, asked.stop)
        if not evaluates:
            return False
        try:
            best = self._evaluate(state, step, preemption)
        except StoppedEvaluationError as stopped:
            if waits or not saves:
                self.save(state, step)
            self.stop(state, step, stopped.signal)
        if self._selection and (saves or best or self._selection.over):
            self.save(state, step)
            preemption.saved()
        return self._selection.over

    def evaluate_owed(self, state: State, step: int, preemption: PreemptionHandler) -> None:
        """Evaluate a state that is saved already.

        Raises:
          InterruptedRunError: a signal asks for the end.
        """
        try:
            self._evaluate(state, step, preemption)
        except StoppedEvaluationError as stopped:
            self.stop(state, step, stopped.signal)

    def _saves(self, step: int, asked: Asked) -> bool:
        settings = self._training.config.train
        return step % settings.save_every == 0 or step == settings.steps or asked.save or asked.stop is not None

    def _evaluates(self, step: int) -> bool:
        return step % self._training.config.eval.every == 0 or step == self._training.config.train.steps

    def _evaluate(self, state: State, step: int, preemption: PreemptionHandler) -> bool:
        """Log the figures of a step; True if it is the best so far."""
        with self._watchdog.phase("evaluation", step):
            figures = self._evaluator(self._training.evaluated(state), preemption.between_batches)
        self._report.held_out(step, figures)
        best = self._selection.add(step, figures)
        if best:
            self._logger.say(f"step {step:,}: {self._selection.best} so far")
        return best

    def save(self, state: State, step: int) -> None:
        """Begin to save a step."""
        with self._watchdog.phase("save", step):
            self.saver.begin(self._training.own(state), step, self._selection.step)

    def stop(self, state: State, step: int, number: signal.Signals) -> NoReturn:
        """End the run at a signal, once its step is saved.

        Raises:
          InterruptedRunError: always.
        """
        unsaved = ""
        with self._watchdog.phase("save", step):
            try:
                self.saver.ensure(self._training.own(state), step, self._selection.step)
            except UserError as error:
                unsaved = str(error)
        self._logger.event("preempted", step=step, signal=number.name)
        raise InterruptedRunError(number, step, unsaved)

    def finish(self, state: State, step: int) -> None:
        """End the run after its last step, or after one that was the last for want of better ones."""
        with self._watchdog.phase("save", step):
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
