"""The time of a step, twice: as the compiler schedules it, and as peak, memory and links allow at best.

The scheduled time adds the cycles that the compiler expects of each instruction and, since it expects none of them, the
collectives that run beside nothing. The roofline is the longest of three times that can overlap (Williams et al. 2009):
products at the peak, bytes at the memory's speed, collectives on their links. Neither knows of waiting for input,
hosts or memory conflicts: a real step takes longer.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from t5like.cost.devices import Device
from t5like.plan.collectives import Collective, seconds
from t5like.plan.counts import Counts


class StepTime(NamedTuple):
    """Seconds of one step; `scheduled` is None where the compiler makes no estimate."""

    products: float
    memory: float
    links: float
    scheduled: float | None

    @property
    def roofline(self) -> float:
        return max(self.products, self.memory, self.links)


def step_time(counts: Counts, collectives: Sequence[Collective], device: Device, mesh: Any) -> StepTime:
    """The times of a compiled step on one device of a mesh."""
    links = [(collective, seconds(collective, device, mesh)) for collective in collectives]
    alone = sum(time for collective, time in links if not collective.overlapped)
    scheduled = counts.cycles / device.clock + alone if device.clock and counts.cycles else None
    total = sum(time for _, time in links)
    return StepTime(counts.products / device.peak, counts.bytes / device.bandwidth, total, scheduled)
