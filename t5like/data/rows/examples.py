"""Examples, of which rows are made: windows of running text, documents that a table packs, or pairs of sentences."""

from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Int, UInt64

from t5like.config import Data
from t5like.data.draws import below
from t5like.data.order import hash_of
from t5like.data.packing.pack_table import PackTable
from t5like.data.ragged import Ragged
from t5like.data.store import Split, Store
from t5like.errors import UserError

EXACT, ATTEMPTS = 8, 24
"""Draws of another document's B in search of one of the same length, and all draws."""
PARTNER = 0x706172
"""Sets the choice of a second document apart from the noise."""
NEAREST, SHARE = 4, 2**9
"""Another document's B is drawn from so many on either side in the order of their lengths, or a share of all."""


class Examples(NamedTuple):
    """Examples, of which rows are made; with `pack` a row may have several."""

    parts: tuple[Ragged, ...]
    row: Int[np.ndarray, " examples"]
    """Index of the example's row among those that were asked for."""
    number: Int[np.ndarray, " examples"]
    """The example's first token in its source."""
    document: Int[np.ndarray, " examples"]
    """Number of the document where rows are made of documents."""
    drawing: Int[np.ndarray, " examples"]
    """The epoch whose choices decide the example's length."""


class Reader(Protocol):
    """The rows of one source, by position, in an epoch each."""

    rows: int

    def read(self, positions: Int[np.ndarray, " rows"], epochs: Int[np.ndarray, " rows"]) -> Examples: ...


class Windows:
    """Rows that are windows of running text, one after the other."""

    def __init__(self, store: Store, data: Data, source: int, split: Split):
        self._tokens, self._window = store.tokens(source, split), data.window
        self.rows = self._tokens.size // data.window

    def read(self, positions: Int[np.ndarray, " rows"], epochs: Int[np.ndarray, " rows"]) -> Examples:
        lengths = np.full(len(positions), self._window)
        starts = positions * self._window
        text = Ragged(self._tokens.read(starts, lengths), lengths)
        rows = np.arange(len(positions))
        return Examples((text,), rows, starts, rows, epochs)


class Documents:
    """Rows that are documents, packed by a table."""

    def __init__(self, store: Store, data: Data, source: int, split: Split):
        self._tokens, self._table = store.tokens(source, split), PackTable(store, data, source, split)
        self._drawn = data.draws_lengths
        self.rows = self._table.rows

    def read(self, positions: Int[np.ndarray, " rows"], epochs: Int[np.ndarray, " rows"]) -> Examples:
        drawings = epochs % self._table.drawings
        table, row = self._table.read(drawings * self.rows + positions)
        first, parts = table[:, 0], []
        for lengths in table[:, 2:].T:
            parts.append(Ragged(self._tokens.read(first, lengths), lengths))
            first = first + lengths
        return Examples(tuple(parts), row, table[:, 0], table[:, 1], (drawings if self._drawn else epochs)[row])


class SentencePairs(Documents):
    """Rows that are pairs of segments, in the table by the length of the second one."""

    def __init__(self, store: Store, data: Data, source: int, split: Split):
        super().__init__(store, data, source, split)
        self._most, self._sorted = data.window, self._table.description.get("sorted", max(self.rows, 1))

    def with_others(
        self,
        pairs: Examples,
        positions: Int[np.ndarray, " rows"],
        epochs: Int[np.ndarray, " rows"],
        keys: UInt64[np.ndarray, " rows"],
    ) -> Examples:
        """The pairs at these positions with a third part: the B of another document, drawn for each by its key.

        It is as long as the pair's own B or nearly so, for it is drawn from the pairs around it. So the lengths of a
        pair are alike whether its B follows or not.

        Raises:
          UserError: the source has pairs of one document alone.
        """
        # Arrays are [rows]; `left` are the rows that have no other B yet.
        low, high = self._sorted_with(positions)
        arrangement = (epochs % self._table.drawings) * self.rows
        near, others = np.maximum((high - low) // SHARE, NEAREST), np.zeros((len(positions), 4), np.int64)
        first_lengths, own_lengths = (part.lengths for part in pairs.parts)
        left = np.arange(len(positions))
        for attempt in range(ATTEMPTS):
            # First a B of the same length; then one that fits into the row, from farther and farther away.
            reach = near[left] << max(attempt - EXACT, 0) // 4
            first = np.maximum(positions[left] - reach, low[left])
            count = np.minimum(positions[left] + reach + 1, high[left]) - first
            drawn = first + below(hash_of(keys[left], PARTNER, attempt), count)
            others[left] = self._table.read(arrangement[left] + drawn)[0]
            spare = (self._most - first_lengths if attempt >= EXACT else own_lengths)[left] - others[left, 3]
            fits = spare >= 0 if attempt >= EXACT else spare == 0
            left = left[~fits | (others[left, 1] == pairs.document[left])]
            if not left.size:
                break
        for n in left.tolist():
            around = self._table.read(arrangement[n] + np.arange(low[n], high[n]))[0]
            others[n] = _nearest(around, int(positions[n] - low[n]), int(pairs.document[n]))
        other = Ragged(self._tokens.read(others[:, 0] + others[:, 2], others[:, 3]), others[:, 3])
        return pairs._replace(parts=(*pairs.parts, other))

    def _sorted_with(
        self, positions: Int[np.ndarray, " rows"]
    ) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
        """The first and the last rows of those that are sorted together with each."""
        last = max(self.rows // self._sorted, 1) - 1
        number = np.minimum(positions // self._sorted, last)
        low = number * self._sorted
        return low, np.where(number == last, self.rows, low + self._sorted)


def _nearest(pairs: Int[np.ndarray, "pairs 4"], position: int, document: int) -> Int[np.ndarray, " 4"]:
    """The pair of another document that is nearest to a position: one document has nearly all of them."""
    others = np.flatnonzero(pairs[:, 1] != document)
    if not len(others):
        raise UserError(
            "data.objective.kind='next_sentence' takes half of the second segments from another document, but a "
            "source has one document alone of two sentences or more: split it, for example with "
            "data.sources.N.document='line'."
        )
    return pairs[others[np.argmin(np.abs(others - position))]]
