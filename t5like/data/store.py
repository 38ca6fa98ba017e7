"""Tokenised documents on disk, read by position.

A store is a folder:

    plan.json         what it is made from: sources, learned pieces, share held out
    vocabulary/       the learned pieces
    train/00000.bin   tokens of the documents of unit 0, each closed by EOS; little-endian uint16 or uint32
    validation/...    the same for held-out documents
    manifest.json     counts and hashes, written last: a store without it is not finished

A split is the tokens of its files one after the other. Files are memory-mapped, so that a window costs one copy.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from etils import epath
from jaxtyping import Int

from t5like.errors import UserError

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = ("train", "validation")


@dataclass(frozen=True)
class Tokens:
    """The tokens of one split: `files` one after the other, file n from token `starts[n]` on."""

    files: tuple[np.ndarray, ...]
    starts: np.ndarray

    @property
    def size(self) -> int:
        return int(self.starts[-1])

    def windows(self, positions: Int[np.ndarray, " rows"], length: int) -> Int[np.ndarray, "rows length"]:
        """`length` tokens from each position on, which may run over the end of a file."""
        windows = np.empty((len(positions), length), np.int32)
        first = np.searchsorted(self.starts, positions, side="right") - 1
        for row, position, number in zip(windows, positions.tolist(), first.tolist(), strict=True):
            filled = 0
            while filled < length:
                at = position + filled - int(self.starts[number])
                part = self.files[number][at : at + length - filled]
                row[filled : filled + len(part)] = part
                filled, number = filled + len(part), number + 1
        return windows

    def counts(self, pieces: int, most: int = 2**26) -> Int[np.ndarray, " pieces"]:
        """How often each piece occurs among the first `most` tokens."""
        counts, left = np.zeros(pieces, np.int64), most
        for file in self.files:
            counts += np.bincount(file[:left], minlength=pieces)[:pieces]
            left -= min(left, len(file))
        return counts


def token_type(pieces: int) -> np.dtype:
    """The smallest type that holds every learned piece."""
    return np.dtype("<u2" if pieces <= 2**16 else "<u4")


def open_tokens(store: epath.Path, split: Split) -> Tokens:
    """The tokens of a split of a finished store.

    Raises:
      UserError: the store is not finished, or a file has another size than the manifest says.
    """
    manifest = read_manifest(store)
    if manifest is None:
        raise UserError(f"The store {store} is not finished: run `t5like prepare`.")
    kind, files = np.dtype(manifest["dtype"]), []
    for entry in manifest["splits"][split]["files"]:
        path = store / split / entry["name"]
        length = path.stat().length if path.exists() else 0
        if length != entry["tokens"] * kind.itemsize:
            raise UserError(
                f"{path} has {length} bytes where the manifest has {entry['tokens'] * kind.itemsize}: "
                "delete the store and prepare it again."
            )
        files.append(np.asarray(np.memmap(path, kind, "r")))
    starts = np.cumsum([0, *map(len, files)], dtype=np.int64)
    return Tokens(tuple(files), starts)


def read_manifest(store: epath.Path) -> dict[str, Any] | None:
    """The manifest of a finished store, None where there is none."""
    path = store / "manifest.json"
    return json.loads(path.read_text()) if path.exists() else None


def write_whole(path: epath.Path, content: bytes) -> str:
    """Writes a file whole or not at all and returns its SHA-256.

    Raises:
      UserError: the disk is full, or the folder cannot be written.
    """
    partial = path.parent / f"{path.name}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror or error}; "
            "once that is mended, the same command goes on from where it stopped."
        ) from None
    return hashlib.sha256(content).hexdigest()
