"""The first state of a run, and the changes of a resumed one."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from t5like.config import Config
from t5like.config.training import ENDING
from t5like.optim.groups import is_own, parted
from t5like.optim.optimizer import make_schedule
from t5like.runs.base import Base, base_of, fingerprint, with_base
from t5like.runs.changes import listed
from t5like.runs.checkpoints import Checkpoints, State
from t5like.runs.damage import restored_newest
from t5like.runs.directory import RunDirectory
from t5like.runs.start import InitSource, Start
from t5like.train.state import Training


def changes(before: Config, config: Config, changed: dict[str, tuple[Any, Any]], step: int) -> Iterator[str]:
    """A line for the fields that a resumed run changes, and one for the rate after `step` if it has another or is at
    the end of its schedule."""
    if changed:
        yield f"Changed: {listed(changed)}."
    settings = config.optimizer
    rates = (make_schedule(c.optimizer, c.train.steps)(jnp.int32(step)) for c in (before, config))
    old, new = (float(jnp.asarray(rate)) for rate in rates)
    if old != new:
        yield f"The learning rate of step {step + 1:,} is {new:.4g}, where it would have been {old:.4g}."
    elif settings.schedule in ENDING and step >= settings.end(config.train.steps):
        yield f"The learning rate stays at {new:.4g}, with which optimizer.schedule={settings.schedule!r} has ended."


def starting_state(training: Training, checkpoints: Checkpoints, source: InitSource | None) -> tuple[State, str]:
    """The state that a run begins with, and words for where it is from: 1. the newest good checkpoint of its directory;
    2. the whole state that `train.branch_from` names; 3. the parameters that `train.init_from` names; 4. scratch.

    Raises:
      UserError: the run has lost its checkpoints, or the one that it starts from is damaged.
    """
    if found := restored_newest(checkpoints, lambda step: own_state(training, checkpoints, step)):
        step, state = found
        return state, f"Resuming at step {step}"
    return first_state(training, source)


def own_state(training: Training, checkpoints: Checkpoints, step: int) -> State:
    """The state that a run has saved at a step."""
    state = checkpoints.restore(training.own(training.abstract), step)
    return _whole(training, state, RunDirectory(checkpoints.folder.parent))


def first_state(training: Training, source: InitSource | None) -> tuple[State, str]:
    """The state that a run without a checkpoint begins with, and words for where it is from."""
    if source:
        start, wanted = source.start, flatten_dict(training.abstract.params, sep="/")
        if start.whole:
            with Checkpoints(start.run.checkpoints) as there:
                there.require_same_optimizer(training.abstract, start.step)
                state = there.restore(training.own(training.abstract), start.step)
            return _whole(training, state, start.run), f"Going on from {start.run.path}, step {start.step}"
        initial = {*source.new, *source.replaced}
        wanted = unflatten_dict({path: leaf for path, leaf in wanted.items() if path not in initial}, sep="/")
        with Checkpoints(start.run.checkpoints) as there:
            step, params = there.restore_params(wanted, start.step, source.left_out + source.replaced)
        why = f" ({start.why})" if start.why else ""
        return training.state_from(params), f"Starting from {start.run.path}, step {step}{why}"
    return training.initial_state(), "Starting from scratch"


def starting_base(training: Training, run: RunDirectory, state: State, start: Start | None) -> Base | None:
    """The base of a run with adapters, with the state that it goes on or begins with; None without adapters."""
    if not training.config.model.lora.rank:
        return None
    if start is None or start.whole:
        return base_of(start.run if start else run)
    _, params = parted(state.params, lambda path: is_own(path, training.config.model.lora))
    return Base(str(start.run.path), start.step, fingerprint(params))


def _whole(training: Training, state: State, owner: RunDirectory) -> State:
    """The state that a checkpoint of a run holds, with the parameters of its base where it has adapters."""
    if not training.config.model.lora.rank:
        return state
    return state._replace(params=with_base(state.params, training.abstract.params, owner, training.config))
