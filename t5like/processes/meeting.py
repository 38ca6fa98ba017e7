"""Barriers of a save that goes on in the background of several processes, which one that fails does not keep waiting.

Orbax's own would wait 20 minutes for a process whose disk is full. Its last barrier comes after a failure too: who
comes there without having been at the one of the commit tells the others, and these do not commit either.
"""

import itertools
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

COMMIT = "async_commit_complete"
"""In the name of Orbax's barrier after the commit of a checkpoint."""
EDGE = "set_value_start"
"""In the name of its barrier at the beginning of a save, and again at its end, be it a good one or not."""
LOOK = 0.1
"""Seconds between two looks at who has come."""
_meetings = itertools.count()


@runtime_checkable
class Values(Protocol):
    """The key-value store of JAX's coordination service, as far as it is used here."""

    def key_value_set(self, key: str, value: str) -> None: ...

    def key_value_dir_get(self, key: str) -> list[tuple[str, str]]: ...

    def key_value_delete(self, key: str) -> None: ...


class Meeting:
    """Barriers for `AsyncOptions.barrier_sync_fn` of Orbax, over the key-value store of JAX's coordination service."""

    def __init__(self, client: Values, index: int, count: int, sleep: Callable[[float], None] = time.sleep):
        self._client, self._index, self._count, self._sleep = client, index, count, sleep
        self._prefix, self._save = f"t5like/saves/{next(_meetings)}", 0
        self._came: dict[str, int] = {}
        self._committed = False

    def begin(self) -> None:
        """Begin another save, which all processes do."""
        self._save, self._committed = self._save + 1, False
        self._came.clear()
        if self._index == 0 and self._save > 2:
            self._client.key_value_delete(f"{self._prefix}/{self._save - 2}/")

    def __call__(self, *, key: str, timeout_ms: int) -> None:
        """Wait until all processes have come to the barrier.

        Raises:
          TimeoutError: one has not come in time.
          ConnectionAbortedError: the save has failed in another process.
        """
        number = self._came[key] = self._came.get(key, 0) + 1
        save = f"{self._prefix}/{self._save}"
        ends = EDGE in key and number == 2
        if ends and not self._committed:
            self._client.key_value_set(f"{save}/failed/{self._index}", "")
        self._client.key_value_set(f"{save}/{key}/{number}/{self._index}", "")
        until = time.monotonic() + timeout_ms / 1000
        while len(self._client.key_value_dir_get(f"{save}/{key}/{number}/")) < self._count:
            # What has failed is over once all have come to its end.
            if number == 1 and (failed := self._client.key_value_dir_get(f"{save}/failed/")):
                processes = ", ".join(sorted(name.rpartition("/")[2] for name, _ in failed))
                raise ConnectionAbortedError(f"it failed in process {processes}")
            if time.monotonic() > until:
                raise TimeoutError(f"not all processes came within {timeout_ms / 1000:.0f} s")
            self._sleep(LOOK)
        self._committed |= COMMIT in key
