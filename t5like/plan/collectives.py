"""The collectives of a compiled program: which, over which mesh axes, how often and with how many bytes.

The TPU compiler writes one collective in several ways, which are told apart here: a reduce-scatter as a fusion of an
all-reduce that is named after it; a gather that is overlapped as parts of itself in successive fusions, under one
channel; and a gather or scatter around a matrix product as a ring of permutes (Wang et al. 2023), which stay permutes.
Between slices a collective is what each device sends to its host, which names the kind.
"""

import dataclasses
import itertools
import math
import re
from typing import Any, NamedTuple

import numpy as np

from t5like.cost.devices import Device
from t5like.plan.hlo import Executed, Instruction, Module, executed, inside

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
NAMES = {
    **{name: kind for kind in KINDS for name in (kind, f"{kind}-start")},
    "ragged-all-to-all": "all-to-all",
    "collective-broadcast": "collective-permute",
}
SCATTERS = re.compile(r"all-reduce-scatter")
BETWEEN = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
Key = tuple[str, ...]
"""Names that tell a collective from others of its program."""


class Collective(NamedTuple):
    """One collective of a program."""

    kind: str
    axes: tuple[str, ...]
    """The mesh axes that it goes over."""
    devices: int
    """Devices in one group."""
    bytes: int
    """Of the whole array: what a gather ends with, what a scatter or a reduction starts with."""
    times: int
    """Runs in one step."""
    overlapped: bool
    """True if the compiler runs it beside other work."""

    @property
    def sent(self) -> float:
        """Bytes that each device sends in one step, by the ring that is optimal for the kind."""
        share = (self.devices - 1) / self.devices if self.devices else 0.0
        factor = {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.kind, share)
        return self.bytes * factor * self.times


@dataclasses.dataclass(frozen=True)
class Total:
    """All collectives of one kind over the same mesh axes, in one step."""

    kind: str
    axes: tuple[str, ...]
    count: int
    bytes: int
    sent: float


def find_collectives(module: Module, mesh: Any) -> list[Collective]:
    """The collectives of a program that was compiled for a mesh."""
    found: dict[Key, Collective] = {}
    for step in executed(module):
        entered = [(step.instruction, step.computation)]
        entered += [(inner, computation.name) for inner, computation in inside(module, step.instruction)]
        for instruction, computation in entered:
            if instruction.opcode == "send" and (named := BETWEEN.search(instruction.attributes)):
                kind, size = named[1].lower().replace("_", "-"), instruction.shapes[0].bytes
                slices = mesh.devices.shape[mesh.axis_names.index("slice")]
                key: Key = (step.computation, instruction.name)
                found[key] = Collective(kind, ("slice",), slices, size, step.times, True)
            if instruction.opcode in NAMES:
                key, value = _collective(instruction, computation, step, mesh)
                if value.devices < 2:  # over mesh axes of one device
                    continue
                old = found.get(key)
                found[key] = value if old is None or old.bytes < value.bytes else old
    return list(found.values())


def totals(collectives: list[Collective]) -> list[Total]:
    """Their sums by kind and axes, those that send most first."""
    key = lambda c: (c.kind, c.axes)  # noqa: E731
    groups = [list(group) for _, group in itertools.groupby(sorted(collectives, key=key), key)]
    summed = [
        Total(g[0].kind, g[0].axes, sum(c.times for c in g), sum(c.bytes * c.times for c in g), sum(c.sent for c in g))
        for g in groups
    ]
    return sorted(summed, key=lambda total: -total.sent)


def seconds(collective: Collective, device: Device, mesh: Any) -> float:
    """Least time of a collective's bytes on the links that its group can use, in one step."""
    if collective.devices < 2:
        return 0.0
    if "slice" in collective.axes:
        return collective.sent / device.network
    if not device.torus:
        return collective.sent / device.link
    links = 1 if collective.kind == "collective-permute" else torus_links(collective.axes, device, mesh)
    return collective.sent / (links * device.link)


def torus_links(axes: tuple[str, ...], device: Device, mesh: Any) -> int:
    """Links of a device that lie along its group: two for each dimension of the torus that closes, else one.

    v4's and v5p's dimensions close from 4 devices on (cubes that optical switches join), v5e's and v6e's at 16.
    """
    line = mesh.devices[tuple(slice(None) if name in axes else 0 for name in mesh.axis_names)].flatten()
    corners = np.array([d.coords for d in mesh.devices.flat]).max(0) + 1
    spanned = np.ptp(np.array([d.coords for d in line]), axis=0) > 0
    closed = 4 if device.torus == 3 else 16
    return max(sum((2 if size % closed == 0 else 1) for size, used in zip(corners, spanned, strict=True) if used), 1)


def _collective(instruction: Instruction, computation: str, step: Executed, mesh: Any) -> tuple[Key, Collective]:
    """A collective, and its key: the parts of an overlapped one share a channel."""
    kind = NAMES[instruction.opcode]
    groups = _groups(instruction.attributes, mesh.devices.size)
    devices = max(map(len, groups), default=1)
    if kind == "all-reduce" and SCATTERS.search(computation):
        kind = "reduce-scatter"
    size = _size(instruction, kind, devices)
    channel = re.search(r"channel_id=(\d+)", instruction.attributes)
    fused = step.instruction.opcode == "fusion" and not SCATTERS.search(computation)
    overlapped = fused or instruction.opcode.endswith("-start")
    key = (step.computation, channel[1]) if channel else (step.computation, computation, instruction.name)
    if kind == "collective-permute":
        devices = 2
    return key, Collective(kind, _axes(groups, mesh), devices, size, step.times, overlapped)


def _size(instruction: Instruction, kind: str, devices: int) -> int:
    """Bytes of the whole array of a collective, from the shapes of its result on one device."""
    shapes = instruction.shapes
    if instruction.opcode.endswith("-start") and kind != "all-reduce":
        # (f32[4,4], f32[8,4], u32[], u32[]) of an all-gather-start: its operand, its result, and tokens
        arrays = [shape for shape in shapes if shape.dims]
        shapes = tuple(arrays[len(arrays) // 2 :])
    size = sum(shape.bytes for shape in shapes)
    return size * devices if instruction.opcode.startswith("reduce-scatter") else size


def _groups(attributes: str, size: int) -> list[list[int]]:
    """The groups of a collective, of devices by their positions in the flattened mesh; pairs for a permute.

    Without any groups in its attributes, one of all `size` devices. XLA writes them in four ways:

        source_target_pairs={{0,1},{1,0}}                    [[0, 1], [1, 0]]
        replica_groups=mesh['x'=2,'y'=2] {'y'}               [[0, 1], [2, 3]]: those that differ in y
        replica_groups=[2,2]<=[2,2]T(1,0)                    [[0, 2], [1, 3]]: 0..3 as 2x2, transposed, in 2 groups of 2
        replica_groups={{0,2},{1,3}}                         [[0, 2], [1, 3]]
    """
    if pairs := re.search(r"source_target_pairs=\{(.*?)\}\}", attributes):
        return [[int(n) for n in pair.split(",")] for pair in re.findall(r"(\d+,\d+)", pairs[1])]
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\](?:,? ?device_ids=\(([^)]*)\))? ?\{([^}]*)\}", attributes):
        sizes = {name: int(n) for name, n in re.findall(r"'(\w+)'=(\d+)", named[1])}
        grid = np.arange(math.prod(sizes.values())).reshape(*sizes.values())
        return _vary(grid, [list(sizes).index(name) for name in re.findall(r"'(\w+)'", named[3])])
    if iota := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes):
        shape, dims = (tuple(map(int, text.split(","))) for text in (iota[1], iota[2]))
        grid = np.arange(math.prod(dims)).reshape(dims)
        grid = grid.transpose(tuple(map(int, iota[3].split(",")))) if iota[3] else grid
        return grid.reshape(-1, shape[-1]).tolist()
    if listed := re.search(r"replica_groups=\{(\{.*?\})\}", attributes):
        return [[int(n) for n in group.split(",")] for group in re.findall(r"\{([\d,]+)\}", listed[1])]
    return [list(range(size))]


def _vary(grid: np.ndarray, axes: list[int]) -> list[list[int]]:
    """The groups of a grid of devices in which only the named dimensions differ."""
    # [slice, fsdp, tensor] with axes [1] -> [slice, tensor, fsdp] -> [slice * tensor, fsdp]: one group per row
    moved = np.moveaxis(grid, axes, range(grid.ndim - len(axes), grid.ndim))
    return moved.reshape(-1, math.prod(grid.shape[axis] for axis in axes)).tolist()


def _axes(groups: list[list[int]], mesh: Any) -> tuple[str, ...]:
    """The mesh axes along which the devices of a group differ."""
    used: set[str] = set()
    for group in groups:
        positions = np.stack(np.unravel_index(np.array(group), mesh.devices.shape))  # [axes, devices of the group]
        used |= {name for name, along in zip(mesh.axis_names, positions, strict=True) if np.ptp(along)}
    return tuple(name for name in mesh.axis_names if name in used)
