"""Gradients to updates: one optax chain in the order in which things happen."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from t5like import config

Axes = dict[str, tuple[str, ...]]
"""Path of each parameter -> the names of its dimensions."""


def path_name(path: Any) -> str:
    """`decoder/blocks/self/query` for a key path of the parameters."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def make_schedule(settings: config.Optimizer, steps: int) -> optax.Schedule:
    """The learning rate of each step: a linear warm-up, then the course that the config names."""
    peak, final, rest = settings.learning_rate, settings.learning_rate * settings.final, steps - settings.warmup
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


def make_optimizer(settings: config.Optimizer, steps: int, axes: Axes) -> optax.GradientTransformation:
    """The chain: clip the gradient, scale it as the optimizer does, decay weights, multiply by the rate."""
    clip = optax.identity() if settings.clip is None else optax.clip_by_global_norm(settings.clip)
    if settings.name == "adafactor":
        scale = per_matrix(adafactor(), axes)
    else:
        scale = optax.chain(
            optax.scale_by_adam(settings.beta1, settings.beta2),
            optax.add_decayed_weights(settings.weight_decay, mask=_is_decayed),
        )
    chain = optax.chain(clip, scale, optax.scale_by_learning_rate(make_schedule(settings, steps)))
    return optax.GradientTransformation(chain.init, _with_promotion(chain.update))


def adafactor() -> optax.GradientTransformation:
    """Adafactor as T5 uses it (Shazeer and Stern 2018), for one matrix, without the learning rate.

    beta2 = 1 - step^-0.8, factored from 128 x 128 on, the update clipped to a root mean square of 1 and scaled by the
    parameter's own, which counts as at least 1e-3. No momentum.
    """
    return optax.chain(
        optax.scale_by_factored_rms(decay_rate=0.8, min_dim_size_to_factor=128, epsilon=1e-30),
        optax.clip_by_block_rms(1.0),
        optax.scale_by_param_block_rms(1e-3),
    )


def per_matrix(inner: optax.GradientTransformation, axes: Axes) -> optax.GradientTransformation:
    """Applies `inner` to each layer's matrices on their own, with heads and their width as one dimension.

    So a scanned stack is trained as an unrolled one is, and attention kernels are factored as T5's, which are
    matrices. The state is a dict from the parameter's path to the inner state.
    """

    def folded(path: str, x: jax.Array) -> jax.Array:
        names = axes[path]
        heads = next((name for name in names if name in ("heads", "kv_heads")), None)
        if heads is None or "kv" not in names:
            return x
        at = names.index(heads)
        return x.reshape(*x.shape[:at], x.shape[at] * x.shape[at + 1], *x.shape[at + 2 :])

    def by_layer(path: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return jax.vmap(function) if axes[path][0] == "layers" else function

    def leaves(tree: optax.Params) -> dict[str, jax.Array]:
        return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}

    def init(params: optax.Params) -> optax.OptState:
        return {path: by_layer(path, inner.init)(folded(path, leaf)) for path, leaf in leaves(params).items()}

    def update(updates: optax.Updates, state: Any, params: Any = None) -> tuple[optax.Updates, optax.OptState]:
        values, new_state, new_updates = leaves(params), {}, []
        for path, gradient in leaves(updates).items():
            arguments = folded(path, gradient), state[path], folded(path, values[path])
            scaled, new_state[path] = by_layer(path, inner.update)(*arguments)
            new_updates.append(scaled.reshape(gradient.shape))
        return jax.tree.unflatten(jax.tree.structure(updates), new_updates), new_state

    return optax.GradientTransformation(init, update)


def _with_promotion(function: Callable[..., Any]) -> Callable[..., Any]:
    """Optax mixes types in a few places, which strict promotion, as in our tests, would refuse."""

    @functools.wraps(function)
    def promoting(*arguments: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return function(*arguments)

    return promoting


def _is_decayed(params: optax.Params) -> Any:
    """Matrices are decayed; scales, biases and the relative position bias are not."""
    kept = ("scale", "bias", "relative")
    return jax.tree_util.tree_map_with_path(lambda path, _: not path_name(path).endswith(kept), params)
