"""Readers of text: whole files, lines, paragraphs, JSON lines and JSON. Each yields rows of a file or of a range."""

import codecs
import functools
import json
from collections.abc import Iterator
from typing import Any

from t5like.config import Source
from t5like.data.sources.encoding import decode
from t5like.data.sources.files import BLOCK, Line, line_of, read_lines, read_whole, readable
from t5like.data.sources.matching import Readable
from t5like.data.sources.records import Row, Wanted, too_long

SPACES = " \t\r\n"


def read_text(source: Source, name: str, start: int, stop: int | None, wanted: Wanted) -> Iterator[Row]:
    """A file, or the lines or paragraphs that begin in its bytes [start, stop)."""
    match source.document:
        case "file":
            lines = iter([Line(0, read_whole(source, name))])
        case "line":
            lines = read_lines(source, name, start, stop)
        case "paragraph":
            lines = paragraphs(source, name, start, stop)
    return _decoded(source, name, lines, wanted.fields[0] if len(wanted.fields) == 1 else "text")


def read_json_lines(source: Source, name: str, start: int, stop: int | None, wanted: Wanted) -> Iterator[Row]:
    """The JSON objects in the lines that begin in the bytes [start, stop); those of an array where that is all."""
    if not start and stop is None and is_array(source, name):
        yield from read_json(source, name, start, stop, wanted)
        return
    for row in _decoded(source, name, read_lines(source, name, start, stop), ""):
        if row.problem:
            yield row
        elif text := row.values[""].strip():
            try:
                values, problem = json.loads(text), ""
            except (ValueError, RecursionError) as error:
                values, problem = {}, _no_json(error)
            yield _checked(row, values, problem)


def is_array(source: Source, name: str) -> bool:
    """True if a file begins as a JSON array does, and not with an array of its own in the first line."""
    with readable(name, source.encoding) as file:
        head = file.read(BLOCK).removeprefix(codecs.BOM_UTF8).lstrip()
    return head[:1] == b"[" and head[1:].lstrip()[:1] in (b"{", b"]", b"")


def read_json(source: Source, name: str, start: int, stop: int | None, wanted: Wanted) -> Iterator[Row]:
    """The objects of a JSON array, or those that follow one another; what is damaged ends the file."""
    number = 0
    with readable(name, source.encoding) as file:
        for line, whole, damage in _values(file, source):
            for values, problem in [(whole, damage)] if damage else _listed(whole, source.records):
                where = functools.partial("{}, line {}, record {},".format, name, line, number)
                yield _checked(Row(number, {}, where), values, problem)
                number += 1


def _listed(value: Any, path: str) -> Iterator[tuple[Any, str]]:
    """The records in the lists that a path leads to, each with the fields that stand beside these; or a problem.

    For example `a.b` in {"a": [{"n": 1, "b": [{"m": 2}, {"m": 3}]}]} has {"n": 1, "m": 2} and {"n": 1, "m": 3}.
    """
    if not path:
        yield value, ""
        return
    name, _, rest = path.partition(".")
    inner = value.get(name) if isinstance(value, dict) else None
    if not isinstance(inner, list):
        yield {}, f"has no list {name!r}, which data.sources.N.records names."
        return
    beside = {field: each for field, each in value.items() if field != name}
    for each in inner:
        yield from _listed(beside | each if isinstance(each, dict) else each, rest)


def _checked(row: Row, values: Any, problem: str) -> Row:
    """The row with the values of a JSON object, or with the problem that it has none."""
    if not problem and not isinstance(values, dict):
        problem = "is no JSON object with named fields."
    return row._replace(problem=problem) if problem else row._replace(values=values)


def _no_json(error: Exception) -> str:
    reason = error.msg.removesuffix(" starting at") if isinstance(error, json.JSONDecodeError) else error
    return f"is not JSON: {reason}."


def _decoded(source: Source, name: str, lines: Iterator[Line], field: str) -> Iterator[Row]:
    """A row for each line that is not empty, with its text in a field; too long a line is a problem."""
    for offset, raw in lines:
        if raw:
            text, invalid = decode(raw if offset else raw.removeprefix(codecs.BOM_UTF8))
            yield Row(offset, {field: text}, functools.partial(line_of, source, name, offset), invalid)
        elif raw is None:
            problem = f"{too_long(source)}: raise it, or break the line."
            yield Row(offset, {}, functools.partial(line_of, source, name, offset), problem=problem)


def paragraphs(source: Source, name: str, start: int, stop: int | None) -> Iterator[Line]:
    """The lines between blank lines, joined, each run where it begins.

    A range has the paragraphs behind the blank lines that begin in it, and the first the beginning of the file, so
    that any cutting of a file gives the same paragraphs.
    """
    inside, first, length = not start, 0, 0
    pending: list[bytes] = []
    for offset, raw in read_lines(source, name, start, None):
        if raw is not None and not raw.strip():
            if length:
                yield _joined(source, first, pending, length)
            pending, length, inside = [], 0, True
            if stop is not None and offset >= stop:
                return
        elif inside:
            first = first if length else offset
            length += source.most_bytes + 2 if raw is None else len(raw) + 1
            pending.append(raw or b"")
            if length > source.most_bytes + 1:
                pending.clear()
    if length:
        yield _joined(source, first, pending, length)


def _joined(source: Source, first: int, lines: list[bytes], length: int) -> Line:
    """The paragraph of some lines, with the line feeds that end them of so many bytes."""
    return Line(first, b"\n".join(lines) if length <= source.most_bytes + 1 else None)


class _Text:
    """The text of a file from a position on, of which there is always some more than one block."""

    def __init__(self, file: Readable):
        self._file, self._decode = file, codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self.text, self.position, self.ended = "", 0, False
        self._lines, self._counted = 1, 0
        self.more()
        self.text = self.text.removeprefix("\ufeff")

    def more(self) -> None:
        """Forget what is before the position, and read as much again as is kept."""
        self._lines, self._counted = self.line, 0
        kept = self.text[self.position :]
        block = self._file.read(max(BLOCK, len(kept)))
        self.text, self.position, self.ended = kept + self._decode(block, not block), 0, not block

    def peek(self, skipped: str) -> str:
        """Skip characters and return the next one; empty at the end."""
        while True:
            while self.position < len(self.text) and self.text[self.position] in skipped:
                self.position += 1
            if self.position < len(self.text) or self.ended:
                return self.text[self.position : self.position + 1]
            self.more()

    @property
    def line(self) -> int:
        """The number of the line of the position, counted from 1."""
        self._lines += self.text.count("\n", self._counted, self.position)
        self._counted = self.position
        return self._lines


def _values(file: Readable, source: Source) -> Iterator[tuple[int, Any, str]]:
    """The line, value and problem of each value in an array, or of those that follow one another.

    Bytes that are no UTF-8 come as halves of surrogate pairs, as JSON can hold them too.
    """
    text, decoder = _Text(file), json.JSONDecoder()
    array = text.peek(SPACES) == "["
    text.position += array
    while (character := text.peek(SPACES + ",")) and not (array and character == "]"):
        try:
            value, end = decoder.raw_decode(text.text, text.position)
        except (ValueError, RecursionError) as error:
            left = len(text.text) - text.position
            if not text.ended and left <= source.most_bytes and _is_cut(error, len(text.text)):
                text.more()
                continue
            yield text.line, {}, _no_json(error) if left <= source.most_bytes else f"{too_long(source)}: raise it."
            return
        if end == len(text.text) and not text.ended:
            text.more()
            continue
        yield text.line, value, ""
        text.position = end
    text.position += bool(character)
    if array and not character:
        yield text.line, {}, "is not JSON: the array has no end."
    elif text.peek(SPACES):
        yield text.line, {}, "is not JSON: there is more behind the end of the array."


def _is_cut(error: Exception, length: int) -> bool:
    """True if a value may be one once more of it has been read."""
    return isinstance(error, json.JSONDecodeError) and (error.msg.startswith("Unterminated") or error.pos > length - 16)
