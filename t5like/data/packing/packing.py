"""Bin packing of examples into rows, in one dimension (one stack) or in two (encoder and decoder).

Examples are packed in windows of successive ones, so that memory is bounded and windows are independent. A row begins
with the hardest example that is left, as in best fit decreasing. While there is much room, random ones follow, so
that what is left stays varied. Then comes the best fit: the two examples that fill the row to the last token, or else
those that leave the least of the dimension that is scarcer. The search is arithmetic of large integers: one for each
size in the scarcer dimension, with one bit for each size in the other.
"""

import random
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

LEVELS = 512
"""Sizes in the scarcer of two dimensions are rounded up to at most so many levels for the search."""
SPARE = 8
"""A row is as good as full if it has at most so much room left in the dimension that is not scarce."""
PROBES = 512
"""About how many comparisons the search for two examples that fill a row may cost."""
ROOMY = 2.5
"""Random examples are added while so many of average size fit; measured: 2 and 3 do not pack better."""
SHORT = 4
"""Two examples are preferred to one if they leave fewer levels than this."""

Sizes = Int[np.ndarray, "examples dimensions"]
Cell = tuple[int, int]


def pack(
    sizes: Sizes, capacity: Sequence[int], window: int = 2**16
) -> tuple[Int[np.ndarray, " examples"], Int[np.ndarray, " rows_plus_1"]]:
    """The examples in the order of rows, and where rows start: row r is `order[starts[r] : starts[r + 1]]`.

    Every example is in one row, and no row has more than `capacity` tokens in any dimension. The result depends on
    the arguments alone. For sizes [[3], [7], [4], [6]] and capacity [10], rows are {7, 3} and {6, 4}: the order is
    1 0 3 2 and the starts are 0 2 4.

    Raises:
      ValueError: an example that does not fit into an empty row, or neither one dimension nor two.
    """
    _check(sizes, capacity, window)
    order, lengths = np.empty(len(sizes), np.int64), []
    for first in range(0, len(sizes), window):
        rows = list(_rows(*_two_dimensions(sizes[first : first + window], capacity)))
        lengths += map(len, rows)
        packed = [number for row in rows for number in row]
        order[first : first + len(packed)] = np.array(packed) + first
    return order, np.cumsum([0, *lengths], dtype=np.int64)


def _check(sizes: Sizes, capacity: Sequence[int], window: int) -> None:
    if len(capacity) not in (1, 2) or sizes.shape[1] != len(capacity):
        raise ValueError(f"{sizes.shape[1]} sizes and {len(capacity)} capacities: both must be one, or both two.")
    if window < 1:
        raise ValueError(f"A window of {window} examples: it must be at least 1.")
    wrong = ((sizes < 0) | (sizes > np.array(capacity))).any(axis=1)
    if wrong.any():
        first = int(wrong.argmax())
        raise ValueError(f"Example {first} with sizes {sizes[first].tolist()} does not fit into {list(capacity)}.")


def _two_dimensions(sizes: Sizes, capacity: Sequence[int]) -> tuple[Int[np.ndarray, "examples 2"], Cell]:
    """Sizes and capacity with the scarcer dimension last; a single one comes first, before one of no size."""
    if len(capacity) == 1:
        return np.pad(sizes, ((0, 0), (0, 1))), (capacity[0], 0)
    demand = sizes.sum(axis=0) / np.maximum(capacity, 1)
    return (
        (sizes[:, ::-1], (capacity[1], capacity[0])) if demand[0] > demand[1] else (sizes, (capacity[0], capacity[1]))
    )


def _rows(sizes: Sizes, capacity: Cell) -> Iterator[list[int]]:
    """The rows of one window."""
    pool, examples = _Pool(sizes, capacity), sizes.tolist()
    hardness = np.square(sizes / np.maximum(capacity, 1)).sum(axis=1)
    left, sums = len(sizes), sizes.sum(axis=0).tolist()
    for hardest in np.argsort(-hardness, kind="stable").tolist():
        chosen: Sequence[Cell] = [pool.cells[hardest]] if pool.has(pool.cells[hardest]) else []
        row, room = [], list(capacity)
        while chosen:
            for cell in chosen:
                row.append(pool.take(cell))
                for dimension, size in enumerate(examples[row[-1]]):
                    room[dimension] -= size
                    sums[dimension] -= size
            left -= len(chosen)
            roomy = all(free * left >= ROOMY * total for free, total in zip(room, sums, strict=True))
            within = room[0], room[1] // pool.unit
            chosen = (roomy and pool.random(within)) or pool.fill(within) or pool.best(within)
        if row:
            yield row


class _Pool:
    """The examples that are in no row yet. All of one size are one cell: (size, level in the scarcer dimension).

    For capacity (10, 4) with levels of 1, the examples (3, 1), (3, 1), (7, 1) and (4, 2) are

        members    {(3, 1): [0, 1], (7, 1): [2], (4, 2): [3]}
        bits       level 1: bits 3 and 7     level 2: bit 4        the sizes that are left
        mirrored   level 1: bits 7 and 3     level 2: bit 6        10 less these sizes

    Two examples of levels a and b fill a row of 10 if `bits[a] & mirrored[b]` has a bit: bit 3 of level 1 with itself
    mirrored is 3 + 7. A room of less than 10 shifts the mirrored bits by the difference.
    """

    def __init__(self, sizes: Sizes, capacity: Cell):
        self.capacity = capacity[0]
        self.unit = max(-(-capacity[1] // LEVELS), 1)
        levels = -(-sizes[:, 1] // self.unit)
        self.cells: list[Cell] = list(zip(sizes[:, 0].tolist(), levels.tolist(), strict=True))
        self._members: dict[Cell, list[int]] = {}
        for number, cell in enumerate(self.cells):
            self._members.setdefault(cell, []).append(number)
        # Bit s of _bits[level] is set if an example of this size is left, and so is bit capacity - s of _mirrored.
        self._bits = [0] * (-(-capacity[1] // self.unit) + 1)
        self._mirrored = self._bits.copy()
        for cell in self._members:
            self._flip(cell)
        self._draw = random.Random(0).random
        self._shuffled = iter(sorted(self.cells, key=lambda _: self._draw()))

    def has(self, cell: Cell) -> bool:
        return bool(self._members[cell])

    def take(self, cell: Cell) -> int:
        """An example of this cell, which leaves the pool."""
        members = self._members[cell]
        number = members.pop()
        if not members:
            self._flip(cell)
        return number

    def random(self, room: Cell) -> list[Cell]:
        """The cell of a random example, if it fits."""
        for cell in self._shuffled:
            if self.has(cell):
                return [cell] if cell[0] <= room[0] and cell[1] <= room[1] else []
        return []

    def fill(self, room: Cell) -> list[Cell]:
        """The cells of two examples that take the whole room, or all but a little of its first dimension."""
        size, level = room
        for spare in range(min(size, SPARE, PROBES // (level + 1)) + 1):
            shift = self.capacity - size + spare
            first = int(self._draw() * (level + 1))
            for one in (*range(first, level + 1), *range(first)):
                if pairs := self._bits[one] & (self._mirrored[level - one] >> shift):
                    chosen = _highest(pairs, int(self._draw() * (size - spare + 1)))
                    cells = [(chosen, one), (size - spare - chosen, level - one)]
                    if self._can_take(cells):
                        return cells
        return []

    def best(self, room: Cell) -> list[Cell]:
        """The cells of the one or two examples that take most of the second dimension, and then of the first."""
        size, level = room
        for total in range(level, max(level - SHORT, -1), -1):
            found = [pair for one in range(total // 2 + 1) if (pair := self._widest(size, one, total - one))]
            if alone := self._bits[total] & _up_to(size):
                found.append([(alone.bit_length() - 1, total)])
            if found:
                return max(found, key=lambda cells: sum(size for size, _ in cells))
        for total in range(level - SHORT, -1, -1):
            if alone := self._bits[total] & _up_to(size):
                return [(alone.bit_length() - 1, total)]
        return []

    def _widest(self, room: int, one: int, other: int) -> list[Cell]:
        """Two examples of these levels whose sizes add up to much, but not to more than the room."""
        ones, others = self._bits[one], self._bits[other]
        if not ones or not others:
            return []
        ones &= _up_to(room - _lowest(others))
        if not ones:
            return []
        chosen = ones.bit_length() - 1
        cells = [(chosen, one), ((others & _up_to(room - chosen)).bit_length() - 1, other)]
        return cells if self._can_take(cells) else []

    def _can_take(self, cells: list[Cell]) -> bool:
        return cells[0] != cells[1] or len(self._members[cells[0]]) > 1

    def _flip(self, cell: Cell) -> None:
        size, level = cell
        self._bits[level] ^= 1 << size
        self._mirrored[level] ^= 1 << (self.capacity - size)


def _up_to(size: int) -> int:
    """The bits of all sizes that are not larger."""
    return (2 << size) - 1 if size >= 0 else 0


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def _highest(bits: int, most: int) -> int:
    """The highest bit that is not above `most`, or else the lowest of all."""
    return (bits & _up_to(most)).bit_length() - 1 if bits & _up_to(most) else _lowest(bits)
