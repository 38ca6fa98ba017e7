"""A training run, from a config to the last checkpoint."""

import itertools
import time

import jax

from t5like.config import Config
from t5like.cost.devices import device_of, mfu
from t5like.cost.flops import step_flops
from t5like.data.rows.stream import Rows, training_stream
from t5like.data.vocabulary import Vocabulary
from t5like.errors import InterruptedRunError
from t5like.model.sharding import batch_sharding, make_mesh
from t5like.processes.batches import GlobalBatches
from t5like.processes.distributed import is_primary_process, run_on_primary
from t5like.runs.base import keep_base
from t5like.runs.best import require_figure
from t5like.runs.changes import acquire, with_schedule_of, with_words_of
from t5like.runs.checkpoints import Checkpoints, State
from t5like.runs.directory import RunDirectory
from t5like.runs.epochs import with_steps_of, with_steps_of_epochs
from t5like.runs.rows import keep_rows, prepare_rows
from t5like.runs.start import check_start, find_source, require_vocabulary
from t5like.storage import path_of
from t5like.tasks.figures import Figures
from t5like.train.compile import compile_step
from t5like.train.evaluate import check_rows, require_objective
from t5like.train.guard import PreemptionHandler, check_finite
from t5like.train.logger import Logger, Throughput, duration
from t5like.train.profile import Profile
from t5like.train.selection import Selection
from t5like.train.start import changes, starting_base, starting_state
from t5like.train.state import Training, make_training
from t5like.train.step import Metrics
from t5like.xla import keep_programs


def train(config: Config) -> None:
    """Run the config's training to its last step, from where `starting_state` says.

    Raises:
      UserError: the run directory belongs to another config or cannot be written, the run cannot start from
        `train.init_from`, the data cannot be prepared, or the batch or a parameter does not divide over the devices.
      InterruptedRunError: a signal asked for the end; the state is saved.
    """
    began = time.monotonic()
    require_objective(config)
    run = RunDirectory(path_of(config.train.directory))
    before, config = run.config() if run.begun() else None, with_words_of(run, with_steps_of(run, config))
    if before and not config.train.steps:  # other epochs than so far
        config = with_steps_of_epochs(config, _prepared(run, config))
    config = with_schedule_of(run, config)
    start = check_start(run, config)
    changed = run_on_primary("take the run directory", lambda: acquire(run, config))
    mesh = make_mesh(config.mesh)
    keep_programs(config.train.compilation_cache, mesh)
    with jax.set_mesh(mesh):
        check_rows("train.batch / train.accumulate", config.train.batch // config.train.accumulate, config.rules)
        check_rows("eval.batch", config.eval.batch, config.rules)
        training = make_training(config, mesh)
        source = find_source(start, training.network) if start else None
        vocabulary = _prepared(run, config)
        if not config.train.steps:
            config = with_steps_of_epochs(config, vocabulary)
            run_on_primary("write the config", lambda: acquire(run, config))
            training = make_training(config, mesh)
        if start:
            require_vocabulary(start, vocabulary, config.data.vocabulary)
        if is_primary_process():
            vocabulary.save(run.vocabulary)
            keep_rows(run, config)
            if start:
                run.take_hugging_face(start.run)
        with Checkpoints(run.checkpoints, config.train.keep, vocabulary.hash) as checkpoints:
            state, started_from = starting_state(training, checkpoints, source)
            base = starting_base(training, run, state, source.start if source else None)
            if base and source and is_primary_process():
                keep_base(run, base)
            first = int(jax.device_get(state.step))
            selection = Selection(config.train, run, first)
            if is_finished(selection, first, config):
                best = f", {selection.best} at step {selection.step}" if selection.best else ""
                print(f"{run.path} is finished: step {first} of {config.train.steps}{best}.")
                return
            with Logger(run.path if is_primary_process() else None, first, config.train.tensorboard) as logger:
                begun, count = "resumed" if before else "started", jax.process_count()
                sizes = {"devices": mesh.size, "processes": count}
                changed = source.changed(config) if source and source.start.whole else changed
                origin = {source.start.field if source else "init_from": str(source or "")}
                logger.event(begun, step=first, **sizes, changed=changed, **origin)
                devices = f"{mesh.size} {mesh.devices.flat[0].platform} device(s)"
                devices += f" of {count} processes" if count > 1 else ""
                logger.say(f"{started_from}: {training.network.parameter_count:,} parameters on {devices}.")
                if base:
                    trained = sum(leaf.size for leaf in jax.tree.leaves(training.trained))
                    logger.say(f"Of them {trained:,} are trained; the base is step {base.step} of {base.path}.")
                told = source.differences(config) if source else ()
                for line in changes(before, config, changed or {}, first) if before else told:
                    logger.say(line)
                rows, evaluator = Rows(config.data, vocabulary, "train"), Figures(training.network, vocabulary)
                logger.say(epochs_seen(rows, config))
                if selection:
                    require_figure(config.train.best, evaluator.names())
                run_steps(training, state, first, rows, evaluator, checkpoints, selection, logger, began)


def _prepared(run: RunDirectory, config: Config) -> Vocabulary:
    """The vocabulary of the run's store, which is made where it is missing."""
    return run_on_primary("prepare the data", lambda: prepare_rows(run, config)) or prepare_rows(run, config)


def is_finished(selection: Selection, step: int, config: Config) -> bool:
    """True if nothing is left to do after a step, be it that no better figure came."""
    owes = selection.owes(step, config.eval.every, config.train.steps)
    return not owes and (step >= config.train.steps or selection.over)


def epochs_seen(rows: Rows, config: Config) -> str:
    """A line with the epochs of each source in the whole run."""
    epochs = rows.epochs(config.train.steps * config.train.batch + config.train.row_offset).items()
    listed = ", ".join(f"{name} {count:.3g}" for name, count in epochs)
    steps = f", {config.train.steps:,} steps" if config.train.epochs else ""
    return f"Epochs of the whole run{steps}: {listed}."


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
            milestones.finish(first)
            return
    to_global = GlobalBatches(batch_sharding(training.config.rules, training.mesh), settings.batch)
    compiled = compile_step(training, logger.say)
    stream = training_stream(rows, first, last, settings.batch, to_global.local_rows, settings.row_offset)
    # The first batch starts TensorFlow, which no step has to wait for.
    stream = itertools.chain([next(stream)], stream)
    profile = Profile(path_of(settings.directory) / "profile", settings.profile_steps)
    pending: tuple[int, Metrics] | None = None
    step = first
    with jax.transfer_guard("disallow"), PreemptionHandler() as preemption:
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
                checkpoints.wait()
                logger.event("preempted", step=step, signal=stopping.name)
                raise InterruptedRunError(stopping, step)
            if evaluates:
                best = milestones.evaluate(state, step)
                if selection and (saves or best or selection.over):
                    milestones.save(state, step)
                if selection.over:
                    break
    profile.end()
    milestones.finish(step)


class Milestones:
    """Evaluates and saves states of a run, and ends it."""

    def __init__(
        self,
        training: Training,
        evaluator: Figures,
        checkpoints: Checkpoints,
        selection: Selection,
        report: "Reporter",
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


class Reporter:
    """Checks each step's metrics, and logs those of every `train.log_every`th."""

    def __init__(self, training: Training, logger: Logger, throughput: Throughput, began: float):
        config, self._logger, self._throughput = training.config, logger, throughput
        self._settings, self._devices = config.train, jax.devices()
        self._tokens = config.train.batch * sum(config.data.lengths.values())
        self._flops, self._began = step_flops(config).training, began

    def __call__(self, step: int, metrics: Metrics) -> None:
        values: Metrics = jax.device_get(metrics)
        self._throughput.ended(step)
        if self._began:
            seconds, self._began = time.monotonic() - self._began, 0.0
            self._logger.event("first_step", step=step, seconds=round(seconds, 3))
            self._logger.say(f"The first step ended {duration(seconds)} after the start.")
        check_finite(float(values.finite), step, self._settings.non_finite)
        if not values.finite:
            self._logger.event("skipped", step=step)
        if step % self._settings.log_every and step != self._settings.steps:
            return
        means = {name: float(ratio.mean()) for name, ratio in values.sums.items()}
        kept = means | {
            "target_tokens": float(values.sums["loss"].count),
            "gradient_norm": float(values.gradient_norm),
            "learning_rate": float(values.learning_rate),
        }
        self._logger.metrics(step, kept)
        self._logger.progress(f"step {step:,} of {self._settings.steps:,}  loss {means['loss']:.3f}{self._speed(step)}")

    def _speed(self, step: int) -> str:
        """The speed as part of a line for the terminal; its figures are kept as `timing/...`."""
        if (speed := self._throughput(step)) is None:
            return ""
        share = mfu(self._flops, speed.step, len(self._devices), device_of(self._devices[0].device_kind))
        timing = {"seconds_per_step": speed.step, "tokens_per_second": self._tokens / speed.step}
        timing |= {"input": speed.waiting} | ({} if share is None else {"mfu": share})
        self._logger.metrics(step, {f"timing/{name}": value for name, value in timing.items()})
        known = "n/a" if share is None else f"{share:.0%}"
        return (
            f"  {self._tokens / speed.step:,.0f} tokens/s  MFU {known}  input {speed.waiting:.0%}  "
            f"{duration(speed.left)} left"
        )

    def held_out(self, step: int, figures: dict[str, float]) -> None:
        """Log an evaluation, whose time does not count as that of steps."""
        self._logger.metrics(step, {f"eval/{name}": value for name, value in figures.items()})
        self._logger.say(f"step {step:,}: held-out loss {figures['loss']:.3f}{_beside(figures)}")
        if tasks := [f"{name} {value:.2f}" for name, value in figures.items() if name.startswith("task/")]:
            self._logger.say(f"step {step:,}: {', '.join(tasks)}")
        self._throughput.restart()


def _beside(figures: dict[str, float]) -> str:
    """The end of the line on an evaluation: what else tells how good the loss is."""
    if "text_loss" in figures:
        return f"; on text {figures['text_loss']:.3f}, where a unigram model has {figures['unigram_text_loss']:.3f}"
    if "mean_squared_error" in figures:
        return ", the mean squared error"
    return f"; right {figures['accuracy']:.1%} of {figures['targets']:,.0f}"
