"""The manifest of a store and its pack tables as plain text: what `t5like data stats` prints."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from etils import epath

from t5like.config.objective import SPECS
from t5like.data.aligned import Row, aligned, printable, shortened
from t5like.data.store import fills, read_tables

Manifest = Mapping[str, Any]

COUNTS = ("documents", "bytes", "tokens")
EXAMPLE_COLUMNS = 80
"""Columns that the text of a dropped document takes at most."""
LAST = {"exact_duplicates": 1, "near_duplicates": 1, "repeated_lines": 2}
"""Filters that look at what all others kept, wherever they stand, in their order."""
EDITING = ("c4", "repeated_lines")
"""Filters that take out lines."""
DRAWN = {kind for kind, spec in SPECS.items() if spec.draws_lengths}
"""Objectives whose examples are as long as random choices make them."""
FILES = 10
"""Files that are shown."""


def pack_tables(store: epath.Path) -> dict[str, Manifest]:
    """The descriptions of a store's pack tables, by the names of their folders.

    Raises:
      UserError: a description is damaged.
    """
    found = {}
    for path in sorted((store / "packs").glob("*/table.json")):
        found[path.parent.name] = read_tables(path.parent)
    return found


def as_text(manifest: Manifest, tables: Mapping[str, Manifest] | None = None) -> str:
    """Tables of documents, bytes and tokens by source and split, of what each filter dropped with examples, of the
    rows that documents are packed into (`pack_tables`), and of the first files with their checksums; then the
    vocabulary and the versions. Numbers are exact, so that they can be compared; bytes are those of the text in UTF-8.
    """
    sections = (
        _texts(manifest),
        _skipped(manifest),
        _filters(manifest),
        _dropped(manifest),
        _packs(manifest, tables or {}),
    )
    lines = itertools.chain(*sections, _files(manifest), _origin(manifest))
    return "\n".join(line.rstrip() for line in lines)


def _texts(manifest: Manifest) -> Iterator[str]:
    header = ("source", "split", "documents", "bytes", "tokens", "bytes/token", "tokens/document", "longest")
    rows, sources = [], manifest["sources"]
    for source in sources:
        rows.append((source["name"], "read", f"{source['read']['documents']:,}", f"{source['read']['bytes']:,}"))
        rows += [(source["name"], name, *_figures(split)) for name, split in source["splits"].items()]
    if len(sources) > 1:
        for name in dict.fromkeys(name for source in sources for name in source["splits"]):
            rows.append(("all", name, *_figures(_sum([s["splits"][name] for s in sources if name in s["splits"]]))))
    yield from aligned(header, rows)


def _skipped(manifest: Manifest) -> Iterator[str]:
    """The records that could not be read, and some of them."""
    for source in manifest["sources"]:
        if skipped := source.get("skipped"):
            yield ""
            yield f"{source['name']}: {skipped['count']:,} records skipped that could not be read, for example"
            yield from (f"  {printable(example)}" for example in skipped["examples"])


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
    """Each filter sees what those before it kept; those of duplicates come after all others."""
    rows = []
    for source in manifest["sources"]:
        left = source["read"]["documents"]
        for filter in sorted(source["filters"], key=lambda filter: LAST.get(filter["kind"], 0)):
            seen, left = left, left - filter["dropped"]
            share = f"{filter['dropped'] / seen:.1%}" if seen else "-"
            counts = (f"{number:,}" for number in (left, filter["dropped"]))
            lines = "-"
            if filter["kind"] in EDITING:
                removed = source["read"]["lines_removed"] if filter["kind"] == "c4" else filter["lines"]
                lines = f"{removed:,}"
            rows.append((source["name"], filter["kind"], *counts, share, f"{filter['noted']:,}", lines))
    if rows:
        header = ("source", "filter", "kept", "dropped", "share", "reported", "lines removed")
        edited = any(row[1] in EDITING for row in rows)
        yield ""
        yield from aligned(header if edited else header[:-1], [row if edited else row[:-1] for row in rows])


def _dropped(manifest: Manifest) -> Iterator[str]:
    rows = [
        (source["name"], filter["kind"], example["document"], example["reason"], _beginning(example))
        for source in manifest["sources"]
        for filter in source["filters"]
        for example in filter["examples"]
    ]
    if rows:
        yield ""
        yield from aligned(("source", "filter", "document", "reason", "text that was dropped or reported"), rows)


def _packs(manifest: Manifest, tables: Mapping[str, Manifest]) -> Iterator[str]:
    """The fill of each stack; an older table does not know it where lengths depend on random choices."""
    rows = []
    for description in tables.values():
        lengths = description["lengths"]
        label = (description["objective"], " + ".join(f"{stack} {length}" for stack, length in lengths.items()))
        for name, table in description["tables"].items():
            number, _, split = name.partition("-")
            counts = (f"{table[column]:,}" for column in ("rows", "examples", "cut"))
            shares = fills([table], lengths)
            known = table["rows"] and ("drawings" in table or description["objective"] not in DRAWN)
            fill = " + ".join(f"{share:.1%}" for share in shares) if known else "-"
            rows.append((*label, manifest["sources"][int(number)]["name"], split, *counts, fill))
    if rows:
        yield ""
        yield from aligned(("objective", "row", "source", "split", "rows", "examples", "cut documents", "fill"), rows)


def _files(manifest: Manifest) -> Iterator[str]:
    files = [
        (source["name"], name, file)
        for source in manifest["sources"]
        for name, split in source["splits"].items()
        for file in split["files"]
    ]
    if files:
        rows = [
            (source, split, file["name"], f"{file['documents']:,}", f"{file['tokens']:,}", file["sha256"])
            for source, split, file in files[:FILES]
        ]
        yield ""
        yield from aligned(("source", "split", "file", "documents", "tokens", "SHA-256"), rows)
    if (more := len(files) - FILES) > 0:
        yield f"... and {more:,} more file{'s' if more > 1 else ''}"


def _origin(manifest: Manifest) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in manifest["created_with"].items())
    kinds = ", ".join(
        f"{source['name']} ({source['kind']}, units: {source['units']:,})" for source in manifest["sources"]
    )
    yield ""
    yield f"vocabulary     SHA-256 {manifest['vocabulary_sha256']}"
    yield f"tokens         {8 * int(str(manifest['dtype'])[-1])} bits each, format {manifest['format']}"
    yield f"sources        {kinds}"
    if inputs := manifest.get("inputs"):
        size = sum(file[3] for file in inputs["files"])
        yield f"inputs         {len(inputs['files']):,} files of {size:,} bytes, known by {inputs['hashes']}"
    yield f"created with   {versions}"
    yield f"invalid UTF-8  {manifest['invalid_sequences']:,} sequences replaced by U+FFFD"


def _beginning(example: Mapping[str, Any]) -> str:
    return shortened(example["text"], EXAMPLE_COLUMNS)
