"""Bytes of a source's files: through compression, from their encoding to UTF-8, whole or line by line.

A path may be local, at gs://, or wherever fsspec reads (`matching.opened`). Nothing here holds a file in memory: a file
is read in blocks, and a line or a document only grows to the limit that the source gives.
"""

import codecs
import contextlib
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from t5like.config import Source
from t5like.data.sources.compression import Parts, decompressed
from t5like.data.sources.faults import DamagedError
from t5like.data.sources.matching import Readable, opened, reached
from t5like.errors import UserError

BLOCK = 2**18
"""Bytes that are read at once."""
INVALID = b"\xff"
"""Stands for a sequence that another encoding does not have: no UTF-8 either, so that it is replaced and counted."""


class Line(NamedTuple):
    """A line of a file."""

    offset: int
    """Offset in bytes of the decompressed file in UTF-8."""
    content: bytes | None
    """Content without the line's end; None: it is longer than the limit."""


@contextlib.contextmanager
def open_binary(name: str, encoding: str = "utf-8") -> Iterator[Readable]:
    """Open a file wherever it lies, decompressed and in UTF-8."""
    with opened(name) as raw, decompressed(name, raw) as file:
        yield file if is_utf8(encoding) else io.BufferedReader(Parts(_transcoded(file, encoding)))


def is_utf8(encoding: str) -> bool:
    """True if files of an encoding are read as they are."""
    return codecs.lookup(encoding).name == "utf-8"


def _transcoded(file: Readable, encoding: str) -> Iterator[bytes]:
    """Bytes in another encoding as UTF-8; U+FFFD, and so what is invalid, as `INVALID`."""
    decode = codecs.getincrementaldecoder(encoding)("replace").decode
    ended = False
    while not ended:
        block = file.read(BLOCK)
        ended = not block
        text = decode(block, final=ended)
        yield text.encode("utf-8", "replace").replace("\ufffd".encode(), INVALID)


@contextlib.contextmanager
def readable(name: str, encoding: str = "utf-8") -> Iterator[Readable]:
    """`open_binary`, with a sentence for a file that is not there, cut short or damaged.

    Raises:
      DamagedError: its content is at fault.
      UserError: it cannot be opened.
    """
    with reached(name):
        try:
            with open_binary(name, encoding) as file:
                yield file
        except DamagedError as error:
            raise error if str(error).startswith(name) else _damaged(name, error) from None
        except (EOFError, OSError, lzma.LZMAError, zlib.error, zipfile.BadZipFile) as error:
            if reason := getattr(error, "strerror", None):
                raise UserError(f"{name} cannot be read: {reason}.") from None
            raise _damaged(name, error) from None


def _damaged(name: str, error: Exception) -> DamagedError:
    return DamagedError(f"{name} cannot be read: {' '.join(str(error).split()).rstrip('.')}.")


def read_whole(source: Source, name: str) -> bytes:
    """The content of a file.

    Raises:
      DamagedError: it has more than `most_bytes`, or is damaged.
      UserError: it cannot be read.
    """
    content = bytearray()
    with readable(name, source.encoding) as file:
        while block := file.read(min(2**20, source.most_bytes + 1 - len(content))):
            content += block
    if len(content) > source.most_bytes:
        raise DamagedError(
            f"{name} is longer than data.sources.N.most_bytes={source.most_bytes}: raise it, split the file, or set "
            "data.sources.N.document='line'."
        )
    return bytes(content)


def read_lines(source: Source, name: str, start: int, stop: int | None) -> Iterator[Line]:
    """The lines that begin in the bytes [start, stop) of a file, empty ones too.

    Offsets count decompressed bytes in UTF-8. Lines end with a line feed; carriage returns before it are no part of
    them. So cutting [0, size) into ranges, in any way, cuts the lines into the same lines.

    Raises:
      UserError: the file cannot be read.
    """
    with readable(name, source.encoding) as file:
        offset = start
        if start:
            file.seek(start - 1)
            offset = _next_line(file, start - 1, stop)
        pending, length = [], 0
        while stop is None or offset < stop:
            block = file.read(BLOCK)
            if not block:
                if length:
                    yield _line(offset, pending, length, source.most_bytes)
                return
            *whole, rest = block.split(b"\n")
            for line in whole:
                if length:
                    pending.append(line)
                    yield _line(offset, pending, length + len(line), source.most_bytes)
                    offset += length + len(line) + 1
                    pending, length = [], 0
                else:
                    yield Line(offset, line.rstrip(b"\r") if len(line) <= source.most_bytes else None)
                    offset += len(line) + 1
                if stop is not None and offset >= stop:
                    return
            length += len(rest)
            if length <= source.most_bytes:
                pending.append(rest)
            else:
                pending = []


def _line(offset: int, pending: list[bytes], length: int, most: int) -> Line:
    """The line of some blocks, which were not kept where it is too long."""
    return Line(offset, b"".join(pending).rstrip(b"\r") if length <= most else None)


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


def line_number(source: Source, name: str, offset: int) -> int:
    """The number of the line that begins at an offset, counted from 1, for errors."""
    lines, left = 1, offset
    with open_binary(name, source.encoding) as file:
        while left and (block := file.read(min(BLOCK, left))):
            lines += block.count(b"\n")
            left -= len(block)
    return lines


def line_of(source: Source, name: str, offset: int, behind: int = 0) -> str:
    """The place in a sentence of the line that begins at an offset, or of one so many lines behind it."""
    return f"{name}, line {line_number(source, name, offset) + behind},"
