"""The pack table: which documents, or which cuts of them, make up each row.

`prepare` computes it from the documents' lengths, so that a row of packed documents has a number like any other. For
each source and split there are two files of uint64: `.examples`, for each example its first token, the number of its
document and the tokens of each of its parts, in the order of the rows; and `.rows`, the first example of each row and,
last, their number.

Where an example's length depends on random choices (UL2's denoiser, the cut of a prefix, fill in the middle, the
sentences of a pair) it is those choices that are packed. They are drawn several times, and each drawing has an
arrangement of its own of all examples, one after the other in the same files: an epoch takes the next of them. Of many
examples there is one arrangement alone, since few runs see them more than once.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Int, Integer

from t5like import config
from t5like.data.files import write_whole
from t5like.data.packing.arrangement import Table, write_table
from t5like.data.store import REMEDY, SPLITS, Split, Store, TableEntry, fills, read_tables
from t5like.data.store.arrays import Array
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.json_files import sealed
from t5like.storage import is_remote

UINT64 = np.dtype("<u8")


class PackTable:
    """The rows of one source's split.

    Raises:
      UserError: the table is missing or damaged, as far as the sizes of its files tell.
    """

    def __init__(self, store: Store, data: config.Data, source: int, split: Split):
        folder = store.folder / "packs" / _key(store, data)
        tables: dict[str, TableEntry] = read_tables(folder)["tables"]
        if f"{source}-{split}" not in tables:
            raise UserError(f"{folder / 'table.json'} lacks {source}-{split}: {REMEDY.format(folder)}.")
        self.description = tables[f"{source}-{split}"]
        self.columns, self.drawings = 2 + data.parts, self.description.get("drawings", 1)
        self.rows, self.examples = self.description["rows"], self.description["examples"]
        numbers, ends = self.drawings * self.examples * self.columns, self.drawings * self.rows + 1
        if not is_remote(folder):
            _check_size(folder / f"{source}-{split}.examples", numbers * 8)
            _check_size(folder / f"{source}-{split}.rows", ends * 8)
        self._examples = Array(folder, [f"{source}-{split}.examples"], [numbers], UINT64, store.remote)
        self._starts = Array(folder, [f"{source}-{split}.rows"], [ends], UINT64, store.remote)

    def read(self, rows: Integer[np.ndarray, " rows"]) -> tuple[Table, Int[np.ndarray, " examples"]]:
        """First token, document and lengths of each example of the rows, and the index in `rows` of its row.

        Rows are numbered through all arrangements: row r of arrangement n is `n * self.rows + r`.
        """
        ends = self._starts.read(rows, np.full(len(rows), 2)).reshape(-1, 2).astype(np.int64)
        counts = np.diff(ends, axis=1)[:, 0]
        table = self._examples.read(ends[:, 0] * self.columns, counts * self.columns).astype(np.int64)
        return table.reshape(-1, self.columns), np.repeat(np.arange(len(rows)), counts)


def has_tables(store: Store, data: config.Data) -> bool:
    """True if the tables that the rows of `data` need are there."""
    return (store.folder / "packs" / _key(store, data) / "table.json").exists()


def make_tables(store: Store, data: config.Data, vocabulary: Vocabulary, report: Callable[[str], None]) -> None:
    """Write the tables that the rows of `data` need, unless they are there.

    Raises:
      UserError: no document has two sentences, where next-sentence prediction needs them.
    """
    if has_tables(store, data):
        return
    folder = store.folder / "packs" / _key(store, data)
    for partial in folder.glob("*.partial"):
        partial.unlink(missing_ok=True)
    tables: dict[str, TableEntry] = {}
    for source in range(len(data.sources)):
        for split in SPLITS:
            tables[f"{source}-{split}"] = write_table(store, data, vocabulary, source, split, folder)
    description = {"lengths": data.lengths, "objective": data.objective.kind, "pack": data.pack, "tables": tables}
    write_whole(folder / "table.json", sealed(json.dumps(description, indent=2)))
    report(f"Made {sum(table['rows'] for table in tables.values()):,} rows of the documents, {fill_of(description)}.")
    if (before := _key_before(store, data)) and (store.folder / "packs" / before / "table.json").exists():
        report(
            f"Rows of data.objective.kind={data.objective.kind!r} are made in another way than by earlier versions of "
            "t5like: a run that began with one of these goes on with other rows."
        )


def fill_of(description: Mapping[str, Any]) -> str:
    """The fill of each stack and, where it is below 95 % of another one's, what it could be if that one were full."""
    lengths = description["lengths"]
    shares = fills(description["tables"].values(), lengths)
    if len(shares) == 1:
        return f"filled to {shares[0]:.1%}"
    text = " and ".join(f"{stack} {share:.1%}" for stack, share in zip(lengths, shares, strict=True))
    scarcer = min(shares) / max(max(shares), 1e-9)
    return f"filled to {text}" + (f" (of {scarcer:.1%} that the lengths allow)" if scarcer < 0.95 else "")


def _key(store: Store, data: config.Data) -> str:
    """The folder of the tables: runs share them if lengths and objective agree, as long as the documents are these."""
    # The number is that of the way in which rows are made: another one makes other tables.
    return _hash_of(store, data, data.window, [2, data.seed] if data.draws_lengths else [])


def _key_before(store: Store, data: config.Data) -> str | None:
    """The folder of earlier versions' tables, which packed the most that random choices could make of a document."""
    if not data.draws_lengths:
        return None
    return _hash_of(store, data, dataclasses.replace(data, documents=False).window, [])


def _hash_of(store: Store, data: config.Data, window: int, more: list[int]) -> str:
    objective = dataclasses.asdict(data.objective)
    for name in ("words", "suffix_first_rate", "stack", "labels", "candidates"):  # which change no length
        del objective[name]
    if not (data.objective.spec.sentence_pairs and more):
        del objective["short_rate"]  # earlier versions did not know it
    wanted = [store.documents_hash, window, data.lengths, objective, data.pack, *more]
    return hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:16]


def _check_size(path: epath.Path, size: int) -> None:
    length = path.stat().length if path.exists() else 0
    if length != size:
        raise UserError(f"{path} has {length} bytes where its table.json has {size}: {REMEDY.format(path.parent)}.")
