"""Compressed files: which compression a name or the first bytes tell of, and the bytes within."""

import bz2
import contextlib
import gzip
import io
import lzma
import zipfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, cast

from t5like.config.sources import COMPRESSED
from t5like.data.sources.faults import DamagedError
from t5like.data.sources.matching import Readable
from t5like.errors import UserError

MAGIC = {
    b"\x1f\x8b": ".gz",
    b"\xfd7zXZ\x00": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"PK\x03\x04": ".zip",
    **{b"BZh%d%b" % (level, block): ".bz2" for level in range(1, 10) for block in (b"1AY&SY", b"\x17rE8P\x90")},
}
"""First bytes of compressed files; those of bz2 are of a block, or of the end of an empty file."""
WINDOW = 2**31
"""Largest window that zstd's format has in use (`zstd --long=31`); memory is taken only where a frame needs it."""


def compression_of(name: str, head: bytes) -> str:
    """The compression of a file, one of `COMPRESSED`: that of its name, otherwise that of its first bytes, or none."""
    suffix = PurePosixPath(name.lower()).suffix
    if suffix in COMPRESSED:
        return suffix
    return next((found for magic, found in MAGIC.items() if head.startswith(magic)), "")


@contextlib.contextmanager
def decompressed(name: str, raw: Readable) -> Iterator[Readable]:
    """The bytes within a file, read bit by bit, or the file itself where it is not compressed.

    Raises:
      UserError: it is a zip archive of several files, or of none.
    """
    head = raw.read(16)
    raw.seek(0)
    match compression_of(name, head):
        case ".gz":
            yield gzip.GzipFile(fileobj=cast(IO[bytes], raw))
        case ".bz2":
            yield bz2.BZ2File(cast(IO[bytes], raw))
        case ".xz":
            yield lzma.LZMAFile(cast(IO[bytes], raw))
        case ".zst":
            yield io.BufferedReader(Parts(_zstandard(raw)))
        case ".zip":
            with _only_member(name, raw) as file:
                yield file
        case _:
            yield raw


class Parts(io.RawIOBase):
    """A file of bytes that come in parts."""

    def __init__(self, parts: Iterator[bytes]):
        self._parts, self._part = parts, io.BytesIO()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        while not (count := self._part.readinto(buffer)):
            part = next(self._parts, None)
            if part is None:
                return 0
            self._part = io.BytesIO(part)
        return count


def _zstandard(raw: Readable) -> Iterator[bytes]:
    """Decompressed bytes. zstandard's own reader takes a file that ends within a frame for whole."""
    import zstandard

    frame = None
    while compressed := raw.read(2**17):
        while compressed:
            frame = frame or zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()
            try:
                part = frame.decompress(compressed)
            except zstandard.ZstdError as error:
                raise DamagedError(f"{error}") from None
            yield part
            compressed = frame.unused_data
            frame = None if frame.eof else frame
    if frame:
        raise EOFError("Compressed file ended before the end-of-stream marker was reached")


@contextlib.contextmanager
def _only_member(name: str, raw: Readable) -> Iterator[Readable]:
    """The only file of a zip archive; what macOS adds does not count."""
    with zipfile.ZipFile(cast(IO[bytes], raw)) as archive:
        members = [
            member
            for member in archive.infolist()
            if not member.is_dir() and not member.filename.startswith("__MACOSX/")
        ]
        if len(members) != 1:
            raise UserError(
                f"{name} is a zip archive of {len(members)} files: unpack it and give the files in it; an archive of "
                "one file is read."
            )
        try:
            with archive.open(members[0]) as file:
                yield file
        except (RuntimeError, NotImplementedError) as error:  # a password, a method that Python does not have
            raise UserError(f"{name} cannot be read: {str(error).rstrip('.')}.") from None
