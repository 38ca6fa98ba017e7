"""The pack table: which documents, or which cuts of them, make up each row.

`prepare` computes it from the documents' lengths, so that a row of packed documents has a number like any other. For
each source and split there are two files of uint64: `.examples`, for each example its first token, the number of its
document and the tokens of each of its parts, in the order of the rows; and `.rows`, the first example of each row and,
last, their number.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Int, Integer

from t5like import config
from t5like.data.arrays import Array, is_remote
from t5like.data.objectives import sizes
from t5like.data.packing import pack
from t5like.data.store import REMEDY, SPLITS, Split, Store, WholeFile, read_tables, write_whole
from t5like.errors import UserError

WINDOW = 2**16
"""Examples that are packed together."""
UINT64 = np.dtype("<u8")


class PackTable:
    """The rows of one source's split.

    Raises:
      UserError: the table is missing or damaged, as far as the sizes of its files tell.
    """

    def __init__(self, store: Store, data: config.Data, source: int, split: Split):
        folder = store.folder / "packs" / _key(store, data)
        self.description = read_tables(folder)[f"{source}-{split}"]
        examples, rows = self.description["examples"], self.description["rows"]
        self.columns = 2 + data.sources[source].parts
        self.rows = rows
        if not is_remote(folder):
            _check_size(folder / f"{source}-{split}.examples", examples * self.columns * 8)
            _check_size(folder / f"{source}-{split}.rows", (rows + 1) * 8)
        self._examples = Array(folder, [f"{source}-{split}.examples"], [examples * self.columns], UINT64, store.remote)
        self._starts = Array(folder, [f"{source}-{split}.rows"], [rows + 1], UINT64, store.remote)

    def read(
        self, rows: Integer[np.ndarray, " rows"]
    ) -> tuple[Int[np.ndarray, "examples columns"], Int[np.ndarray, " examples"]]:
        """First token, document and lengths of each example of the rows, and the place in `rows` that it belongs to."""
        ends = self._starts.read(rows, np.full(len(rows), 2)).reshape(-1, 2).astype(np.int64)
        counts = np.diff(ends, axis=1)[:, 0]
        table = self._examples.read(ends[:, 0] * self.columns, counts * self.columns).astype(np.int64)
        return table.reshape(-1, self.columns), np.repeat(np.arange(len(rows)), counts)


def make_tables(store: Store, data: config.Data, report: Callable[[str], None]) -> None:
    """Writes the tables that the rows of `data` need, unless they are there."""
    folder = store.folder / "packs" / _key(store, data)
    if (folder / "table.json").exists():
        return
    for partial in folder.glob("*.partial"):
        partial.unlink(missing_ok=True)
    tables: dict[str, Any] = {}
    filled = places = 0
    for source in range(len(data.sources)):
        for split in SPLITS:
            name = f"{source}-{split}"
            tables[name] = _make_table(store, data, source, split, folder, name)
            filled += sum(tables[name]["tokens"])
            places += tables[name]["rows"] * sum(data.lengths.values())
    description = {"lengths": data.lengths, "objective": data.objective.kind, "pack": data.pack, "tables": tables}
    write_whole(folder / "table.json", json.dumps(description, indent=2).encode())
    rows = sum(table["rows"] for table in tables.values())
    # How long a sentence pair is shows only when its second sentence is drawn.
    fill = "" if data.objective.kind == "next_sentence" else f", filled to {filled / max(places, 1):.1%}"
    report(f"Made {rows:,} rows of the documents{fill}.")


def _make_table(
    store: Store, data: config.Data, source: int, split: Split, folder: epath.Path, name: str
) -> dict[str, Any]:
    counts = {"examples": 0, "rows": 0, "cut": 0}
    tokens, capacity = np.zeros(len(data.lengths), np.int64), list(data.lengths.values())
    with WholeFile(folder / f"{name}.examples") as examples, WholeFile(folder / f"{name}.rows") as starts:
        for table, cut in _windows(_examples(store, data, source, split)):
            lengths = np.minimum(sizes(table[:, 2:], data), capacity)
            if data.pack and data.objective.kind != "next_sentence":
                order, ends = pack(lengths, capacity, WINDOW)
            else:
                order, ends = np.arange(len(table)), np.arange(len(table) + 1)
            examples.write(table[order].astype(UINT64).tobytes())
            starts.write((ends[:-1] + counts["examples"]).astype(UINT64).tobytes())
            counts["examples"] += len(table)
            counts["rows"] += len(ends) - 1
            counts["cut"] += cut
            tokens += lengths.sum(axis=0)
        starts.write(np.array([counts["examples"]], UINT64).tobytes())
        return {**counts, "tokens": tokens.tolist(), "sha256": [examples.close(), starts.close()]}


def _examples(
    store: Store, data: config.Data, source: int, split: Split
) -> Iterator[tuple[Int[np.ndarray, "examples columns"], int]]:
    """The examples of some documents at a time, and how many of these had to be cut: a single text is cut into pieces
    of at most `data.window` tokens, of pairs what does not fit is left out later."""
    first = before = 0
    for rows in store.document_tables(source, split, WINDOW):
        lengths = rows[:, :-2].astype(np.int64)
        totals = lengths.sum(axis=1)
        positions = first + np.cumsum(totals) - totals
        document = before + np.arange(len(totals))
        first, before = first + int(totals.sum()), before + len(totals)
        if data.objective.parts > 1:
            yield np.column_stack([positions, document, lengths]), 0
            continue
        pieces = -(-totals // data.window)
        which = np.repeat(np.arange(len(totals)), pieces)
        at = (np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces)) * data.window
        cuts = np.minimum(totals[which] - at, data.window)
        table = np.column_stack([positions[which] + at, document[which], cuts])
        # A cut that holds nothing but a document's EOS has no text.
        yield table[cuts > 1], int((pieces > 1).sum())


def _windows(files: Iterator[tuple[np.ndarray, int]]) -> Iterator[tuple[np.ndarray, int]]:
    """The same examples, `WINDOW` at a time."""
    held: list[np.ndarray] = []
    cut = 0
    for table, cut_here in files:
        held, cut = [*held, table], cut + cut_here
        while sum(map(len, held)) >= WINDOW:
            joined = np.concatenate(held)
            yield joined[:WINDOW], cut
            held, cut = [joined[WINDOW:]], 0
    if sum(map(len, held)):
        yield np.concatenate(held), cut


def _key(store: Store, data: config.Data) -> str:
    """The folder of the tables: runs share them if lengths and objective agree, as long as the documents are these."""
    wanted = [store.documents_hash, data.window, data.lengths, dataclasses.asdict(data.objective), data.pack]
    return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]


def _check_size(path: epath.Path, size: int) -> None:
    length = path.stat().length if path.exists() else 0
    if length != size:
        raise UserError(f"{path} has {length} bytes where its table.json has {size}: {REMEDY.format(path.parent)}.")
