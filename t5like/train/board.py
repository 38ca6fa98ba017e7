"""TensorBoard's files of a run; those of a run in a bucket are copied there every minute, since objects cannot grow."""

import contextlib
import time

from t5like.storage import Path, copy_folder, is_remote, local_stage

SECONDS = 60.0


class Board:
    """Curves for TensorBoard, in a folder; those after `first_step` that a killed run left behind are hidden."""

    def __init__(self, folder: Path, first_step: int):
        from tensorboardX import SummaryWriter

        self._folder, self._stack, self._copied = folder, contextlib.ExitStack(), time.monotonic()
        self._stage = self._stack.enter_context(local_stage(folder))
        self._writer = SummaryWriter(str(self._stage), purge_step=first_step or None)

    def add(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()
        if is_remote(self._folder) and time.monotonic() - self._copied > SECONDS:
            copy_folder(self._stage, self._folder)
            self._copied = time.monotonic()

    def close(self) -> None:
        self._writer.close()
        self._stack.close()
