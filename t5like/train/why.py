"""A step of a run, made once more to be looked at: the loss of each row of its batch, and the norm of its gradient by
group of parameters.

The parameters are those that the step had: steps are a pure function of the state, so those since the checkpoint before
it are taken again.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from t5like.config import Config
from t5like.data.inspection import RowOrigin
from t5like.data.rows.stream import Features, Rows
from t5like.data.vocabulary import Vocabulary, open_vocabulary
from t5like.errors import UserError
from t5like.model.network import path_name
from t5like.model.sharding import Params, batch_sharding, make_mesh
from t5like.optim.groups import STACKS, group_of
from t5like.processes.batches import GlobalBatches, replicated
from t5like.runs.checkpoints import Checkpoints, State
from t5like.runs.directory import RunDirectory
from t5like.runs.rows import prepare_rows
from t5like.runs.skipped import rows_skipped
from t5like.runs.start import check_start, find_source
from t5like.storage import path_of
from t5like.train.compile import compile_step
from t5like.train.eval_step import BY_SOURCE, eval_step
from t5like.train.start import first_state, own_state
from t5like.train.state import Training, make_training
from t5like.train.step import accumulated_gradient
from t5like.xla import keep_programs


class RowLoss(NamedTuple):
    """A row of the batch: its number there, its mean loss without dropout, and the weight of its targets."""

    row: int
    loss: float
    targets: float
    origin: RowOrigin


class GroupNorm(NamedTuple):
    """The gradient of a group of parameters: its norm, and how many of its numbers are not finite."""

    norm: float
    not_finite: int


class Why(NamedTuple):
    """A step: its figures, as the run has or had them, its groups by the norms of their gradients, its rows by their
    losses (both from the largest, what is not finite first), and the features of the batch."""

    step: int
    parameters_of: int
    """Step after which the parameters are taken: the one before, unless steps were not to be taken again."""
    loss: float
    gradient_norm: float
    groups: dict[str, GroupNorm]
    broken: dict[str, int]
    """Numbers that are not finite in the parameters themselves, by the paths of those that have any."""
    rows: list[RowLoss]
    features: Features
    vocabulary: Vocabulary


def explain_step(
    config: Config, step: int, say: Callable[[str], None], skipped: int | None = None, replay: bool = True
) -> Why:
    """Make a step of the config's run once more.

    Args:
      skipped: rows that lie before those of the step without being learned from; those of the run by default.
      replay: take the steps since the checkpoint before it again; without, the parameters are that checkpoint's.

    Raises:
      UserError: there is no such step, or no state before it, or the rows are not those of the run any more.
    """
    run, settings = RunDirectory(path_of(config.train.directory)), config.train
    first = settings.branched_at + 1
    if not first <= step <= max(settings.steps, first):
        raise UserError(f"--step {step} is no step of {run.path}: it has those from {first} to {settings.steps}.")
    mesh, own = make_mesh(config.mesh), rows_skipped(run)
    keep_programs(settings.compilation_cache, mesh)
    with jax.set_mesh(mesh):
        prepare_rows(run, config)
        training, vocabulary = make_training(config, mesh), open_vocabulary(run.vocabulary)
        rows = Rows(config.data, vocabulary, "train")
        to_global = GlobalBatches(batch_sharding(config.rules, mesh), settings.batch)

        def numbers(n: int) -> Int[np.ndarray, " rows"]:
            before = own(n) if skipped is None else skipped if n == step else min(own(n), skipped)
            return (n - 1) * settings.batch + settings.row_offset + before + np.arange(settings.batch)

        def batch_of(n: int) -> dict[str, jax.Array]:
            return to_global(rows(numbers(n)[to_global.local_rows]))

        state = _state_before(training, run, step, lambda n: skipped is None or own(n) <= skipped)
        begun = int(jax.device_get(state.step))
        if replay and begun < step - 1:
            say(f"Taking the steps {begun + 1:,} to {step - 1:,} again, from the state of step {begun:,}.")
            compiled = compile_step(training, say)
            for earlier in range(begun + 1, step):
                state, _ = compiled(state, batch_of(earlier))
        state = state._replace(step=replicated(mesh, np.array(step - 1, np.int32)))
        losses = _row_losses(training, state.params, batch_of(step))
        loss, norm, groups = _gradient(training, state, batch_of(step))
        broken = _not_finite(state.params)
    origins = rows.origins(numbers(step))
    ranked = [RowLoss(row, *each, origin) for row, (each, origin) in enumerate(zip(losses, origins, strict=True))]
    return Why(
        step,
        step - 1 if replay else begun,
        loss,
        norm,
        dict(sorted(groups.items(), key=lambda item: _largest_first(item[1].norm))),
        broken,
        sorted(ranked, key=lambda row: _largest_first(row.loss)),
        rows(numbers(step)),
        vocabulary,
    )


def _largest_first(value: float) -> float:
    return -value if math.isfinite(value) else -math.inf


def _state_before(training: Training, run: RunDirectory, step: int, led: Callable[[int], bool]) -> State:
    """The newest state before a step that led to it: of a checkpoint, or the one that the run began with."""
    with Checkpoints(run.checkpoints) as checkpoints:
        if there := [each for each in checkpoints.steps() if each < step and led(each)]:
            return own_state(training, checkpoints, there[-1])
        kept = checkpoints.steps()
    config = training.config
    if kept and (config.train.init_from or config.train.branch_from):
        raise UserError(
            f"{run.path} keeps no checkpoint before step {step:,}; the first one is of step {kept[0]:,}: "
            "a higher train.keep keeps more of them."
        )
    start = None if kept else check_start(run, config)
    return first_state(training, find_source(start, training.network) if start else None)[0]


def _row_losses(training: Training, params: Params, batch: dict[str, jax.Array]) -> list[tuple[float, float]]:
    """The mean loss of each row and the weight of its targets: those of as many sources as there are rows."""
    model, count = training.config.model, training.config.train.batch
    sharding = batch_sharding(training.config.rules, training.mesh)
    own = jax.device_put(np.arange(count, dtype=np.int32), sharding)
    table = replicated(training.mesh, np.zeros(model.vocab, np.float32))
    step = jax.jit(functools.partial(eval_step, net=training.network.net, sources=count))
    sums = step(params, batch | {"sources": own}, *([table, table] if model.predicts_pieces else []))
    totals, counts = jax.device_get(sums[f"{BY_SOURCE}loss"])
    return [(float(total / (n or 1)), float(n)) for total, n in zip(totals, counts, strict=True)]


def _gradient(
    training: Training, state: State, batch: dict[str, jax.Array]
) -> tuple[float, float, dict[str, GroupNorm]]:
    """The loss of a step, the norm of its gradient, and those of the groups of parameters."""

    @jax.jit
    def measured(state: State, batch: dict[str, jax.Array]) -> Any:
        sums, gradient = accumulated_gradient(state, batch, training.config, training.network.net)
        targets = jnp.maximum(sums["objective"].count, 1)
        leaves = {path_name(path): leaf / targets for path, leaf in jax.tree_util.tree_leaves_with_path(gradient)}
        squares = {path: jnp.sum(jnp.square(leaf)) for path, leaf in leaves.items()}
        return sums["loss"], squares, _bad_numbers(leaves)

    loss, squares, not_finite = jax.device_get(measured(state, batch))
    groups: dict[str, list[str]] = {}
    for path in squares:
        stack = path.partition("/")[0]
        groups.setdefault(f"{stack} " * (stack in STACKS) + group_of(path), []).append(path)
    norms = {
        name: GroupNorm(_norm(squares, paths), sum(int(not_finite[path]) for path in paths))
        for name, paths in groups.items()
    }
    return float(loss.mean()), _norm(squares, list(squares)), norms


def _bad_numbers(leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The count of numbers of each array that are not finite."""
    return {path: jnp.sum(~jnp.isfinite(leaf)) for path, leaf in leaves.items()}


def _not_finite(params: Params) -> dict[str, int]:
    leaves = {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    return {path: int(count) for path, count in jax.device_get(jax.jit(_bad_numbers)(leaves)).items() if count}


def _norm(squares: dict[str, np.ndarray], paths: list[str]) -> float:
    return math.sqrt(sum(float(squares[path]) for path in paths))
