"""Files of a source: which ones a glob names, and their bytes, through compression and line by line.

All of it goes through `etils.epath`, so a path may be local or at gs://. Nothing here holds a file in memory: a file
is read in blocks, and a line or a document only grows to the limit that the source gives.
"""

import contextlib
import glob
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Protocol, cast, runtime_checkable

from t5like.errors import UserError
from t5like.storage import etils_path

COMPRESSED = (".gz", ".xz", ".zst")
BLOCK = 2**18
"""Bytes that are read at once."""


@runtime_checkable
class Readable(Protocol):
    """An opened file; TensorFlow's files at gs:// have little more."""

    def read(self, size: int = -1, /) -> bytes: ...

    def seek(self, offset: int, /) -> int: ...


def matching_files(pattern: str, setting: str = "path") -> list[tuple[str, int]]:
    """The files that a path or glob names, sorted, with their sizes in bytes.

    Raises:
      UserError: there is none; `setting` is the field of the source that the pattern comes from.
    """
    path = etils_path(pattern)
    if path.is_file():
        paths = [path]
    elif "://" in pattern:
        root, *rest = re.split(r"/(?=[^/]*[*?\[])", pattern, maxsplit=1)
        paths = etils_path(root).glob(rest[0]) if rest else []
    else:
        paths = map(etils_path, glob.glob(str(path), recursive=True))
    files = sorted({(str(path), path.stat().length) for path in paths if path.is_file()})
    if not files:
        raise UserError(
            f"No file matches {pattern!r}: give data.sources.N.{setting} an existing file or a glob that matches."
        )
    return files


@contextlib.contextmanager
def open_binary(name: str) -> Iterator[Readable]:
    """Open a file wherever `etils.epath` can, through .gz, .xz and .zst."""
    with cast(IO[bytes], etils_path(name).open("rb")) as raw:
        match PurePosixPath(name).suffix:
            case ".gz":
                yield gzip.GzipFile(fileobj=raw)
            case ".xz":
                yield lzma.LZMAFile(raw)
            case ".zst":
                yield io.BufferedReader(_Zstandard(raw))
            case _:
                yield raw


@contextlib.contextmanager
def readable(name: str) -> Iterator[Readable]:
    """`open_binary`, with a sentence for a file that is not there, cut short or damaged."""
    try:
        with open_binary(name) as file:
            yield file
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name} cannot be read: {reason}.") from None


def read_whole(name: str, most: int) -> bytes:
    """The content of a file.

    Raises:
      UserError: it cannot be read, or has more than `most` bytes.
    """
    content = bytearray()
    with readable(name) as file:
        while block := file.read(min(2**20, most + 1 - len(content))):
            content += block
    if len(content) > most:
        raise UserError(
            f"{name} is longer than data.sources.N.most_bytes={most}: raise it, split the file, or set "
            "data.sources.N.document='line'."
        )
    return bytes(content)


def read_lines(name: str, start: int, stop: int | None, most: int) -> Iterator[tuple[int, bytes]]:
    """The lines that begin in the bytes [start, stop) of a file, each with its offset; empty ones are left out.

    Offsets count decompressed bytes. Lines end with a line feed; carriage returns before it are no part of them. So
    cutting [0, size) into ranges, in any way, cuts the lines into the same lines.

    Raises:
      UserError: the file cannot be read, or a line has more than `most` bytes.
    """
    with readable(name) as file:
        offset = start
        if start:
            file.seek(start - 1)
            offset = _next_line(file, start - 1, stop)
        pending: list[bytes] = []
        length = 0
        while stop is None or offset < stop:
            block = file.read(BLOCK)
            if not block:
                if pending:
                    yield offset, b"".join(pending).rstrip(b"\r")
                return
            *whole, rest = block.split(b"\n")
            for line in whole:
                if pending:
                    line = b"".join((*pending, line))
                    pending, length = [], 0
                if len(line) > most:
                    raise UserError(_too_long(name, offset, most))
                if line:
                    yield offset, line.rstrip(b"\r")
                offset += len(line) + 1
                if stop is not None and offset >= stop:
                    return
            if rest:
                pending.append(rest)
                length += len(rest)
                if length > most:
                    raise UserError(_too_long(name, offset, most))


def _next_line(file: Readable, position: int, stop: int | None) -> int:
    """Read from `position` to the first line feed and stay after it; the start of the next line, or `stop`."""
    while stop is None or position < stop:
        block = file.read(BLOCK)
        if not block:
            return position
        if (found := block.find(b"\n")) >= 0:
            file.seek(position + found + 1)
            return position + found + 1
        position += len(block)
    return position


def _too_long(name: str, offset: int, most: int) -> str:
    limit = f"data.sources.N.most_bytes={most}: raise it, or break the line"
    return f"{name}, line {line_number(name, offset)}, is longer than {limit}."


def line_number(name: str, offset: int) -> int:
    """The number of the line that begins at an offset, counted from 1, for errors."""
    lines, left = 1, offset
    with open_binary(name) as file:
        while left and (block := file.read(min(BLOCK, left))):
            lines += block.count(b"\n")
            left -= len(block)
    return lines


class _Zstandard(io.RawIOBase):
    """Decompressed text. zstandard's own reader has no lines, and takes a file that ends within a frame for whole."""

    def __init__(self, raw: IO[bytes]):
        self._parts, self._part = _decompress(raw), io.BytesIO()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        while not (count := self._part.readinto(buffer)):
            part = next(self._parts, None)
            if part is None:
                return 0
            self._part = io.BytesIO(part)
        return count


def _decompress(raw: IO[bytes]) -> Iterator[bytes]:
    import zstandard

    frame = None
    while compressed := raw.read(2**17):
        while compressed:
            frame = frame or zstandard.ZstdDecompressor().decompressobj()
            try:
                part = frame.decompress(compressed)
            except zstandard.ZstdError as error:
                raise OSError(str(error)) from None
            yield part
            compressed = frame.unused_data
            frame = None if frame.eof else frame
    if frame:
        raise EOFError("Compressed file ended before the end-of-stream marker was reached")
