"""Documents, from where they are kept.

Sources are cut into units, which are files, or ranges of them where the format can be cut; a unit is what one worker
prepares. Units grow with the sources, from 2 MiB to 1 GiB, so that even terabytes make only thousands of them.
Reading a unit is a pure function of its files. Text is decoded as UTF-8 or from the encoding that the source names; a
few invalid bytes become U+FFFD and are counted, many are a file in another encoding, which is refused.
"""

import hashlib
import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from t5like.config import Source
from t5like.config.sources import COMPRESSED
from t5like.data.example import Example
from t5like.data.sources.compression import compression_of
from t5like.data.sources.faults import Faults
from t5like.data.sources.files import is_utf8
from t5like.data.sources.identity import Key, root_of
from t5like.data.sources.matching import opened, reached
from t5like.data.sources.parts import Part, file_kind, part_rows, parts_of, read_part, rows_of
from t5like.data.sources.readers import is_array
from t5like.data.sources.records import Record, Row, Wanted, records, value_of, wanted_of
from t5like.data.sources.tables import has_quotes

__all__ = ["Document", "Part", "Row", "Unit", "Wanted", "document_id", "file_kind", "part_rows", "read", "rows_of"]
__all__ += ["unit_bytes", "units", "value_of"]

UNIT_BYTES, MOST_UNIT_BYTES = 2**21, 2**30
"""Sizes of a unit in small sources and in large ones."""
MOST_UNITS = 2**12
"""Units that all sources together have, as far as files can be cut and grouped and units may grow."""
Split = Literal["train", "validation"]


Piece = tuple[Part, int, bool]
"""A part, its size in bytes, and whether it has lines, between which it can be cut."""


@dataclass(frozen=True)
class Unit:
    """A unit of work: what one worker prepares."""

    source: int
    """Number in `data.sources`."""
    split: Split | None
    """Split of all its documents; None: a hash of each document's group decides."""
    parts: tuple[Part, ...]
    size: int
    """Bytes of input, as they lie on the disk; for Parquet, uncompressed."""


@dataclass(frozen=True)
class Document:
    """A raw text, or several that belong together."""

    parts: tuple[str, ...]
    group: str
    """Documents of one group lie on the same side of the split; equal documents are of one group."""
    file: int
    """Number in `Unit.parts`."""
    record: int
    """Byte offset of the line in the (decompressed) file, number of the row or record; 0 for whole files."""
    invalid: int = 0
    """Sequences that were no UTF-8, each of which is now U+FFFD."""
    example: Example | None = None
    """The example that the parts are the prompt and the target of."""


def units(sources: tuple[Source, ...], only: Collection[Key] | None = None) -> list[Unit]:
    """The units of all sources, or of the inputs in `only`, in a fixed order: source by source, training before
    validation, files by name.

    Raises:
      UserError: no file matches, or what matches cannot be what the source says.
    """
    pieces: dict[tuple[int, Split | None], list[Piece]] = {}
    for number, source in enumerate(sources):
        splits: tuple[Split | None, ...] = ("train", "validation") if source.validation else (None,)
        for split in splits:
            if only is None:
                pieces[number, split] = list(_pieces(source, split))
            elif names := {key.name for key in only if (key.source, key.split) == (number, split or "")}:
                root = root_of(source, split or "train")
                found = _pieces(source, split)
                pieces[number, split] = [p for p in found if p[0].name.removeprefix(root) in names]
    most = unit_bytes(sum(size for whole in pieces.values() for _, size, _ in whole))
    return [
        Unit(number, split, parts, size)
        for (number, split), whole in pieces.items()
        for parts, size in _grouped(_cut(sources, number, whole, most), most)
    ]


def unit_bytes(size: int) -> int:
    """The bytes of a unit where all sources together have `size` bytes."""
    return max(UNIT_BYTES, min(-(-size // MOST_UNITS), MOST_UNIT_BYTES))


def read(source: Source, unit: Unit, faults: Faults | None = None) -> Iterator[Document]:
    """The documents of a unit; those without any visible character are left out.

    Args:
      faults: counts the records and files that are left out because they cannot be read (`Source.on_error`).

    Raises:
      UserError: a file cannot be read, or a document is no text, is too long or lacks a field.
    """
    faults = faults or Faults()
    faults.skip = source.on_error == "skip"
    for number, part in enumerate(unit.parts):
        for record in _records(source, part, faults):
            if any(text.strip() for text in record.texts):
                parts = _filled(source, record) if source.template else record.texts
                group = record.group or _hash(record.texts)
                yield Document(parts, group, number, record.number, record.invalid)


def _records(source: Source, part: Part, faults: Faults) -> Iterator[Record]:
    """The records of a part."""

    def made(rows: Iterator[Row]) -> Iterator[tuple[Record, int, int]]:
        found = records(source, rows, faults)
        return ((record, record.invalid, sum(map(len, record.texts))) for record in found)

    return read_part(source, part, wanted_of(source), faults, made)


def document_id(unit: Unit, document: Document) -> str:
    """The name of a document in reports: its file or split, and its number there."""
    return f"{unit.parts[document.file].name}#{document.record}"


def _pieces(source: Source, split: Split | None) -> Iterator[Piece]:
    """The parts of a source."""
    for part, size in parts_of(source, split or "train", wanted_of(source)):
        lines = part.stop is None and _has_lines(source, file_kind(source, part.name), part.name)
        yield part, size, lines


def _has_lines(source: Source, kind: str, name: str) -> bool:
    """True if a file has lines between which it can be cut, as far as its name and kind say."""
    cuttable = {
        "jsonl": True,
        "text": source.document != "file",
        "tsv": not has_quotes(source, "tsv"),
        "conll": True,
    }
    return cuttable.get(kind, False) and is_utf8(source.encoding) and not name.lower().endswith(COMPRESSED)


def _is_whole(source: Source, name: str) -> bool:
    """True if a file's content says that it cannot be cut: it is compressed, or one JSON array."""
    with reached(name), opened(name) as file:
        head = file.read(16)
    return bool(compression_of(name, head)) or is_array(source, name)


def _cut(sources: tuple[Source, ...], number: int, pieces: list[Piece], most: int) -> Iterator[tuple[Part, int]]:
    """The pieces and their sizes, with those that can be cut in ranges of at most `most` bytes."""
    for part, size, lines in pieces:
        if lines and size > most and not _is_whole(sources[number], part.name):
            for start, stop in itertools.pairwise([*range(0, size, most), size]):
                yield Part(part.name, start, stop), stop - start
        else:
            yield part, size


def _grouped(pieces: Iterator[tuple[Part, int]], most: int) -> list[tuple[tuple[Part, ...], int]]:
    """Pieces, in their order, in groups of at most `most` bytes or of one piece."""
    groups: list[tuple[list[Part], int]] = []
    for part, size in pieces:
        if groups and groups[-1][1] + size <= most:
            parts, before = groups.pop()
            parts.append(part)
            groups.append((parts, before + size))
        else:
            groups.append(([part], size))
    return [(tuple(parts), size) for parts, size in groups]


def _filled(source: Source, record: Record) -> tuple[str, ...]:
    """The parts of a document by the source's template; text that a field brings is not looked at for names."""
    values = dict(zip(source.fields, record.texts, strict=True))
    return tuple(source.fill(template, values) for template in source.template)


def _hash(texts: tuple[str, ...]) -> str:
    """A hash in which the border between two texts counts."""
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        content = text.encode("utf-8", "replace")
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()
