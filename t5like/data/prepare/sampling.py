"""Text that a vocabulary is learned from: of each source by its share of the bytes, from everywhere in it.

Where there is more text than is wanted, a hash of the place of each piece of text decides, so that the sample is of all
parts of a file, also of a compressed one that can only be read from its beginning.
"""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from t5like import config
from t5like.data import sources
from t5like.data.cleaning import Cleaner, Dropped
from t5like.data.order import permute
from t5like.data.prepare.documents import documents
from t5like.data.prepare.held_out import Numbered, Tail, splits_of
from t5like.data.splits import Shares
from t5like.data.store import Split

UNITS = 64
"""Units of a source that are looked at, if there are as many."""
READ = 2**28
"""Bytes and characters of a source that are read, beyond which no further unit is."""
FEW = 4
"""Units that are read to their end, however long they are."""
PIECES, SHORTEST, LONGEST = 64, 2**8, 2**13
"""Pieces that a sample has at least if documents are long, and the characters of one."""
END = 2**64


class Piece(NamedTuple):
    """A part of a document in the sample."""

    place: tuple[int, int, int]
    """Position of the document, its part, and the piece in this."""
    key: int
    """A hash of the place; the smallest are kept."""
    text: str


def sample(
    read: tuple[config.Source, ...],
    filters: tuple[config.Filter, ...],
    shares: Shares,
    split: Split,
    characters: int,
    units: Sequence[Numbered] | None = None,
    tail: Tail | None = None,
) -> Iterator[str]:
    """Text of a split, up to so many characters: of each source by its share of the bytes, from shuffled units."""
    units = units or list(enumerate(sources.units(read)))
    left, size = characters, sum(unit.size for _, unit in units)
    clean = Cleaner(filters)
    for number, source in enumerate(read):
        own = [(n, unit) for n, unit in units if unit.source == number]
        own_size = sum(unit.size for _, unit in own)
        # What one source lacks, those after it may give.
        quota, size = left * own_size // max(size, 1), size - own_size
        texts = _Texts(source, clean, shares, split, tail)
        for text in texts.first(own, quota) if source.kind == "python_library" else texts.spread(own, quota):
            left -= len(text)
            yield text


class _Texts:
    """The text of a source's documents in a split."""

    def __init__(self, source: config.Source, clean: Cleaner, shares: Shares, split: Split, tail: Tail | None):
        self._source, self._clean, self._shares, self._split, self._tail = source, clean, shares, split, tail

    def first(self, units: Sequence[Numbered], quota: int) -> Iterator[str]:
        """The text of shuffled units one after the other, for sources whose units are all of one kind."""
        for unit in _shuffled(units):
            for document in documents(self._source, unit[1]):
                for text in self._cleaned(unit, document):
                    if not quota:
                        return
                    yield text[:quota]
                    quota -= len(text[:quota])

    def spread(self, units: Sequence[Numbered], quota: int) -> Iterator[str]:
        """Pieces of text from everywhere; all text, in whole documents, where it is no more than wanted."""
        pieces: list[Piece] = []
        limit, total, length = END, 0, min(max(quota // PIECES, SHORTEST), LONGEST)
        for position, (unit, document) in enumerate(self._documents(units, quota)):
            name = f"{unit[0]} {document.file} {document.record}"
            keys = [[_key(name, part, n) for n in range(-(-len(t) // length))] for part, t in enumerate(document.parts)]
            if min(itertools.chain(*keys), default=END) >= limit:
                continue
            for part, text in enumerate(self._cleaned(unit, document)):
                for n, start in enumerate(range(0, len(text), length)):
                    if (key := _key(name, part, n)) < limit:
                        pieces.append(Piece((position, part, n), key, text[start : start + length]))
                        total += len(pieces[-1].text)
            if total > 2 * quota:
                pieces, limit = _smallest(pieces, quota)
                total = sum(len(piece.text) for piece in pieces)
        yield from _joined(_smallest(pieces, quota)[0], quota)

    def _documents(self, units: Sequence[Numbered], quota: int) -> Iterator[tuple[Numbered, sources.Document]]:
        """The documents of as many shuffled units as are looked at, and of each, where these are many, the first."""
        most = max(READ, 4 * quota)
        shuffled = _shuffled(units)
        ends = itertools.accumulate(unit.size for _, unit in shuffled)
        chosen = [unit for n, (unit, end) in enumerate(zip(shuffled, ends, strict=True)) if n < UNITS or end <= most]
        share = max(most // max(len(chosen), 1), min(quota, 2**26))
        for unit in chosen:
            seen = 0
            for document in documents(self._source, unit[1]):
                yield unit, document
                seen += sum(map(len, document.parts))
                if seen > share and len(chosen) > FEW:
                    break

    def _cleaned(self, unit: Numbered, document: sources.Document) -> Iterator[str]:
        """The parts of a document that are in the split."""
        cleaned = None
        if self._tail is None:
            splits = {split for split, _ in splits_of(unit, document, self._shares, None)}
            if self._split not in splits:
                return
        cleaned = self._clean(document)
        if isinstance(cleaned, Dropped):
            return
        for split, part in splits_of(unit, cleaned.document, self._shares, self._tail):
            if split == self._split:
                yield from part.parts


def _shuffled(units: Sequence[Numbered]) -> list[Numbered]:
    return [units[number] for number in permute(np.arange(len(units)), len(units), np.zeros(len(units), np.uint64))]


def _key(name: str, part: int, number: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{name} {part} {number}".encode(), digest_size=8).digest(), "big")


def _smallest(pieces: list[Piece], quota: int) -> tuple[list[Piece], int]:
    """The pieces of the smallest keys that have at least so many characters together, and the key from which on others
    are not wanted."""
    total = 0
    ordered = sorted(pieces, key=lambda piece: piece.key)
    for number, piece in enumerate(ordered):
        if total >= quota:
            return ordered[:number], piece.key
        total += len(piece.text)
    return ordered, END


def _joined(pieces: list[Piece], quota: int) -> Iterator[str]:
    """So many characters of the pieces in the order of their places, neighbours joined."""
    pending, last = "", (-1, -1, -1)
    for place, _, text in sorted(pieces):
        if place != (last[0], last[1], last[2] + 1):
            yield from [pending] if pending else []
            pending = ""
        text = text[:quota]
        pending, quota, last = pending + text, quota - len(text), place
    yield from [pending] if pending else []
