"""A training run, from a config to the last checkpoint."""

import itertools
import pathlib

import jax

from t5like.config import Config
from t5like.config.run_directory import RunDirectory
from t5like.data.prepare import prepare
from t5like.data.stream import Rows, training_stream
from t5like.model.sharding import batch_sharding, make_mesh
from t5like.train.checkpoint import Checkpoints
from t5like.train.compile import compile_step
from t5like.train.evaluate import Evaluator, check_rows, put, require_objective
from t5like.train.guard import InterruptedRunError, Interruption, check_finite
from t5like.train.logger import Logger, Pace, duration
from t5like.train.start import check_start, find_source, require_vocabulary, starting_state
from t5like.train.state import Plan, State, plan_run
from t5like.train.step import Metrics


def train(config: Config) -> None:
    """Runs the config's training to its last step, from where `starting_state` says.

    Raises:
      UserError: the run directory belongs to another config or cannot be written, the run cannot start from
        `train.init_from`, the data cannot be prepared, or the batch or a parameter does not divide over the devices.
      InterruptedRunError: a signal asked for the end; the state is saved.
    """
    require_objective(config)
    run = RunDirectory(pathlib.Path(config.train.directory).expanduser())
    start = check_start(run, config)
    changed = run.claim(config)
    mesh = make_mesh(config.mesh)
    if config.train.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(config.train.compilation_cache).expanduser()))
    with jax.set_mesh(mesh):
        check_rows("train.batch / train.accumulate", config.train.batch // config.train.accumulate, config.rules)
        check_rows("eval.batch", config.eval.batch, config.rules)
        plan = plan_run(config, mesh)
        source = find_source(start, plan) if start else None
        vocabulary = prepare(config.data)
        if start:
            require_vocabulary(start, vocabulary)
        vocabulary.save(run.vocabulary)
        with Checkpoints(run.checkpoints, config.train.keep, vocabulary.hash) as checkpoints:
            state, origin = starting_state(plan, checkpoints, source)
            first = int(jax.device_get(state.step))
            if first >= config.train.steps:
                print(f"{run.path} is finished: step {first} of {config.train.steps}.")
                return
            with Logger(run.path, first, config.train.tensorboard) as logger:
                begun = "resumed" if first else "started"
                logger.event(begun, step=first, devices=mesh.size, changed=changed, init_from=str(source or ""))
                platform = mesh.devices.flat[0].platform
                logger.say(f"{origin}: {parameter_count(plan):,} parameters on {mesh.size} {platform} device(s).")
                for line in source.differences(plan) if source else ():
                    logger.say(line)
                rows, evaluator = Rows(config.data, vocabulary, "train"), Evaluator(plan, vocabulary)
                logger.say(epochs_seen(rows, config))
                run_steps(plan, state, first, rows, evaluator, checkpoints, logger)


def epochs_seen(rows: Rows, config: Config) -> str:
    """How often the whole run sees each source."""
    epochs = rows.epochs(config.train.steps * config.train.batch).items()
    return "Epochs of the whole run: " + ", ".join(f"{name} {count:.3g}" for name, count in epochs) + "."


def run_steps(
    plan: Plan,
    state: State,
    first: int,
    rows: Rows,
    evaluator: Evaluator,
    checkpoints: Checkpoints,
    logger: Logger,
) -> None:
    """The loop: step N is dispatched before the metrics of step N-1 are read, so that the device never waits."""
    settings, last = plan.config.train, plan.config.train.steps
    place = batch_sharding(plan.config.rules, plan.mesh)
    compiled = compile_step(plan, logger.say)
    stream = training_stream(rows, first, last, settings.batch)
    # The first batch starts TensorFlow, which no step has to wait for.
    stream = itertools.chain([next(stream)], stream)
    pace = Pace(first, last)
    report = Reporter(plan, logger, pace)
    pending: tuple[int, Metrics] | None = None
    with jax.transfer_guard("disallow"), Interruption() as interruption:
        for step in range(first + 1, last + 1):
            with pace.waiting():
                features = next(stream)
            state, metrics = compiled(state, put(features, place))
            if pending:
                report(*pending)
            pending = step, metrics
            stopping = interruption.signal
            saves = step % settings.save_every == 0 or step == last or stopping is not None
            evaluates = step % plan.config.eval.every == 0 or step == last
            if saves or evaluates:
                report(*pending)
                pending = None
            if saves:
                checkpoints.save(state, step)
                logger.event("saved", step=step)
            if stopping:
                checkpoints.wait()
                logger.event("preempted", step=step, signal=stopping.name)
                raise InterruptedRunError(stopping, step)
            if evaluates:
                report.held_out(step, evaluator(state.params))
    checkpoints.wait()
    logger.event("finished", step=last)


class Reporter:
    """Checks each step's metrics, and logs those of every `train.log_every`th."""

    def __init__(self, plan: Plan, logger: Logger, pace: Pace):
        self._settings, self._logger, self._pace = plan.config.train, logger, pace
        self._tokens = self._settings.batch * sum(plan.config.data.lengths.values())

    def __call__(self, step: int, metrics: Metrics) -> None:
        values: Metrics = jax.device_get(metrics)
        check_finite(float(values.finite), step, self._settings.non_finite)
        if not values.finite:
            self._logger.event("skipped", step=step)
        if step % self._settings.log_every and step != self._settings.steps:
            return
        sums, speed = values.sums, self._pace(step)
        loss = float(sums.nll / sums.weight)
        kept = {
            "loss": loss,
            "objective": float(sums.objective / sums.weight),
            "accuracy": float(sums.correct / sums.weight),
            "target_tokens": float(sums.weight),
            "gradient_norm": float(values.gradient_norm),
            "learning_rate": float(values.learning_rate),
        }
        if sums.labels:
            kept["label_accuracy"] = float(sums.labels_correct / sums.labels)
        self._logger.metrics(step, kept)
        self._logger.progress(
            f"step {step:,} of {self._settings.steps:,}  loss {loss:.3f}  {self._tokens / speed.step:,.0f} tokens/s  "
            f"input {speed.waiting:.0%}  {duration(speed.left)} left"
        )

    def held_out(self, step: int, figures: dict[str, float]) -> None:
        """Logs an evaluation, whose time does not count as that of steps."""
        self._logger.metrics(step, {f"eval/{name}": value for name, value in figures.items()})
        self._logger.say(
            f"step {step:,}: held-out loss {figures['loss']:.3f}; on text {figures['text_loss']:.3f}, "
            f"where a unigram model has {figures['unigram_text_loss']:.3f}"
        )
        self._pace.restart()


def parameter_count(plan: Plan) -> int:
    """The number of parameters of the model."""
    return sum(leaf.size for leaf in jax.tree.leaves(plan.abstract.params))
