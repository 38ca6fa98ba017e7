"""The saves of a run: how each ended is logged once it has, and one that fails is tried again at the next moment."""

import time
from types import TracebackType

from t5like.config import Train
from t5like.runs.checkpoints import Checkpoints, State
from t5like.runs.saving import failure
from t5like.train.logger import Logger

PAUSE = 1.0
"""Seconds between two tries where the run has nothing else to do."""


class Saver:
    """Saves states of a run in the background; within, the last save is logged whatever ends the run."""

    def __init__(self, checkpoints: Checkpoints, settings: Train, logger: Logger):
        self._checkpoints, self._limit, self._logger = checkpoints, settings.failed_saves, logger
        self._failed, self._told = 0, True

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._checkpoints.finish()
        self.tell()

    def begin(self, state: State, step: int, best: int | None) -> None:
        """Begin to save a step, once the save before has ended; the checkpoint of the step `best` stays.

        Raises:
          UserError: as many saves as `train.failed_saves` have failed, one after the other.
          StorageError: they have since a bucket did not answer.
        """
        self.settle()
        self._checkpoints.save(state, step, best)
        self._told = False

    def tell(self) -> None:
        """Log how the save that was begun has ended, if it has; costs nothing, and is called after each step."""
        if self._told or (outcome := self._checkpoints.ended()) is None:
            return
        self._told = True
        if not outcome.reason:
            self._logger.event("saved", step=outcome.step)
            return
        self._logger.event("save_failed", step=outcome.step, reason=outcome.reason)
        self._logger.say(f"The checkpoint of step {outcome.step:,} could not be saved: {outcome.reason}.")

    def settle(self) -> bool:
        """Wait for the save that was begun; False if it failed. Raises as `begin` does."""
        self._checkpoints.finish()
        self.tell()
        if (outcome := self._checkpoints.outcome()) is None:
            return True
        self._failed = self._failed + 1 if outcome.reason else 0
        if self._failed >= self._limit:
            many = f", {self._failed} times one after the other (train.failed_saves)" if self._failed > 1 else ""
            raise failure(self._checkpoints.folder, outcome, many)
        return not outcome.reason

    def ensure(self, state: State, step: int, best: int | None) -> None:
        """See to it that the save of a step, which was the last to begin, is good: try it again if it is not. Raises as
        `begin` does."""
        while not self.settle():
            time.sleep(PAUSE)
            self.begin(state, step, best)
