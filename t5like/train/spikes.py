"""The judgement of a step: its update is left out if the loss or the gradient is not finite, or far above the usual.

The usual is the median of the last `train.spike_window` steps whose updates were applied. They are part of the state,
and the step itself judges: so all devices and processes decide alike, and a run that was interrupted as one that was
not.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from t5like.config import Train
from t5like.errors import UserError


class Recent(NamedTuple):
    """The steps before one, zeros at the start of a run.

    `losses` and `norms` are those of the last applied steps, `[window]` float32, the newest in the place
    (`seen` - 1) % window; `seen` counts applied steps, `left_out` the updates that were left out in a row (int32). The
    same tree holds arrays, their shapes or their shardings.
    """

    left_out: Any
    seen: Any
    losses: Any
    norms: Any


class Verdict(NamedTuple):
    """The judgement of a step, scalars: `finite` is 1 or 0; `loss` and `norm` are how many times the median they are,
    or 0 where that is not asked or not known yet; `left_out` counts the updates that are left out in a row, this one
    included, and is 0 if it is applied."""

    finite: Array
    loss: Array
    norm: Array
    left_out: Array

    def words(self, step: int) -> str:
        """The reason why the update of a step is left out, on the host, as the beginning of a sentence."""
        if not self.finite:
            return f"Loss or gradient of step {step} is not finite"
        spikes = {"loss": self.loss, "gradient norm": self.norm}
        (name, times), *more = [(name, times) for name, times in spikes.items() if times]
        beside = "".join(f" and the {name} {times:.3g} times" for name, times in more)
        return f"The {name} of step {step} is {times:.3g} times its median{beside}"


def watches(settings: Train) -> bool:
    """True if the steps of a run must know those before them."""
    return settings.non_finite != "stop" or settings.finds_spikes


def abstract_recent(settings: Train) -> Recent | None:
    """Shapes and types of what a step knows of those before it; None where it need not."""
    if not watches(settings):
        return None
    count = jax.ShapeDtypeStruct((), jnp.int32)
    past = jax.ShapeDtypeStruct((settings.spike_window,), jnp.float32)
    return Recent(count, count, past, past)


def judge(
    loss: Float[Array, ""], norm: Float[Array, ""], finite: Array, recent: Recent | None, settings: Train
) -> tuple[Verdict, Recent | None]:
    """Judge a step by its mean loss, the norm of its gradient, and if both are finite; returns also what the next step
    knows."""
    nothing = jnp.float32(0)
    if recent is None:
        return Verdict(finite.astype(jnp.float32), nothing, nothing, 1 - finite.astype(jnp.int32)), None
    window = len(recent.losses)
    loss_spike = _times_median(loss, recent.losses, recent.seen, settings.spike_loss)
    norm_spike = _times_median(norm, recent.norms, recent.seen, settings.spike_norm)
    applied = finite & (loss_spike == 0) & (norm_spike == 0)
    place = recent.seen % window
    left_out = jnp.where(applied, 0, recent.left_out + 1)
    known = Recent(
        left_out,
        recent.seen + applied.astype(jnp.int32),
        jnp.where(applied, recent.losses.at[place].set(loss), recent.losses),
        jnp.where(applied, recent.norms.at[place].set(norm), recent.norms),
    )
    return Verdict(finite.astype(jnp.float32), loss_spike, norm_spike, left_out), known


def _times_median(value: Float[Array, ""], past: Array, seen: Array, limit: float | None) -> Float[Array, ""]:
    """The value in medians of the past, if that is above the limit and the past is complete; else 0."""
    if limit is None:
        return jnp.float32(0)
    times = value / jnp.median(past)
    return jnp.where((seen >= len(past)) & (times > limit), times, jnp.float32(0))


def rolls_back(verdict: Verdict, step: int, settings: Train) -> bool:
    """The consequence of a step, on the host: True if the run must go back before it.

    Raises:
      UserError: the run must stop, since `train.non_finite` says so or after more than `train.skips` in a row; the
        update was left out, and the last checkpoint is good.
    """
    if not verdict.left_out:
        return False
    if settings.non_finite == "stop":
        raise UserError(
            f"{verdict.words(step)}, and its update was left out: let such steps pass with "
            "train.non_finite=skip, go back behind their rows with train.non_finite=rollback, or start a new run with "
            "a lower optimizer.learning_rate or an optimizer.clip."
        )
    if settings.non_finite == "skip" and verdict.left_out > settings.skips:
        raise UserError(
            f"{verdict.words(step)}, and it is the step number {int(verdict.left_out)} in a row whose update "
            f"was left out, more than train.skips={settings.skips}: go on before them with train.non_finite=rollback, "
            "or start a new run with a lower optimizer.learning_rate or an optimizer.clip."
        )
    return settings.non_finite == "rollback"
