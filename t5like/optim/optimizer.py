"""Gradients to updates: one optax chain in the order in which things happen.

A parameter moves by - learning rate * its group's rate * its layer's factor * (what the optimizer makes of its gradient
+ weight_decay * itself). Gradients are clipped first, all together; parameters that are frozen take no part in any of
it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from t5like import config
from t5like.model.network import path_name
from t5like.optim.depths import Depths, factors
from t5like.optim.groups import is_decayed, is_frozen, joined, parted, rate_of, require_groups
from t5like.optim.matrices import Axes, per_matrix
from t5like.optim.scales import adafactor, is_hidden_matrix, muon, scale_by_matrix_rms

NO_ADAPTERS = config.Lora()


def make_schedule(settings: config.Optimizer, steps: int) -> optax.Schedule:
    """The learning rate of each step of a run of `steps`: a linear warm-up, then the course that the config names."""
    peak, final = settings.learning_rate, settings.learning_rate * settings.final
    end = settings.end(steps) or settings.warmup + settings.decay + 1  # of steps that are not known yet
    rest = end - settings.warmup
    courses: dict[str, Callable[[], optax.Schedule]] = {
        "constant": lambda: optax.constant_schedule(peak),
        "linear": lambda: optax.linear_schedule(peak, final, rest),
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest, settings.final),
        "inverse_sqrt": lambda: (
            lambda step: (
                peak * jnp.sqrt(settings.hold / jnp.maximum(jnp.float32(step + settings.warmup), settings.hold))
            )
        ),
        "warmup_stable_decay": lambda: optax.linear_schedule(peak, final, settings.decay, rest - settings.decay),
    }
    course = courses[settings.schedule]()
    if settings.warmup:
        warmup = optax.linear_schedule(0.0, peak, settings.warmup)
        course = optax.join_schedules([warmup, course], [settings.warmup])
    return _with_promotion(course)


def make_optimizer(
    settings: config.Optimizer,
    steps: int,
    axes: Axes,
    lora: config.Lora = NO_ADAPTERS,
    depths: Depths | None = None,
) -> optax.GradientTransformation:
    """The chain: clip the gradient, scale it as the optimizer does, decay weights, multiply by the rate.

    Parameters that are frozen, by the settings or for adapters, may be left out of what it is given; `depths` are
    needed for `layer_decay` alone.

    Raises:
      UserError: groups or frozen parts that the model does not have.
    """
    require_groups(settings, lora, axes)
    clip = optax.identity() if settings.clip is None else optax.clip_by_global_norm(settings.clip)
    rate = _by_group(optax.scale_by_learning_rate(make_schedule(settings, steps)), settings, depths or {})
    chain = optax.chain(clip, _scale_and_decay(settings, axes), rate)
    if settings.freeze or lora.rank:
        chain = divide(lambda path: is_frozen(path, settings, lora), optax.set_to_zero(), chain)
    return optax.GradientTransformation(chain.init, _with_promotion(chain.update))


def at_step(opt_state: optax.OptState, step: jax.Array) -> optax.OptState:
    """An optimizer's state whose next update has the learning rate of a step. Left to itself optax counts updates, and
    the rate would stay behind its schedule by those that were left out."""
    counts = lambda node: isinstance(node, optax.ScaleByScheduleState)  # noqa: E731
    move = lambda node: node._replace(count=step) if counts(node) else node  # noqa: E731
    return jax.tree.map(move, opt_state, is_leaf=counts)


def _scale_and_decay(settings: config.Optimizer, axes: Axes) -> optax.GradientTransformation:
    adam = optax.scale_by_adam(settings.beta1, settings.beta2)
    scales = {
        "adafactor": (per_matrix(adafactor(), axes),),
        "adamw": (adam,),
        "adamw_rms": (adam, scale_by_matrix_rms(axes, least=1e-3)),
        "lion": (optax.scale_by_lion(settings.beta1, settings.beta2),),
        "muon": (divide(is_hidden_matrix, muon(settings.momentum, axes), adam),),
    }[settings.name]
    if settings.name == "adafactor" and not settings.weight_decay:
        return scales[0]
    return optax.chain(*scales, optax.add_decayed_weights(settings.weight_decay, _decayed(settings)))


class Divided(NamedTuple):
    """The states of `divide`'s two transformations."""

    chosen: optax.OptState
    rest: optax.OptState


def divide(
    choose: Callable[[str], bool], chosen: optax.GradientTransformation, rest: optax.GradientTransformation
) -> optax.GradientTransformation:
    """Apply one transformation to the parameters whose paths are chosen, and another to the rest.

    Each sees, and has a state for, its own parameters alone, in the same nested dicts. `optax.partition` does the same
    with another tree of states, in which no checkpoint of a run that is on disk could be read.
    """

    def init(params: Any) -> optax.OptState:
        one, other = parted(params, choose)
        return Divided(chosen.init(one), rest.init(other))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[optax.Updates, optax.OptState]:
        gradients, values = parted(updates, choose), parted(params, choose)
        one, chosen_state = chosen.update(gradients[0], state.chosen, values[0])
        other, rest_state = rest.update(gradients[1], state.rest, values[1])
        return joined(cast(Any, one), cast(Any, other)), Divided(chosen_state, rest_state)

    return optax.GradientTransformation(init, update)


def _by_group(
    inner: optax.GradientTransformation, settings: config.Optimizer, depths: Depths
) -> optax.GradientTransformation:
    """Multiply the updates of `inner` by the rates of their groups and layers; the state is that of `inner`."""

    def scaled_by(path: str, update: jax.Array) -> jax.Array:
        update = update * rate_of(path, settings)
        if settings.layer_decay == 1:
            return update
        return update * factors(depths[path], settings.layer_decay, update.ndim)

    def update(updates: optax.Updates, state: Any, params: Any = None) -> tuple[optax.Updates, optax.OptState]:
        updates, state = inner.update(updates, state, params)
        scaled = jax.tree_util.tree_map_with_path(lambda path, u: scaled_by(path_name(path), u), updates)
        return scaled, state

    return optax.GradientTransformation(inner.init, update)


def _decayed(settings: config.Optimizer) -> Callable[[optax.Params], Any]:
    """Make a tree with True for each parameter that is decayed."""
    return lambda params: jax.tree_util.tree_map_with_path(
        lambda path, _: is_decayed(path_name(path), settings), params
    )


def _with_promotion(function: Callable[..., Any]) -> Callable[..., Any]:
    """Optax mixes types in a few places, which strict promotion, as in our tests, would refuse."""

    @functools.wraps(function)
    def promoting(*arguments: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return function(*arguments)

    return promoting
