"""What rows are made of: windows of running text, or documents that a table packs."""

from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Int, UInt64

from t5like.config import Data
from t5like.data.order import hash_of
from t5like.data.pack_table import PackTable
from t5like.data.ragged import Ragged
from t5like.data.store import Split, Store
from t5like.errors import UserError

ATTEMPTS = 16
PARTNER = 0x706172
"""Sets the choice of a second document apart from the noise."""


class Examples(NamedTuple):
    """What rows are made of."""

    parts: tuple[Ragged, ...]
    row: Int[np.ndarray, " examples"]
    """The place of the example's row among those that were asked for."""
    number: Int[np.ndarray, " examples"]
    """The example's first token in its source."""
    document: Int[np.ndarray, " examples"]
    """Number of the document where rows are made of documents."""

    def with_partners(self, source: "Reader", keys: UInt64[np.ndarray, " examples"]) -> "Examples":
        """The same examples with one part more: an example of another document, drawn for each by its key.

        Raises:
          UserError: the source has one document alone.
        """
        chosen = np.zeros(len(keys), np.int64)
        same = np.arange(len(keys))
        for attempt in range(ATTEMPTS):
            draws = hash_of(keys[same].view(np.int64), PARTNER, attempt) % np.uint64(source.rows)
            chosen[same] = draws.astype(np.int64)
            same = same[source.read(chosen[same]).document == self.document[same]]
            if not len(same):
                return self._replace(parts=(*self.parts, *source.read(chosen).parts))
        # One document is nearly all of the source: its first or its last row is of another.
        first, last = source.read(np.array([0, source.rows - 1])).document
        if first == last:
            raise UserError(
                "data.objective.kind='next_sentence' takes half of the second sentences from another document, but a "
                "source has one document alone: split it, for example with data.sources.N.document='line'."
            )
        chosen[same] = np.where(self.document[same] == first, source.rows - 1, 0)
        return self._replace(parts=(*self.parts, *source.read(chosen).parts))


class Reader(Protocol):
    """The rows of one source, by position."""

    rows: int

    def read(self, positions: Int[np.ndarray, " rows"]) -> Examples: ...


class Windows:
    """Rows that are windows of running text, one after the other."""

    def __init__(self, store: Store, data: Data, source: int, split: Split):
        self._tokens, self._window = store.tokens(source, split), data.window
        self.rows = self._tokens.size // data.window

    def read(self, positions: Int[np.ndarray, " rows"]) -> Examples:
        lengths = np.full(len(positions), self._window)
        starts = positions * self._window
        text = Ragged(self._tokens.read(starts, lengths), lengths)
        rows = np.arange(len(positions))
        return Examples((text,), rows, starts, rows)


class Documents:
    """Rows that are documents, packed by a table."""

    def __init__(self, store: Store, data: Data, source: int, split: Split):
        self._tokens, self._table = store.tokens(source, split), PackTable(store, data, source, split)
        self.rows = self._table.rows

    def read(self, positions: Int[np.ndarray, " rows"]) -> Examples:
        table, row = self._table.read(positions)
        first, parts = table[:, 0], []
        for lengths in table[:, 2:].T:
            parts.append(Ragged(self._tokens.read(first, lengths), lengths))
            first = first + lengths
        return Examples(tuple(parts), row, table[:, 0], table[:, 1])
