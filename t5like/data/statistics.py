"""The manifest of a store as tables of plain text: what `t5like data stats` prints."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Manifest = Mapping[str, Any]
Row = Sequence[str]

COUNTS = ("documents", "bytes", "tokens")
EXAMPLE_COLUMNS = 80
"""Columns that the text of a dropped document takes at most."""


def as_text(manifest: Manifest) -> str:
    """Tables of documents, bytes and tokens by source and split, of what each filter dropped with examples, and of
    the files with their checksums; then the vocabulary and the versions. Numbers are exact, so that they can be
    compared; bytes are those of the text in UTF-8.
    """
    return "\n".join(
        line.rstrip() for section in (_texts, _filters, _dropped, _files, _origin) for line in section(manifest)
    )


def _texts(manifest: Manifest) -> Iterator[str]:
    header = ("source", "split", "documents", "bytes", "tokens", "bytes/token", "tokens/document", "longest")
    rows, sources = [], manifest["sources"]
    for source in sources:
        rows.append((source["name"], "read", f"{source['read']['documents']:,}", f"{source['read']['bytes']:,}"))
        rows += [(source["name"], name, *_figures(split)) for name, split in source["splits"].items()]
    if len(sources) > 1:
        for name in dict.fromkeys(name for source in sources for name in source["splits"]):
            rows.append(("all", name, *_figures(_sum([s["splits"][name] for s in sources if name in s["splits"]]))))
    yield from _table(header, rows)


def _sum(splits: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    totals = {name: sum(split[name] for split in splits) for name in COUNTS}
    return totals | {"longest": max(split["longest"] for split in splits)}


def _figures(split: Mapping[str, Any]) -> Row:
    documents, size, tokens = (split[name] for name in COUNTS)
    ratios = (_ratio(size, tokens, 2), _ratio(tokens, documents, 1))
    return (f"{documents:,}", f"{size:,}", f"{tokens:,}", *ratios, f"{split['longest']:,}")


def _ratio(numerator: int, denominator: int, digits: int) -> str:
    return f"{numerator / denominator:,.{digits}f}" if denominator else "-"


def _filters(manifest: Manifest) -> Iterator[str]:
    """Each filter sees what those before it kept."""
    rows = []
    for source in manifest["sources"]:
        left = source["read"]["documents"]
        for filter in source["filters"]:
            seen, left = left, left - filter["dropped"]
            share = f"{filter['dropped'] / seen:.1%}" if seen else "-"
            counts = (f"{number:,}" for number in (left, filter["dropped"]))
            rows.append((source["name"], filter["kind"], *counts, share, f"{filter['noted']:,}"))
    if rows:
        yield ""
        yield from _table(("source", "filter", "kept", "dropped", "share", "reported"), rows)


def _dropped(manifest: Manifest) -> Iterator[str]:
    rows = [
        (source["name"], filter["kind"], example["document"], example["reason"], _short(example["text"]))
        for source in manifest["sources"]
        for filter in source["filters"]
        for example in filter["examples"]
    ]
    if rows:
        yield ""
        yield from _table(("source", "filter", "document", "reason", "text that was dropped or reported"), rows)


def _files(manifest: Manifest) -> Iterator[str]:
    rows = [
        (source["name"], name, file["name"], f"{file['documents']:,}", f"{file['tokens']:,}", file["sha256"])
        for source in manifest["sources"]
        for name, split in source["splits"].items()
        for file in split["files"]
    ]
    if rows:
        yield ""
        yield from _table(("source", "split", "file", "documents", "tokens", "SHA-256"), rows)


def _origin(manifest: Manifest) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in manifest["created_with"].items())
    kinds = ", ".join(
        f"{source['name']} ({source['kind']}, units: {source['units']:,})" for source in manifest["sources"]
    )
    yield ""
    yield f"vocabulary     SHA-256 {manifest['vocabulary_sha256']}"
    yield f"tokens         {8 * int(str(manifest['dtype'])[-1])} bits each, format {manifest['format']}"
    yield f"sources        {kinds}"
    yield f"created with   {versions}"
    yield f"invalid UTF-8  {manifest['invalid_sequences']:,} sequences replaced by U+FFFD"


def _table(header: Row, rows: Sequence[Row]) -> Iterator[str]:
    """Aligned columns; those that hold only numbers lean to the right."""
    lines = [[_printable(cell) for cell in (*row, *[""] * (len(header) - len(row)))] for row in (header, *rows)]
    columns = list(zip(*lines, strict=True))
    widths = [max(map(_columns, column)) for column in columns]
    numbers = [all(re.fullmatch(r"[\d,.]*%?|-", cell) for cell in column[1:]) for column in columns]
    for number, line in enumerate(lines):
        cells = zip(line, widths, numbers, strict=True)
        yield "  ".join(_padded(cell, width, right) for cell, width, right in cells)
        if not number:
            yield "  ".join("-" * width for width in widths)


def _padded(cell: str, width: int, right: bool) -> str:
    space = " " * (width - _columns(cell))
    return space + cell if right else cell + space


def _columns(text: str) -> int:
    """Columns that a terminal gives to a text: two to Chinese characters and emoji, none to combining marks."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.category(character) in ("Mn", "Me", "Cf") for character in text)


def _printable(text: str) -> str:
    """On one line, without what a terminal would obey."""
    return "".join(
        c if unicodedata.category(c)[0] != "C" or c == "\u200d" else "\ufffd" for c in " ".join(text.split())
    )


def _short(text: str) -> str:
    """The beginning of a text, on one line."""
    text, width = _printable(text), 0
    for number, character in enumerate(text):
        width += _columns(character)
        if width > EXAMPLE_COLUMNS:
            return text[:number] + "…"
    return text
