"""Tokenised documents on disk, read by position.

A store is a folder:

    plan.json             what it is made from: sources, filters, learned pieces, share held out
    vocabulary/           the learned pieces
    train/00000.bin       tokens of the documents of unit 0, each part closed by EOS; little-endian uint16 or uint32
    train/00000.documents for each of these documents: tokens of each part, file of the unit, record in the file; uint64
    validation/...        the same for the documents of the validation split
    packs/<key>/          which documents make up which row, for runs whose rows are made of documents (pack_table.py)
    dropped.jsonl         the documents that filters dropped, with reasons and, of duplicates, the one that stayed
    manifest.json         counts, hashes and the identity of inputs, written last: a store without it is not finished

The tokens of a source's split are those of its files one after the other.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NotRequired, TypedDict, cast

import numpy as np
from etils import epath
from jaxtyping import UInt64

from t5like.data.store import forms
from t5like.data.store.arrays import Array
from t5like.errors import UserError
from t5like.json_files import read_object
from t5like.storage import inside, is_remote

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
REMEDY = "delete the folder {} and run the same command again"
"""Remedy of a damaged pack table."""
VERIFIED = 2**28
"""Bytes up to which the files of a local store are hashed before they are used; larger ones on request."""


class TableEntry(TypedDict):
    """The description of one pack table, of a source's split, in `table.json`; counts are those of one drawing."""

    drawings: NotRequired[int]
    sorted: NotRequired[int]
    """Pairs of sentences that were sorted together."""
    examples: int
    rows: int
    cut: int
    """Documents or sentences that had to be cut."""
    tokens: list[int]
    """Tokens of all drawings in each stack."""
    sha256: list[str]


class Store:
    """A finished store.

    Raises:
      UserError: it is not finished, or a file is missing or has another size than the manifest says.
    """

    def __init__(self, folder: epath.Path, remote: bool = False):
        manifest = read_manifest(folder)
        if manifest is None:
            raise UserError(f"The store {folder} is not finished: run `t5like prepare`.")
        self.folder, self.manifest, self.remote = folder, manifest, remote
        self.kind = np.dtype(manifest["dtype"])
        files = list(self._files())
        if not is_remote(folder):
            self._check_sizes(files)

    def _check_sizes(self, files: Iterable[tuple[Split, str, int, str]]) -> None:
        # A folder is listed at once: there may be thousands of files.
        folders = [(split, self.folder / split) for split in SPLITS if (self.folder / split).exists()]
        lengths = {(split, file.name): file.stat().st_size for split, path in folders for file in os.scandir(path)}
        for split, name, size, _ in files:
            if (length := lengths.get((split, name), 0)) != size:
                raise UserError(
                    f"{self.folder / split / name} has {length} bytes where the manifest has {size}: "
                    "delete the store and prepare it again."
                )

    def tokens(self, source: int, split: Split) -> Array:
        """The tokens of a source's split."""
        files = self.files(source, split)
        names = [file["name"] for file in files]
        return Array(self.folder / split, names, [file["tokens"] for file in files], self.kind, self.remote)

    def files(self, source: int, split: Split) -> list[dict[str, Any]]:
        return self.manifest["sources"][source]["splits"][split]["files"]

    def documents(self, source: int, split: Split, file: int) -> UInt64[np.ndarray, "documents columns"]:
        """The table of one file's documents: tokens of each part, file of the unit, record in that file."""
        entry = self.files(source, split)[file]
        content = (self.folder / split / documents_name(entry["name"])).read_bytes()
        return np.frombuffer(content, "<u8").reshape(entry["documents"], self.manifest["sources"][source]["parts"] + 2)

    def document_tables(
        self, source: int, split: Split, most: int
    ) -> Iterator[UInt64[np.ndarray, "documents columns"]]:
        """The tables of all files one after the other, at most so many documents at a time."""
        columns = self.manifest["sources"][source]["parts"] + 2
        files = self.files(source, split)
        names = [documents_name(file["name"]) for file in files]
        counts = [file["documents"] * columns for file in files]
        table = Array(self.folder / split, names, counts, np.dtype("<u8"), self.remote)
        for start in range(0, table.size, most * columns):
            length = min(most * columns, table.size - start)
            yield table.read(np.array([start]), np.array([length])).reshape(-1, columns)

    @functools.cached_property
    def documents_hash(self) -> str:
        """A hash of the tables of all documents."""
        hashes = [sha256 for _, name, _, sha256 in self._files() if name.endswith(".documents")]
        return hashlib.sha256("".join(hashes).encode()).hexdigest()

    @functools.cached_property
    def hash(self) -> str:
        """A hash of all that rows are made of: the vocabulary, and the tokens and documents of each source's splits in
        their order, wherever the store and its sources lie."""
        splits = [source["splits"][split]["files"] for source in self.manifest["sources"] for split in SPLITS]
        content = [[(file["sha256"], file["documents_sha256"]) for file in files] for files in splits]
        return hashlib.sha256(json.dumps([self.manifest["vocabulary_sha256"], content]).encode()).hexdigest()

    def documents_between(self, source: int, split: Split, first: int, last: int) -> Iterator[str]:
        """The ids, file and record, of the documents that the tokens from `first` to `last` belong to."""
        starts = self.tokens(source, split).starts
        number = int(np.searchsorted(starts, first, side="right")) - 1
        while number < len(starts) - 1 and starts[number] <= last:
            table = self._documents(source, split, number)
            ends = starts[number] + np.cumsum(table[:, :-2].sum(axis=1)).astype(np.int64)
            begin, stop = np.searchsorted(ends, [first, last], side="right")
            for row in table[begin : stop + 1]:
                yield f"{self.files(source, split)[number]['read'][int(row[-2])]}#{int(row[-1])}"
            number += 1

    @functools.cached_property
    def _documents(self) -> Any:
        return functools.lru_cache(maxsize=16)(self.documents)

    def verify(self) -> Iterator[str]:
        """A sentence for each file of documents, and of pack tables, whose content is not the one that was written."""
        for split, name, _, sha256 in self._files():
            path = self.folder / split / name
            if not _is_content(path, sha256):
                yield f"{path} has changed since it was written: delete the store and prepare it again."
        for described in (self.folder / "packs").glob("*/table.json"):
            try:
                tables = read_tables(described.parent)["tables"]
            except UserError as error:
                yield str(error)
                continue
            for name, table in tables.items():
                for kind, sha256 in zip(("examples", "rows"), table["sha256"], strict=True):
                    path = described.parent / f"{name}.{kind}"
                    if not _is_content(path, sha256):
                        yield f"{path} has changed since it was written: {REMEDY.format(described.parent)}."

    def remove_others(self) -> None:
        """Remove files of units that the store does not have any more."""
        names = {(split, name) for split, name, _, _ in self._files()}
        for split in SPLITS:
            for path in (self.folder / split).glob("*"):
                if (split, path.name) not in names and path.suffix in (".bin", ".documents"):
                    path.unlink(missing_ok=True)

    @property
    def bytes(self) -> int:
        return sum(size for _, _, size, _ in self._files())

    def _files(self) -> Iterator[tuple[Split, str, int, str]]:
        """Split, name, size in bytes and SHA-256 of every file of tokens and of documents.

        Raises:
          UserError: a name leads out of the folder.
        """
        for source in self.manifest["sources"]:
            columns = source["parts"] + 2
            for split in SPLITS:
                for file in source["splits"][split]["files"]:
                    name = inside(file["name"], self.folder / "manifest.json")
                    yield split, name, file["tokens"] * self.kind.itemsize, file["sha256"]
                    yield split, documents_name(name), file["documents"] * columns * 8, file["documents_sha256"]


def documents_name(name: str) -> str:
    """The name of the table that belongs to a file of tokens."""
    return name.removesuffix(".bin") + ".documents"


def token_type(pieces: int) -> np.dtype:
    """The smallest type that holds every learned piece."""
    return np.dtype("<u2" if pieces <= 2**16 else "<u4")


def read_manifest(store: epath.Path) -> dict[str, Any] | None:
    """The manifest of a finished store, None where there is none.

    Raises:
      UserError: the manifest is damaged, or of another version of t5like.
    """
    path = store / "manifest.json"
    if not path.exists():
        return None
    remedy = f"delete {store} and prepare it again, if it is not of another version of t5like"
    return read_object(path, forms.Manifest, remedy)


def read_tables(folder: epath.Path) -> dict[str, Any]:
    """The description of the pack tables in a folder: `table.json`, whose `tables` are `TableEntry`s by name.

    Raises:
      UserError: it is missing or damaged.
    """
    path = folder / "table.json"
    described = read_object(path, forms.Tables, REMEDY.format(folder))
    for name, table in described["tables"].items():
        inside(name, path)
        if len(table["tokens"]) != len(described["lengths"]):
            raise UserError(f"{path} is damaged ({name} has other stacks than it): {REMEDY.format(folder)}.")
    return described


def fills(tables: Iterable[TableEntry], lengths: Mapping[str, int]) -> list[float]:
    """The share of positions that the rows of pack tables fill in each stack, by what `table.json` says."""
    tables = list(tables)
    rows = sum(table.get("drawings", 1) * table["rows"] for table in tables)
    tokens = [sum(counts) for counts in zip(*(table["tokens"] for table in tables), strict=True)]
    return [count / max(rows * length, 1) for count, length in zip(tokens, lengths.values(), strict=True)]


def _is_content(path: epath.Path, sha256: str) -> bool:
    """True if a file is there and has that SHA-256."""
    if not path.exists():
        return False
    with cast(Any, path.open("rb")) as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
