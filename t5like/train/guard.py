"""What watches over a run: signals that ask it to stop, and numbers that are none."""

import signal
from types import FrameType, TracebackType
from typing import Literal

from t5like.errors import UserError


class Interruption:
    """Remembers SIGTERM and SIGINT instead of dying of them; a second signal acts as it would without this."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        print(f"\n{self.signal.name}: finishing the step and saving; once more to stop at once.", flush=True)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]


class InterruptedRunError(Exception):
    """The run was asked to stop and has saved its state; `status` is what a shell expects of the signal."""

    def __init__(self, number: signal.Signals, step: int):
        super().__init__(f"{number.name} at step {step}; the state is saved, and the same command goes on from there.")
        self.status = 128 + number


def check_finite(finite: float, step: int, policy: Literal["stop", "skip"]) -> None:
    """Stops the run at a loss or gradient that is not finite, if the policy says so.

    Raises:
      UserError: with the policy `stop`; the update was left out, and the last checkpoint is good.
    """
    if not finite and policy == "stop":
        raise UserError(
            f"Loss or gradient of step {step} is not finite, and its update was left out: let such steps pass with "
            "train.non_finite=skip, or start a new run with a lower optimizer.learning_rate or an optimizer.clip."
        )
