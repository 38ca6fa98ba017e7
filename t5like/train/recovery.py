"""The way back of a run with `train.non_finite=rollback`: to a state before a bad step, and on behind its rows.

It goes back to the newest checkpoint of `train.save_every`, or to its first state, and not to one that a signal or the
clock made: so a run that was interrupted goes the same way as one that was not.
"""

import itertools
from collections.abc import Callable, Iterator

import jax
import numpy as np

from t5like.config import Train
from t5like.data.rows.stream import Features
from t5like.errors import UserError
from t5like.processes.batches import replicated
from t5like.runs.checkpoints import Checkpoints, DamagedCheckpointError, State
from t5like.runs.damage import set_aside
from t5like.runs.start import InitSource
from t5like.train.logger import Logger, Throughput
from t5like.train.saver import Saver
from t5like.train.selection import Selection
from t5like.train.start import first_state, own_state
from t5like.train.state import Training


class Upcoming:
    """The steps that are to come, and the batch of each; a run that goes back sets it back.

    `taken` counts all that it has given, those that are taken again included: it is the same on all processes.
    """

    def __init__(self, batches: Callable[[int, int], Iterator[Features]], first: int, last: int, skipped: int):
        """`batches` gives those behind a step, of a run that skips some rows, which it is given."""
        self._batches, self._step, self._last, self.skipped, self.taken = batches, first, last, skipped, 0
        stream = batches(first, skipped)
        # The first batch starts TensorFlow, which no step has to wait for.
        self._stream = itertools.chain([next(stream)], stream)

    def __iter__(self) -> Iterator[int]:
        while self._step < self._last:
            self._step += 1
            self.taken += 1
            yield self._step

    def batch(self) -> Features:
        """The batch of the step that was given last."""
        return next(self._stream)

    def set_back(self, step: int, skipped: int) -> None:
        """Go on behind a step, and behind the rows that are skipped."""
        self._step, self.skipped, self._stream = step, skipped, self._batches(step, skipped)


class Recovery:
    """Takes a run back before a bad step, at most `train.skips` times without coming farther."""

    def __init__(
        self,
        training: Training,
        checkpoints: Checkpoints,
        source: InitSource | None,
        selection: Selection,
        saver: Saver,
        logger: Logger,
        throughput: Throughput,
    ):
        """`source` is where the run began, if this process has begun it."""
        self._training, self._checkpoints, self._source = training, checkpoints, source
        self._selection, self._saver, self._logger, self._throughput = selection, saver, logger, throughput
        self._times, self._farthest = 0, 0

    def __call__(self, upcoming: Upcoming, bad: int, why: str) -> State:
        """The state from which the run goes on, behind the rows of the step `bad`. All that came after it is undone:
        checkpoints, metrics, evaluations.

        Raises:
          UserError: it has gone back too often, or there is no good state any more.
        """
        settings, before = self._training.config.train, upcoming.skipped
        self._count(bad, why, settings)
        self._saver.settle()
        with jax.transfer_guard("allow"):
            step, state = self._state_before(bad, settings)
            skipped = before + (bad - step) * settings.batch
            state = state._replace(skipped=replicated(self._training.mesh, np.array(skipped, np.int32)))
        rows = {"rows_skipped": skipped, "rows_skipped_before": before}
        self._logger.event("rolled_back", step=bad, to=step, **rows, reason=why)
        self._logger.say(
            f"{why}: going back to step {step:,}, and on behind the {skipped - before:,} rows since; look at it by "
            f"`t5like why {settings.directory} --step {bad} --skipped {before}`."
        )
        self._checkpoints.drop_after(step)
        self._logger.go_back(step)
        self._selection.go_back(step)
        self._throughput.go_back(step)
        upcoming.set_back(step, skipped)
        return state

    def _count(self, bad: int, why: str, settings: Train) -> None:
        self._times = 1 if bad > self._farthest else self._times + 1
        self._farthest = max(bad, self._farthest)
        if self._times > settings.skips:
            raise UserError(
                f"{why}, and the run has gone back {settings.skips} times (train.skips) without coming beyond step "
                f"{self._farthest}: start a new run with a lower optimizer.learning_rate or an optimizer.clip, or look "
                f"at the step by `t5like why {settings.directory} --step {bad}`."
            )

    def _state_before(self, bad: int, settings: Train) -> tuple[int, State]:
        """The step and the state to go back to; checkpoints that are damaged are set aside."""
        while step := self._step_before(bad, settings):
            try:
                return step, own_state(self._training, self._checkpoints, step)
            except DamagedCheckpointError as error:
                set_aside(self._checkpoints, step, error.reason)
        return settings.branched_at, first_state(self._training, self._source)[0]

    def _step_before(self, bad: int, settings: Train) -> int | None:
        """The checkpoint to go back to; None for the first state."""
        regular = (bad - 1) // settings.save_every * settings.save_every
        there = [step for step in self._checkpoints.steps() if step < bad]
        if regular in there:
            return regular
        known = self._source is not None or not (settings.init_from or settings.branch_from)
        if known and (regular <= settings.branched_at or not there):
            return None
        if not there:
            raise UserError(f"{self._checkpoints.folder} holds no good checkpoint to go back to from step {bad}.")
        return there[-1]
