"""The line that tells how far a preparation is."""

import collections
import datetime
import time
from collections.abc import Callable, Container, Mapping

Report = Callable[[str], None]
REPORT_SECONDS = 5.0


class Progress:
    """A line every few seconds: units, what was counted in them, speed, and the time that the rest will take."""

    def __init__(self, done: str, sizes: Mapping[int, int], before: Container[int], report: Report):
        """
        Args:
          done: what was done to units, the line's first word.
          sizes: the bytes of each unit's input, by its number.
          before: the units that an earlier run did; they are counted, but tell nothing of the speed.
        """
        self._word, self._sizes, self._before, self._report = done, sizes, before, report
        self._started = self._reported = time.monotonic()
        self._left, self._units, self._read, self._bytes = sum(sizes.values()), 0, 0, 0
        self._counts = collections.Counter[str]()

    def __call__(self, unit: int, bytes: int, **counts: int) -> None:
        """A unit is done: the bytes of its text, and what else was counted in it."""
        self._units, self._left = self._units + 1, self._left - self._sizes[unit]
        self._counts.update(counts)
        if unit not in self._before:
            self._read, self._bytes = self._read + self._sizes[unit], self._bytes + bytes
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS and self._units < len(self._sizes):
            return
        self._reported, seconds = now, max(now - self._started, 1e-3)
        counted = "".join(f"{count:,} {name}, " for name, count in self._counts.items())
        left = datetime.timedelta(seconds=round(seconds * self._left / max(self._read, 1)))
        self._report(
            f"{self._word} {self._units:,} of {len(self._sizes):,} units: {counted}"
            f"{self._bytes / 1e6 / seconds:.1f} MB/s, {left} left"
        )
