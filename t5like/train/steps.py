"""The loop over the steps of a run, with what happens at some of them."""

import itertools

import jax

from t5like.data.rows.stream import Rows, training_stream
from t5like.model.sharding import batch_sharding
from t5like.processes.batches import GlobalBatches
from t5like.runs.checkpoints import Checkpoints, State
from t5like.storage import path_of
from t5like.tasks.figures import Figures
from t5like.train.compile import compile_step
from t5like.train.guard import PreemptionHandler
from t5like.train.logger import Logger, Throughput
from t5like.train.milestones import Milestones
from t5like.train.profile import Profile
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
    selection: Selection,
    logger: Logger,
    began: float,
) -> None:
    """The loop: step N is dispatched before the metrics of step N-1 are read, so that the device never waits.

    An evaluation that may be the best comes before the step is saved, others after it. `began` is when the command did,
    by the monotonic clock.
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
    stream = training_stream(rows, first, last, settings.batch, to_global.local_rows, settings.row_offset)
    # The first batch starts TensorFlow, which no step has to wait for.
    stream = itertools.chain([next(stream)], stream)
    profile = Profile(path_of(settings.directory) / "profile", settings.profile_steps)
    pending: tuple[int, Metrics] | None = None
    step = first
    with jax.transfer_guard("disallow"), PreemptionHandler() as preemption, milestones.saver:
        for step in range(first + 1, last + 1):
            profile.before(step)
            with throughput.waiting():
                features = next(stream)
            state, metrics = compiled(state, to_global(features))
            if traced := profile.after(step, metrics):
                logger.say(f"The trace of steps up to {step:,} is in {traced}.")
            if pending:
                report(*pending)
            pending = step, metrics
            milestones.saver.tell()
            stopping = preemption.after(step)
            saves = step % settings.save_every == 0 or step == last or stopping is not None
            evaluates = step % every == 0 or step == last
            if saves or evaluates:
                report(*pending)
                pending = None
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
