"""Row number -> (source, the source's own row number), with rates that are exact in every block of rows.

A block holds a fixed number of rows of each source, in an order of its own. Row k's source and its number there are
computed from k alone, so a mixture needs no more state than a single source.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Integer

from t5like import config
from t5like.data.order import locate
from t5like.errors import UserError

BLOCK = 4096
"""Most rows of a block of a mixture by rates."""
KEY = 0x6D6978
"""Sets a mixture's permutations apart from those of the sources."""


class Mixture:
    """A sequence of rows that is made of several sources.

    Args:
      counts: rows of each source in a block.
      seed: of the order within blocks.
    """

    def __init__(self, counts: Sequence[int], seed: int):
        self.counts, self.seed = np.array(counts, np.int64), seed
        self._ends = np.cumsum(self.counts)

    @property
    def block(self) -> int:
        """Rows of a block."""
        return int(self._ends[-1])

    def locate(
        self, rows: Integer[np.ndarray, " rows"]
    ) -> tuple[Int[np.ndarray, " rows"], Integer[np.ndarray, " rows"]]:
        """The source of each row, and the row's number among all rows of that source."""
        if len(self.counts) == 1:
            return np.zeros(len(rows), np.int64), rows
        block, position = locate(rows, self.block, self.seed, KEY)
        source = np.searchsorted(self._ends, position, side="right")
        number = position - (self._ends - self.counts)[source]
        return source, block * self.counts[source] + number

    def rows_of(self, rows: int) -> Int[np.ndarray, " sources"]:
        """Rows of each source among the first `rows`, up to the last block's own order."""
        return np.rint(rows * self.counts / self.block).astype(np.int64)


def mixture(data: config.Data, sizes: Sequence[int]) -> Mixture:
    """The training mixture of sources that have `sizes` rows each.

    With rates these decide; with a temperature or a cap, min(size, cap)^(1/temperature) does (Raffel et al. 2020,
    Arivazhagan et al. 2019). Otherwise a block is one epoch of everything, so that each row occurs once in it.

    Raises:
      UserError: a rate below one row in a block.
    """
    rates = [source.rate for source in data.sources]
    if rates[0] is None and data.temperature == 1 and data.size_cap is None:
        return Mixture(sizes, data.seed)
    if rates[0] is None:
        capped = np.minimum(sizes, data.size_cap or max(sizes)).astype(float)
        shares = (capped / capped.max()) ** (1 / data.temperature)
    else:
        shares = np.array(rates, float)
    counts = exact_counts(shares / shares.sum())
    for name, count, share in zip(data.source_names, counts, shares / shares.sum(), strict=True):
        if not count:
            raise UserError(
                f"The source {name!r} would be {share:.2g} of the rows, less than one in {BLOCK}: leave it out of "
                "data.sources, or raise its rate (data.temperature, data.size_cap)."
            )
    return Mixture(counts.tolist(), data.seed)


def exact_counts(shares: Float[np.ndarray, " sources"]) -> Int[np.ndarray, " sources"]:
    """Rows of each source in a block: the smallest block that has the shares exactly, or `BLOCK` rows that come
    nearest to them."""
    blocks = np.arange(1, BLOCK + 1)
    wanted = shares[:, None] * blocks
    errors = np.abs(wanted - np.rint(wanted)).max(axis=0)
    exact = np.flatnonzero(errors < 1e-9 * BLOCK)
    if len(exact):
        return np.rint(shares * blocks[exact[0]]).astype(np.int64)
    counts = np.floor(shares * BLOCK).astype(np.int64)
    remainders = shares * BLOCK - counts
    counts[np.argsort(-remainders, kind="stable")[: BLOCK - int(counts.sum())]] += 1
    return counts
