"""Readers of CSV and TSV, whose rows are named by a header line, by the source, or by their numbers."""

import codecs
import csv
import functools
import itertools
from collections.abc import Iterator, Sequence

from t5like.config import Source
from t5like.data.sources.encoding import decode
from t5like.data.sources.files import line_number, read_lines
from t5like.data.sources.records import Row, too_long, unknown_field
from t5like.errors import UserError

DELIMITERS = "\t|;,"
"""Characters that may stand between columns, those that prose has least first."""
LINES = 10
"""Lines that tell which one does."""
SHOWN = 30
"""Characters of a cell in an error."""


def has_quotes(source: Source, kind: str) -> bool:
    """True if fields may stand in quotes and hold line feeds, so that a file cannot be cut between lines."""
    return kind == "csv" if source.quotes is None else source.quotes


def read_csv(source: Source, name: str, start: int, stop: int | None) -> Iterator[Row]:
    """The rows of a CSV file."""
    delimiter = source.delimiter or _delimiter(source, _first_lines(source, name, LINES))
    return _table(source, name, start, stop, delimiter, has_quotes(source, "csv"))


def read_tsv(source: Source, name: str, start: int, stop: int | None) -> Iterator[Row]:
    """The rows of a TSV file, or those that begin in its bytes [start, stop)."""
    return _table(source, name, start, stop, "\t", has_quotes(source, "tsv"))


def _table(source: Source, name: str, start: int, stop: int | None, delimiter: str, quotes: bool) -> Iterator[Row]:
    first = next((_cells(line, delimiter, quotes) for line in _first_lines(source, name, 1)), [])
    names = _names(source, name, first)
    rows = (_quoted if quotes else _plain)(source, name, start, stop, delimiter)
    for number, (row, cells) in enumerate(rows):
        if start or number or row.problem or source.columns or not names or cells != first:
            yield _named(row, cells, names)


def _names(source: Source, name: str, first: Sequence[str]) -> Sequence[str]:
    """The names of the columns; none where they have numbers."""
    if source.columns:
        return source.columns
    if all(field.isdecimal() for field in source.fields) or not first:
        return ()
    if set(source.fields) <= set(first):
        return first
    missing = next(field for field in source.fields if field not in first)
    sentence = unknown_field(missing, [cell[:SHOWN] for cell in first], f"the first line of {name}")
    raise UserError(
        f"{sentence} Where that is no header, name the columns with data.sources.N.columns, or take them by number: "
        "'0', '1'."
    )


def _named(row: Row, cells: Sequence[str], names: Sequence[str]) -> Row:
    """The row with its cells by the columns' names or numbers."""
    if not row.problem and names and len(cells) != len(names):
        counts = f"{len(cells)} column{'s' if len(cells) != 1 else ''} where {len(names)} are named"
        return row._replace(problem=f"has {counts}.")
    return row._replace(values=dict(zip(names or map(str, range(len(cells))), cells, strict=False)))


def _plain(source: Source, name: str, start: int, stop: int | None, delimiter: str) -> Iterator[tuple[Row, list[str]]]:
    """Rows of which each is a line."""
    for offset, raw in read_lines(source, name, start, stop):
        where = functools.partial(_line, source, name, offset)
        if raw is None:
            yield Row(offset, {}, where, problem=f"{too_long(source)}: raise it, or break the line."), []
        elif raw:
            text, invalid = decode(raw if offset else raw.removeprefix(codecs.BOM_UTF8))
            yield Row(offset, {}, where, invalid), text.split(delimiter)


def _line(source: Source, name: str, offset: int) -> str:
    return f"{name}, line {line_number(source, name, offset)},"


def _quoted(source: Source, name: str, start: int, stop: int | None, delimiter: str) -> Iterator[tuple[Row, list[str]]]:
    """Rows whose cells may hold line feeds; a row's number is its own in the file."""
    lines = (
        (b"" if raw is None else raw if offset else raw.removeprefix(codecs.BOM_UTF8), raw is None)
        for offset, raw in read_lines(source, name, start, stop)
    )
    long = False

    def texts() -> Iterator[str]:
        nonlocal long
        for raw, is_long in lines:
            long = long or is_long
            yield raw.decode(errors="surrogateescape") + "\n"

    csv.field_size_limit(max(csv.field_size_limit(), source.most_bytes))
    reader, number, line, ended = csv.reader(texts(), delimiter=delimiter, strict=True), 0, 1, False
    while not ended:
        cells, problem = [], ""
        try:
            cells = next(reader, None)
        except csv.Error as error:
            problem = f"is not CSV: {error}."
        ended = cells is None
        if long:
            problem = f"{too_long(source)}: raise it, or break the line."
        if cells or problem:
            where = functools.partial("{}, line {},".format, name, line)
            yield Row(number, {}, where, problem=problem), cells or []
            number += 1
        line, long = reader.line_num + 1, False


def _first_lines(source: Source, name: str, most: int) -> list[str]:
    """The first lines that are not empty."""
    lines = (line for line in read_lines(source, name, 0, None) if line.content)
    return [decode((raw or b"").removeprefix(codecs.BOM_UTF8))[0] for _, raw in itertools.islice(lines, most)]


def _cells(line: str, delimiter: str, quotes: bool) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), []) if quotes else line.split(delimiter)


def _delimiter(source: Source, lines: list[str]) -> str:
    """The character that separates, in the first lines, the fields or columns that the source names; otherwise one
    that makes as many cells of each line, or of the first."""
    found = {d: [_cells(line, d, has_quotes(source, "csv")) for line in lines] for d in DELIMITERS if lines}
    for fits in (
        lambda rows: set(source.fields) <= set(rows[0]),
        lambda rows: len(rows[0]) == len(source.columns),
        lambda rows: len(rows[0]) > 1 and len(set(map(len, rows))) == 1,
        lambda rows: len(rows[0]) > 1,
    ):
        for delimiter, rows in found.items():
            if fits(rows):
                return delimiter
    return DELIMITERS[-1]
