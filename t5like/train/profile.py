"""A trace of a few steps, for TensorBoard's profiler or Perfetto: the work of devices and host over time."""

import contextlib
from typing import Any

import jax

from t5like.storage import Path, local_stage


class Profile:
    """Traces the steps from `first` to `last` of a run, both included, into a folder; () traces nothing.

    The trace ends when the last of its steps has ended on the devices, so none of them is cut. Each process of a run
    writes its own.
    """

    def __init__(self, folder: Path, steps: tuple[int, ...]):
        self._folder, self._steps, self._tracing = folder, steps, False
        self._staged = contextlib.ExitStack()

    def before(self, step: int) -> None:
        """Start the trace if it begins with this step, or began with an earlier one that this process did not run."""
        if self._steps and not self._tracing and self._steps[0] <= step <= self._steps[1]:
            jax.profiler.start_trace(str(self._staged.enter_context(local_stage(self._folder))))
            self._tracing = True

    def after(self, step: int, results: Any) -> Path | None:
        """End the trace if this was its last step, whose results are given; return its folder then."""
        if not (self._tracing and self._steps and step >= self._steps[1]):
            return None
        jax.block_until_ready(results)
        return self.end()

    def close(self) -> None:
        """End the trace, if there is one."""
        self.end()

    def end(self) -> Path | None:
        """End the trace, if there is one: a run may stop within its steps."""
        if not self._tracing:
            return None
        self._tracing = False
        jax.profiler.stop_trace()
        self._staged.close()
        return self._folder
