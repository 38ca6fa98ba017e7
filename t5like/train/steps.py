"""The loop over the steps of a run, with what happens at some of them."""

import contextlib
from collections.abc import Iterator

import jax

from t5like.data.rows.stream import Features, Rows, training_stream
from t5like.model.sharding import batch_sharding
from t5like.processes.batches import GlobalBatches
from t5like.runs.checkpoints import Checkpoints, State
from t5like.runs.start import InitSource
from t5like.storage import path_of
from t5like.tasks.figures import Figures
from t5like.train.compile import compile_step
from t5like.train.guard import PreemptionHandler
from t5like.train.logger import Logger, Throughput
from t5like.train.milestones import Milestones
from t5like.train.profile import Profile
from t5like.train.recovery import Recovery, Upcoming
from t5like.train.reporter import Reporter
from t5like.train.selection import Selection
from t5like.train.state import Training
from t5like.train.step import Metrics
from t5like.train.watchdog import Watchdog


def run_steps(
    training: Training,
    state: State,
    first: int,
    rows: Rows,
    evaluator: Figures,
    checkpoints: Checkpoints,
    source: InitSource | None,
    selection: Selection,
    logger: Logger,
    began: float,
) -> None:
    """The evaluation that a run owes since it was stopped before, then the loop. `source` is where a run without a
    checkpoint began; `began` is when the command did, by the monotonic clock.

    Raises:
      InterruptedRunError: a signal asked for the end; the state is saved.
    """
    settings, last = training.config.train, training.config.train.steps
    throughput = Throughput(first, last)
    report = Reporter(training, logger, throughput, began)
    with Watchdog(settings.limits, path_of(settings.directory)) as watchdog:
        milestones = Milestones(training, evaluator, checkpoints, selection, report, logger, watchdog)
        if selection.owes(first, training.config.eval.every, last):
            with PreemptionHandler(settings, watchdog) as preemption:
                milestones.evaluate_owed(state, first, preemption)
        if first < last and not selection.over:
            recovery = Recovery(training, checkpoints, source, selection, milestones.saver, logger, throughput)
            state, first = _loop(
                training, state, first, rows, milestones, report, throughput, recovery, watchdog, logger
            )
        milestones.finish(state, first)


def _loop(
    training: Training,
    state: State,
    first: int,
    rows: Rows,
    milestones: Milestones,
    report: Reporter,
    throughput: Throughput,
    recovery: Recovery,
    watchdog: Watchdog,
    logger: Logger,
) -> tuple[State, int]:
    """The loop, up to the state and step that it returns: step N is dispatched before the metrics of step N-1 are read,
    so that the device never waits."""
    settings, last = training.config.train, training.config.train.steps
    to_global = GlobalBatches(batch_sharding(training.config.rules, training.mesh), settings.batch)
    compiled = compile_step(training, logger.say)

    def batches(step: int, skipped: int) -> Iterator[Features]:
        offset = settings.row_offset + skipped
        return training_stream(rows, step, last, settings.batch, to_global.local_rows, offset)

    upcoming = Upcoming(batches, first, last, int(jax.device_get(state.skipped)))
    profile = Profile(path_of(settings.directory) / "profile", settings.profile_steps)
    pending: tuple[int, Metrics] | None = None
    step = first
    with (
        contextlib.closing(profile),
        jax.transfer_guard("disallow"),
        PreemptionHandler(settings, watchdog) as preemption,
        milestones.saver,
    ):
        for step in upcoming:
            watchdog.enters("first_step" if upcoming.taken == 1 else "step", step)
            profile.before(step)
            with throughput.waiting():
                features = upcoming.batch()
            state, metrics = compiled(state, to_global(features))
            if traced := profile.after(step, metrics):
                logger.say(f"The trace of steps up to {step:,} is in {traced}.")
            due = [pending] if pending else []
            pending = step, metrics
            milestones.saver.tell()
            asked = preemption.after(step)
            if reached := milestones.due(step, asked):
                due.append(pending)
                pending = None
            if bad := next(((n, why) for n, each in due if (why := report(n, each))), None):
                del state, metrics, due
                with watchdog.phase("", step):
                    state, pending = recovery(upcoming, *bad), None
                continue
            if reached and milestones.reach(state, step, asked, preemption):
                break
        watchdog.enters("save", step)
    return state, step
