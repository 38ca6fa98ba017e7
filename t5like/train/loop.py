"""A training run, from a config to the last checkpoint."""

import contextlib
import time
from collections.abc import Iterator

import jax

from t5like.config import Config
from t5like.data.rows.stream import Rows
from t5like.data.vocabulary import Vocabulary
from t5like.model.sharding import make_mesh
from t5like.processes.distributed import is_primary_process, run_on_primary
from t5like.runs.base import keep_base
from t5like.runs.best import require_figure
from t5like.runs.changes import acquire, with_schedule_of, with_words_of, writing
from t5like.runs.checkpoints import Checkpoints
from t5like.runs.damage import begin_again, require_never_saved
from t5like.runs.directory import RunDirectory
from t5like.runs.epochs import with_steps_of, with_steps_of_epochs
from t5like.runs.rows import keep_rows, prepare_rows
from t5like.runs.start import check_start, find_source, require_vocabulary
from t5like.signals import holding
from t5like.storage import path_of
from t5like.tasks.figures import Figures
from t5like.train.evaluate import check_rows, require_objective
from t5like.train.logger import Logger
from t5like.train.selection import Selection
from t5like.train.start import changes, starting_base, starting_state
from t5like.train.state import make_training
from t5like.train.steps import run_steps
from t5like.xla import keep_programs


def train(config: Config, from_scratch: bool = False) -> None:
    """Run the config's training to its last step, from where `starting_state` says. A run that has lost its checkpoints
    begins again only with `from_scratch`.

    Raises:
      UserError: the run directory belongs to another config, cannot be written or has lost its checkpoints, the run
        cannot start from `train.init_from`, the data cannot be prepared, or the batch or a parameter does not divide
        over the devices.
      InterruptedRunError: a signal asked for the end; the state is saved.
      TransientError: another process trains in the run directory.
    """
    began = time.monotonic()
    require_objective(config)
    run = RunDirectory(path_of(config.train.directory))
    before, config = run.config() if run.begun() else None, with_words_of(run, with_steps_of(run, config))
    if before and not config.train.steps:  # other epochs than so far
        config = with_steps_of_epochs(config, _prepared(run, config))
    config = with_schedule_of(run, config)
    start = check_start(run, config)
    mesh = make_mesh(config.mesh)
    keep_programs(config.train.compilation_cache, mesh)
    with _alone(run), jax.set_mesh(mesh):
        run_on_primary("look at its logs", lambda: begin_again(run) if from_scratch else require_never_saved(run))
        changed = run_on_primary("take the run directory", lambda: acquire(run, config))
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
        with Checkpoints(run.checkpoints, config.train.keep, vocabulary.hash, config.train.keep_every) as checkpoints:
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
                skipped = int(jax.device_get(state.skipped))
                sizes = {"devices": mesh.size, "processes": count, "rows_skipped": skipped}
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
                logger.say(epochs_seen(rows, config, skipped))
                if selection:
                    require_figure(config.train.best, evaluator.names())
                run_steps(training, state, first, rows, evaluator, checkpoints, source, selection, logger, began)


@contextlib.contextmanager
def _alone(run: RunDirectory) -> Iterator[None]:
    """Keep other runs out of the directory; process 0 does it for all."""
    with contextlib.ExitStack() as held:
        run_on_primary("lock the run directory", lambda: held.enter_context(writing(run)))
        yield


def _prepared(run: RunDirectory, config: Config) -> Vocabulary:
    """The vocabulary of the run's store, which is made where it is missing."""
    with holding("what is prepared so far is kept, and the same command goes on from there"):
        return run_on_primary("prepare the data", lambda: prepare_rows(run, config)) or prepare_rows(run, config)


def is_finished(selection: Selection, step: int, config: Config) -> bool:
    """True if nothing is left to do or to note after a step, be it that no better figure came."""
    owes = selection.owes(step, config.eval.every, config.train.steps)
    return selection.noted and not owes and (step >= config.train.steps or selection.over)


def epochs_seen(rows: Rows, config: Config, skipped: int) -> str:
    """A line with the epochs of each source in the whole run, which has skipped some rows so far."""
    settings = config.train
    epochs = rows.epochs(settings.steps * settings.batch + settings.row_offset + skipped).items()
    listed = ", ".join(f"{name} {count:.3g}" for name, count in epochs)
    steps = f", {config.train.steps:,} steps" if config.train.epochs else ""
    return f"Epochs of the whole run{steps}: {listed}."
