"""The split of a document: by a hash of it, or, where that leaves a split without documents, by its place.

A hash puts about one of a hundred documents into the validation split, so where there are few, none may be there. Then
the end of the text is held out: the last documents, or the last part of a long one.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from t5like import config
from t5like.data import sources
from t5like.data.cleaning import Cleaner, Dropped
from t5like.data.prepare.documents import documents
from t5like.data.splits import AnySplit, Shares, shares_of, split_by_hash
from t5like.data.store import Split

FEW = 100_000
"""Documents from which on no other split is looked for than that by the hash."""
LEAST = 2**14
"""Characters that are held out at least, as far as they are no more than a tenth of the text."""
BORDER = 1000
"""Characters before a cut in which the end of a line or word is looked for."""
Numbered = tuple[int, sources.Unit]
"""A unit and its number."""


class Place(NamedTuple):
    """The place of a document among all."""

    unit: int
    file: int
    record: int


class Tail(NamedTuple):
    """The end of the text, which is held out."""

    place: Place
    """Its first document."""
    kept: int
    """Characters at the beginning of that document that are still trained on."""
    held: int
    """Characters that are held out."""
    characters: int
    """Characters in all."""
    documents: int
    """Documents in all."""

    def __str__(self) -> str:
        one = self.documents == 1
        return (
            f"data.sources has {'one document' if one else f'{self.documents:,} documents'} alone, so the validation "
            f"split is the end of {'it' if one else 'the last'}: {self.held:,} of {self.characters:,} characters."
        )


def split_of(unit: sources.Unit, document: sources.Document, shares: Shares) -> AnySplit:
    """The split of the unit, or the one that a hash of the document's group puts it in."""
    if unit.split == "validation":
        return unit.split
    return split_by_hash(document.group, shares if unit.split is None else shares._replace(validation=0.0))


def splits_of(
    unit: Numbered, document: sources.Document, shares: Shares, tail: Tail | None
) -> Iterator[tuple[Split, sources.Document]]:
    """The split of a document, or both with its two parts where the tail begins within it; none for the test's."""
    if tail is None:
        if (split := split_of(unit[1], document, shares)) != "test":
            yield split, document
        return
    place = Place(unit[0], document.file, document.record)
    if place != tail.place or not tail.kept:
        yield "train" if place < tail.place else "validation", document
        return
    (text,) = document.parts
    cut = _border(text, tail.kept)
    halves: tuple[tuple[Split, str], ...] = (("train", text[:cut]), ("validation", text[cut:]))
    for split, half in halves:
        if half.strip():
            yield split, dataclasses.replace(document, parts=(half,))


def find_tail(data: config.Data, units: Sequence[Numbered]) -> Tail | None:
    """The tail to hold out; None where the hash leaves no split empty, a source has a split of its own, or there is no
    more than one document, of several parts."""
    if any(unit.split for _, unit in units) or any(s.task for s in data.sources) or _both(data, units):
        return None
    clean, lengths = Cleaner(data.filters), list[tuple[Place, int]]()
    for (number, _), document in _documents(data, units):
        cleaned = clean(document)
        if not isinstance(cleaned, Dropped):
            place = Place(number, document.file, document.record)
            lengths.append((place, sum(map(len, cleaned.document.parts))))
    total = sum(length for _, length in lengths)
    wanted = round(max(data.held_out * total, min(LEAST, total / 10)))
    left, parts = wanted, data.sources[0].parts
    for position, (place, length) in reversed(list(enumerate(lengths))):
        if left <= length:
            kept = 0 if parts > 1 or (position and length <= LEAST) else length - left
            held = wanted - left + length - kept
            return Tail(place, kept, held, total, len(lengths)) if kept or position else None
        left -= length
    return None


def _both(data: config.Data, units: Sequence[Numbered]) -> bool:
    """True if the hash gives each split a document that passes the filters, or there are too many to look at all."""
    clean, seen = Cleaner(data.filters), set[AnySplit]()
    for count, ((_, unit), document) in enumerate(_documents(data, units)):
        split = split_of(unit, document, shares_of(data))
        if split not in seen and not isinstance(clean(document), Dropped):
            seen.add(split)
        if len(seen) == 2 or count == FEW:
            return True
    return False


def _documents(data: config.Data, units: Sequence[Numbered]) -> Iterator[tuple[Numbered, sources.Document]]:
    for number, unit in sorted(units, key=lambda unit: unit[0]):
        for document in documents(data.sources[unit.source], unit):
            yield (number, unit), document


def _border(text: str, position: int) -> int:
    """The position behind the last end of a line, or else of a word, shortly before a position."""
    first = max(1, position - BORDER)
    for end in ("\n", " "):
        if (found := text.rfind(end, first, position)) >= 0:
            return found + 1
    return position
