"""Batches of rows of any lengths in few shapes, and their results in the order of what was asked.

Rows of about one length share a batch. Batches are padded to few lengths, which are chosen from those of the first
rows, so that the programs that are compiled are few, and what a row gets depends on no other row, but for rounding.
"""

import itertools
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int

from t5like.data.features import ROUND

LENGTHS = 5
"""Most lengths of batches; the last batch, which has fewer rows, may add one more program."""
SAVES = 0.05
"""Share of all padded tokens that another length has to save: each costs the compilation of a program."""
PART = 1024
"""Rows that are sorted together, at least: memory stays bounded, and batches of one length are found."""
Item = TypeVar("Item")


class Batch(NamedTuple):
    """Rows that are computed together, padded to `length` tokens."""

    members: list[int]
    """Numbers of the rows, the longest first; copies of the last fill the batch up."""
    length: int

    def full(self, items: Sequence[Item], rows: int) -> list[Item]:
        """Those of `items` that are members, and copies of the last one, `rows` in all."""
        return [items[n] for n in [*self.members, *self.members[-1:] * (rows - len(self.members))]]


class Batches:
    """Sorts rows into batches of `batch`. Each call takes a part of the rows; the first part chooses the lengths."""

    def __init__(self, batch: int):
        self.batch, self._lengths = batch, tuple[int, ...]()

    def __call__(self, sizes: Sequence[int]) -> Iterator[Batch]:
        """The batches of rows with so many tokens, the longest first, since they need most memory."""
        order = np.argsort(-np.asarray(sizes, np.int64), kind="stable")
        self._lengths = self._lengths or choose_lengths(sizes, self.batch)
        for start in range(0, len(order), self.batch):
            members = order[start : start + self.batch].tolist()
            yield Batch(members, self._padded(sizes[members[0]]))

    def rows(self, batch: Batch) -> int:
        """The rows that a batch is computed with."""
        return rounded(len(batch.members), self.batch)

    @property
    def part(self) -> int:
        """The rows of a part: full batches."""
        return self.batch * max(64, -(-PART // self.batch))

    def _padded(self, tokens: int) -> int:
        """The least of the chosen lengths that holds so many tokens; above them all, a power of two."""
        at = bisect_left(self._lengths, tokens)
        return self._lengths[at] if at < len(self._lengths) else row_length(tokens)


def choose_lengths(sizes: Sequence[int], batch: int, most: int = LENGTHS) -> tuple[int, ...]:
    """At most `most` lengths, ascending multiples of `ROUND`, with which sorted batches have the least padding.

    By dynamic programming: batches of 32, 32, 64 and 512 tokens in two groups are padded to 64, 64, 64 | 512, which is
    704 tokens a row. Fewer lengths are taken where another one saves less than `SAVES` of the tokens.
    """
    # [batches]: the longest row of each; [lengths]: the lengths there are, and how many batches have one or a smaller.
    longest = np.sort(np.asarray(sizes, np.int64))[::-1][::batch]
    lengths, counts = np.unique(-(-longest // ROUND) * ROUND, return_counts=True)
    count, until = len(lengths), np.concatenate([[0], np.cumsum(counts)])
    # least[j]: the tokens of the batches of the first j lengths, in as many groups as there were rounds.
    least, cuts = np.where(np.arange(count + 1) > 0, np.inf, 0.0), list[Int[np.ndarray, " ends"]]()
    totals = list[float]()
    for _ in range(min(most, count)):
        # [begin, end]: the groups before `begin`, and one more of lengths begin .. end - 1, padded to the last of them.
        with_one = least[:, None] + np.append(0, lengths)[None] * (until[None] - until[:, None])
        with_one[np.tri(count + 1, dtype=bool)] = np.inf
        cuts.append(with_one.argmin(axis=0))
        least = with_one.min(axis=0)
        totals.append(float(least[count]))
    groups = next((n for n in range(1, len(totals)) if totals[n] > (1 - SAVES) * totals[n - 1]), len(totals))
    chosen, end = list[int](), count
    for cut in reversed(cuts[:groups]):
        chosen.append(int(lengths[end - 1]))
        end = int(cut[end])
    return tuple(reversed(chosen))


def rounded(count: int, batch: int) -> int:
    """Rows of full batches, and of a last one whose rows are rounded up to a power of two: 21 of 16 -> 16 + 8."""
    rest = count % batch
    return count - rest + (min(1 << (rest - 1).bit_length(), batch) if rest else 0)


def row_length(tokens: int) -> int:
    """The length of a row for so many tokens where nothing is known of others: 32, 64, 128, ..."""
    return max(ROUND, 1 << (tokens - 1).bit_length())


def in_parts(items: Iterable[Item], size: int) -> Iterator[tuple[int, list[Item]]]:
    """The number of the first item of each part, and its `size` items."""
    left, first = iter(items), 0
    while part := list(itertools.islice(left, size)):
        yield first, part
        first += len(part)


def in_order(found: Iterable[tuple[int, Item]], first: int = 0) -> Iterator[Item]:
    """The items in the order of their numbers, from `first` on, each as soon as all before it are there."""
    waiting = dict[int, Item]()
    for number, item in found:
        waiting[number] = item
        while first in waiting:
            yield waiting.pop(first)
            first += 1
