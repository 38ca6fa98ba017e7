"""Documents, from where they are kept.

A source is cut into units, groups of files that are read one after the other; a unit is what one worker prepares.
Reading a unit is a pure function of its files. Text is decoded as UTF-8; bytes that are none become U+FFFD and are
counted, so that a broken file is reported and not lost.
"""

import ast
import builtins
import contextlib
import glob
import gzip
import importlib
import io
import json
import lzma
import pydoc
import re
import sys
import sysconfig
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from t5like.config import Source
from t5like.errors import UserError

UNIT_BYTES = 2**21
SKIPPED = {
    "test",
    "tests",
    "site-packages",
    "dist-packages",
    "idlelib",
    "encodings",
    "lib2to3",
    "turtledemo",
    "_bundled",
}


@dataclass(frozen=True)
class Document:
    """A raw text. Documents of one `group` lie on the same side of the split into training and held-out text."""

    text: str
    group: str
    invalid: int = 0
    """Sequences that were no UTF-8, each of which is now U+FFFD."""


def units(source: Source) -> list[tuple[str, ...]]:
    """The source's files in groups of about 2 MiB, in a fixed order.

    Raises:
      UserError: no file matches.
    """
    files = _library_files() if source.kind == "python_library" else _matching_files(source.path)
    groups: list[list[str]] = [[]]
    size = 0
    for name, length in files:
        if groups[-1] and size + length > UNIT_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += length
    return [tuple(group) for group in groups]


def read(source: Source, unit: Iterable[str]) -> Iterator[Document]:
    """The documents of a unit; those without any visible character are left out."""
    reader = {"python_library": _read_library, "text": _read_text, "jsonl": _read_json_lines}[source.kind]
    for name in unit:
        for document in reader(source, name):
            if document.text.strip():
                yield document


@contextlib.contextmanager
def open_binary(name: str) -> Iterator[IO[bytes]]:
    """Opens a file wherever `etils.epath` can, through .gz, .xz and .zst."""
    from etils import epath

    with cast(IO[bytes], epath.Path(name).open("rb")) as raw:
        match PurePosixPath(name).suffix:
            case ".gz":
                yield cast(IO[bytes], gzip.GzipFile(fileobj=raw))
            case ".xz":
                yield lzma.LZMAFile(raw)
            case ".zst":
                yield io.BufferedReader(_Zstandard(raw))
            case _:
                yield raw


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


def _matching_files(pattern: str) -> list[tuple[str, int]]:
    from etils import epath

    path = epath.Path(pattern).expanduser()
    if path.is_file():
        paths = [path]
    elif "://" in pattern:
        root, *rest = re.split(r"/(?=[^/]*[*?\[])", pattern, maxsplit=1)
        paths = epath.Path(root).glob(rest[0]) if rest else []
    else:
        paths = map(epath.Path, glob.glob(str(path), recursive=True))
    files = sorted({(str(path), path.stat().length) for path in paths if path.is_file()})
    if not files:
        raise UserError(
            f"No file matches {pattern!r}: give data.sources.N.path an existing file or a glob that matches."
        )
    return files


def _decode(raw: bytes) -> tuple[str, int]:
    text = raw.decode("utf-8", errors="replace")
    return text, text.count("\ufffd") - raw.count("\ufffd".encode())


def _read_text(source: Source, name: str) -> Iterator[Document]:
    for raw in _whole_or_lines(name, source.document == "line"):
        text, invalid = _decode(raw)
        yield Document(text, text, invalid)


def _whole_or_lines(name: str, lines: bool) -> Iterator[bytes]:
    try:
        with open_binary(name) as file:
            if lines:
                yield from (line.rstrip(b"\r\n") for line in file)
            else:
                yield file.read()
    except (EOFError, OSError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{name} cannot be read: {error}.") from None


def _read_json_lines(source: Source, name: str) -> Iterator[Document]:
    for number, raw in enumerate(_whole_or_lines(name, lines=True), 1):
        line, invalid = _decode(raw)
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{name}, line {number}, is not JSON: {error.msg}.") from None
        fields = list(record) if isinstance(record, dict) else []
        if not isinstance(record, dict) or not isinstance(record.get(source.field), str):
            raise UserError(
                f"{name}, line {number}, has no text field {source.field!r}; it has {', '.join(fields) or 'none'}: "
                "set data.sources.N.field."
            )
        text, lone = re.subn("[\ud800-\udfff]", "\ufffd", record[source.field])
        yield Document(text, text, invalid + lone)


def _library_files() -> list[tuple[str, int]]:
    """Python's own modules, without tests and tables, and the pydoc topics; relative to the library's folder."""
    root = _library_root()
    paths = (path for path in root.rglob("*.py") if not SKIPPED & set(path.relative_to(root).parts))
    files = sorted((path.relative_to(root).as_posix(), path.stat().st_size) for path in paths)
    if not files:
        raise UserError(f"Python's library at {root} has no source files; use a source of text or jsonl.")
    return files


def _library_root() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _read_library(source: Source, name: str) -> Iterator[Document]:
    """A module's source, then its docstrings as prose; the topics of `help()` and the built-in docstrings once."""
    if name == "pydoc_data/topics.py":
        topics = importlib.import_module("pydoc_data.topics").topics
        yield from (Document(topics[key], f"topic {key}") for key in sorted(topics))
        yield from _builtin_docstrings()
        return
    text, invalid = _decode((_library_root() / name).read_bytes())
    yield Document(text, name, invalid)
    yield Document(_docstrings(text), name)


def _docstrings(text: str) -> str:
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return ""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return "\n\n".join(docstring for docstring in found if docstring)


def _builtin_docstrings() -> Iterator[Document]:
    for name in sorted({"builtins", *sys.builtin_module_names} - {"__main__"}):
        module = builtins if name == "builtins" else importlib.import_module(name)
        members = (getattr(module, member) for member in sorted(dir(module)) if not member.startswith("_"))
        prose = [pydoc.getdoc(value) for value in (module, *members) if isinstance(getattr(value, "__doc__", 0), str)]
        yield Document("\n\n".join(dict.fromkeys(filter(None, prose))), f"built-in {name}")
