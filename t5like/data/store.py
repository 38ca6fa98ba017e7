"""Tokenised documents on disk, read by position.

A store is a folder:

    plan.json             what it is made from: sources, filters, learned pieces, share held out
    vocabulary/           the learned pieces
    train/00000.bin       tokens of the documents of unit 0, each part closed by EOS; little-endian uint16 or uint32
    train/00000.documents for each of these documents: tokens of each part, file of the unit, record in the file; uint64
    validation/...        the same for held-out documents
    packs/<key>/          which documents make up which row, for runs whose rows are made of documents
    manifest.json         counts and hashes, written last: a store without it is not finished

The tokens of a source's split are those of its files one after the other.
"""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any, Literal, cast

import numpy as np
from etils import epath
from jaxtyping import UInt64

from t5like.data.arrays import Array, is_remote
from t5like.errors import UserError

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")
FORMAT = 2
VERIFIED = 2**28
"""Bytes up to which the files of a local store are hashed before they are used; larger ones on request."""


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
        if not is_remote(folder):
            for path, size, _ in self._files():
                length = path.stat().length if path.exists() else 0
                if length != size:
                    raise UserError(
                        f"{path} has {length} bytes where the manifest has {size}: "
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
        """A sentence for each file whose content is not the one that was written."""
        for path, _, sha256 in self._files():
            with cast(Any, path.open("rb")) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    yield f"{path} has changed since it was written: delete the store and prepare it again."

    @property
    def bytes(self) -> int:
        return sum(size for _, size, _ in self._files())

    def _files(self) -> Iterator[tuple[epath.Path, int, str]]:
        """Path, size in bytes and SHA-256 of every file of tokens and of documents."""
        for source in self.manifest["sources"]:
            columns = source["parts"] + 2
            for split in SPLITS:
                for entry in source["splits"][split]["files"]:
                    path = self.folder / split / entry["name"]
                    yield path, entry["tokens"] * self.kind.itemsize, entry["sha256"]
                    documents = path.parent / documents_name(entry["name"])
                    yield documents, entry["documents"] * columns * 8, entry["documents_sha256"]


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
    try:
        manifest = json.loads(path.read_text())
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path} is damaged or of another version of t5like: delete {store} and prepare it again.")
    return manifest


class WholeFile:
    """A file that is written bit by bit and appears whole at `close`, which returns its SHA-256, or not at all.

    Its partial name holds the process, so that two processes that write the same file do not meet.
    """

    def __init__(self, path: epath.Path):
        self.path, self._partial = path, path.parent / f"{path.name}.{os.getpid()}.partial"
        self._hash = hashlib.sha256()
        with self._sentences():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = cast(IO[bytes], self._partial.open("wb"))

    def __enter__(self) -> "WholeFile":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leaves no partial file behind."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        self._hash.update(content)
        with self._sentences():
            self._file.write(content)

    def close(self) -> str:
        with self._sentences():
            self._file.close()
            self._partial.replace(self.path)
        return self._hash.hexdigest()

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turns an error of the system into a sentence."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written: {error.strerror or error}; "
                "once that is mended, the same command goes on from where it stopped."
            ) from None


def write_whole(path: epath.Path, content: bytes) -> str:
    """Writes a file whole or not at all and returns its SHA-256.

    Raises:
      UserError: the disk is full, or the folder cannot be written.
    """
    with WholeFile(path) as file:
        file.write(content)
        return file.close()
