"""A training run, from a config to the last checkpoint."""

import itertools
import time

import jax

from t5like.config import Config
from t5like.cost.devices import device_of, mfu
from t5like.cost.flops import step_flops
from t5like.data.rows.stream import Rows, training_stream
from t5like.errors import InterruptedRunError
from t5like.model.sharding import batch_sharding, make_mesh
from t5like.processes.batches import GlobalBatches
from t5like.processes.distributed import is_primary_process, run_on_primary
from t5like.runs.base import keep_base
from t5like.runs.changes import acquire, with_schedule_of, with_words_of
from t5like.runs.checkpoints import Checkpoints, State
from t5like.runs.directory import RunDirectory
from t5like.runs.rows import keep_rows, prepare_rows
from t5like.runs.start import check_start, find_source, require_vocabulary
from t5like.storage import path_of
from t5like.train.compile import compile_step
from t5like.train.evaluate import Evaluator, check_rows, require_objective
from t5like.train.guard import PreemptionHandler, check_finite
from t5like.train.logger import Logger, Throughput, duration
from t5like.train.profile import Profile
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
    before, config = run.config() if run.begun() else None, with_words_of(run, with_schedule_of(run, config))
    start = check_start(run, config)
    changed = run_on_primary("take the run directory", lambda: acquire(run, config))
    mesh = make_mesh(config.mesh)
    keep_programs(config.train.compilation_cache, mesh)
    with jax.set_mesh(mesh):
        check_rows("train.batch / train.accumulate", config.train.batch // config.train.accumulate, config.rules)
        check_rows("eval.batch", config.eval.batch, config.rules)
        training = make_training(config, mesh)
        source = find_source(start, training.network) if start else None
        vocabulary = run_on_primary("prepare the data", lambda: prepare_rows(run, config)) or prepare_rows(run, config)
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
            if first >= config.train.steps:
                print(f"{run.path} is finished: step {first} of {config.train.steps}.")
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
                rows, evaluator = Rows(config.data, vocabulary, "train"), Evaluator(training.network, vocabulary)
                logger.say(epochs_seen(rows, config))
                run_steps(training, state, first, rows, evaluator, checkpoints, logger, began)


def epochs_seen(rows: Rows, config: Config) -> str:
    """A line with the epochs of each source in the whole run."""
    epochs = rows.epochs(config.train.steps * config.train.batch + config.train.row_offset).items()
    return "Epochs of the whole run: " + ", ".join(f"{name} {count:.3g}" for name, count in epochs) + "."


def run_steps(
    training: Training,
    state: State,
    first: int,
    rows: Rows,
    evaluator: Evaluator,
    checkpoints: Checkpoints,
    logger: Logger,
    began: float,
) -> None:
    """The loop: step N is dispatched before the metrics of step N-1 are read, so that the device never waits.

    `began` is when the command did, by the monotonic clock.
    """
    settings, last = training.config.train, training.config.train.steps
    to_global = GlobalBatches(batch_sharding(training.config.rules, training.mesh), settings.batch)
    compiled = compile_step(training, logger.say)
    stream = training_stream(rows, first, last, settings.batch, to_global.local_rows, settings.row_offset)
    # The first batch starts TensorFlow, which no step has to wait for.
    stream = itertools.chain([next(stream)], stream)
    throughput = Throughput(first, last)
    report = Reporter(training, logger, throughput, began)
    profile = Profile(path_of(settings.directory) / "profile", settings.profile_steps)
    pending: tuple[int, Metrics] | None = None
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
            evaluates = step % training.config.eval.every == 0 or step == last
            if saves or evaluates:
                report(*pending)
                pending = None
            if saves:
                checkpoints.save(training.own(state), step)
                logger.event("saved", step=step)
            if stopping:
                profile.end()
                checkpoints.wait()
                logger.event("preempted", step=step, signal=stopping.name)
                raise InterruptedRunError(stopping, step)
            if evaluates:
                report.held_out(step, evaluator(state.params))
    checkpoints.wait()
    logger.event("finished", step=last)


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
        self._logger.say(
            f"step {step:,}: held-out loss {figures['loss']:.3f}; on text {figures['text_loss']:.3f}, "
            f"where a unigram model has {figures['unigram_text_loss']:.3f}"
        )
        self._throughput.restart()
