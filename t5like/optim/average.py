"""An exponential moving average of the parameters, kept in the optimizer's state, and so saved and split as that is."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax.traverse_util import flatten_dict, unflatten_dict

from t5like.config import Lora, Optimizer
from t5like.model.sharding import Params
from t5like.optim.groups import frozen_and_trained


class Averaged(NamedTuple):
    """The average of the parameters that are trained, the updates that it has seen (int32), and the optimizer's own
    state."""

    average: Params
    count: Any
    inner: optax.OptState


def averaging(
    inner: optax.GradientTransformation, decay: float, settings: Optimizer, lora: Lora
) -> optax.GradientTransformation:
    """Keep the average of the parameters that `inner` makes; its updates stay as they are.

    The average starts with the initial parameters. After update n it moves by 1 - min(decay, (1 + n) / (10 + n)) of the
    way to the new ones, so that it forgets the start soon (`num_updates` of TensorFlow's ExponentialMovingAverage).
    """

    def init(params: optax.Params) -> optax.OptState:
        average = jax.tree.map(jnp.copy, trained(params, settings, lora))
        return Averaged(average, jnp.zeros((), jnp.int32), inner.init(params))

    def update(updates: optax.Updates, state: Any, params: Any = None) -> tuple[optax.Updates, optax.OptState]:
        updates, own = inner.update(updates, state.inner, params)
        new, count = trained(optax.apply_updates(params, updates), settings, lora), state.count + 1
        seen = count.astype(jnp.float32)
        share = 1 - jnp.minimum(jnp.float32(decay), (1 + seen) / (10 + seen))
        average = jax.tree.map(lambda old, x: old + share * (x - old), state.average, new)
        return updates, Averaged(average, count, own)

    return optax.GradientTransformation(init, update)


def trained(params: Any, settings: Optimizer, lora: Lora) -> Params:
    """The parameters that are not frozen, in the same nested dicts."""
    return frozen_and_trained(params, settings, lora)[1]


def with_average(params: Params, opt_state: Any) -> Params:
    """The parameters with the averages of those that are trained."""
    flat = flatten_dict(params, sep="/") | flatten_dict(opt_state.average, sep="/")
    return unflatten_dict(flat, sep="/")
