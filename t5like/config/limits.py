"""The longest times of the phases of a run, after which it counts as stuck."""

from __future__ import annotations

from dataclasses import dataclass

from t5like.config.checks import require, require_fields


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds after which a phase without progress ends the run, with the stacks of all threads in its events and
    status 75; None waits for ever. A phase may take ten times as long as it took so far, whatever is set."""

    first_step: float | None = 3600.0
    """First step after a start; some backends load and tune programs in it."""
    step: float | None = 600.0
    """Every other step, with the wait for its batch."""
    evaluation: float | None = 1800.0
    """Each batch of an evaluation, the compilation before the first included."""
    save: float | None = 1800.0
    """Begin of a save, and the wait for one to be on disk."""
    barrier: float | None = 600.0
    """Wait of processes for each other, to agree on a step to save or stop at."""

    def __post_init__(self) -> None:
        require_fields("train.limits", self)
        for name, value in vars(self).items():
            require(value is None or value > 0, f"train.limits.{name}={value} must be above 0, or None.")
