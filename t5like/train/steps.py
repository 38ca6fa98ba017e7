"""The loop over the steps of a run, with what happens at some of them."""

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
    """The loop: step N is dispatched before the metrics of step N-1 are read, so that the device never waits.

    An evaluation that may be the best comes before the step is saved, others after it. `source` is where a run without
    a checkpoint began; `began` is when the command did, by the monotonic clock.
    """
    settings, last = training.config.train, training.config.train.steps
    every, throughput = training.config.eval.every, Throughput(first, last)
    report = Reporter(training, logger, throughput, began)
    milestones = Milestones(training, evaluator, checkpoints, selection, report, logger)
    if selection.owes(first, every, last):
        milestones.evaluate(state, first)
        if first >= last or selection.over:
            milestones.finish(state, first)
            return
    to_global = GlobalBatches(batch_sharding(training.config.rules, training.mesh), settings.batch)
    compiled = compile_step(training, logger.say)

    def batches(step: int, skipped: int) -> Iterator[Features]:
        offset = settings.row_offset + skipped
        return training_stream(rows, step, last, settings.batch, to_global.local_rows, offset)

    upcoming = Upcoming(batches, first, last, int(jax.device_get(state.skipped)))
    recovery = Recovery(training, checkpoints, source, selection, milestones.saver, logger, throughput)
    profile = Profile(path_of(settings.directory) / "profile", settings.profile_steps)
    pending: tuple[int, Metrics] | None = None
    step = first
    with jax.transfer_guard("disallow"), PreemptionHandler() as preemption, milestones.saver:
        for step in upcoming:
            profile.before(step)
            with throughput.waiting():
                features = upcoming.batch()
            state, metrics = compiled(state, to_global(features))
            if traced := profile.after(step, metrics):
                logger.say(f"The trace of steps up to {step:,} is in {traced}.")
            due = [pending] if pending else []
            pending = step, metrics
            milestones.saver.tell()
            stopping = preemption.after(upcoming.taken)
            saves = step % settings.save_every == 0 or step == last or stopping is not None
            evaluates = step % every == 0 or step == last
            if saves or evaluates:
                due.append(pending)
                pending = None
            if bad := next(((n, why) for n, each in due if (why := report(n, each))), None):
                del state, metrics, due
                state, pending = recovery(upcoming, *bad), None
                continue
            if saves and not (selection and evaluates and not stopping):
                milestones.save(state, step)
            if stopping:
                profile.end()
                milestones.stop(state, step, stopping)
            if evaluates:
                best = milestones.evaluate(state, step)
                if selection and (saves or best or selection.over):
                    milestones.save(state, step)
                if selection.over:
                    break
    profile.end()
    milestones.finish(state, step)
