"""Readers of CSV and TSV, whose rows are named by a header line, by the source, or by their numbers."""

import codecs
import csv
import functools
import itertools
import re
from collections.abc import Iterator, Sequence

from t5like.config import Source
from t5like.data.sources.encoding import decode
from t5like.data.sources.files import line_of, read_lines
from t5like.data.sources.records import Row, Wanted, too_long, unknown_field
from t5like.errors import UserError

DELIMITERS = "\t|;,"
"""Characters that may stand between columns, those that prose has least first."""
LINES = 10
"""Lines that tell which one does."""
SHOWN = 30
"""Characters of a cell in an error."""
HEAD = 2**16
"""Characters of a file that tell if its quotes are those of CSV."""


def has_quotes(source: Source, kind: str) -> bool:
    """True if fields may stand in quotes and hold line feeds, so that a file cannot be cut between lines."""
    return kind == "csv" if source.quotes is None else source.quotes


def read_csv(source: Source, name: str, start: int, stop: int | None, wanted: Wanted) -> Iterator[Row]:
    """The rows of a CSV file."""
    delimiter = source.delimiter or _delimiter(source, _first_lines(source, name, LINES), wanted)
    quotes = has_quotes(source, "csv")
    if source.quotes is None and delimiter in "\t ":
        quotes = _shows_quotes(_first_lines(source, name, None), delimiter)
    return _table(source, name, start, stop, delimiter, quotes, wanted)


def read_tsv(source: Source, name: str, start: int, stop: int | None, wanted: Wanted) -> Iterator[Row]:
    """The rows of a TSV file, or those that begin in its bytes [start, stop)."""
    return _table(source, name, start, stop, "\t", has_quotes(source, "tsv"), wanted)


def _shows_quotes(lines: list[str], delimiter: str) -> bool:
    """True if the first lines have cells in quotes, as CSV has them, and none that only begins with one.

    Text between tabs or spaces is mostly written as it is (GLUE's files), so quotes need a sign of what they are;
    between spaces each line must have as many cells too.
    """
    try:
        rows = list(csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, strict=True))
    except csv.Error:
        return False
    quoted = any(cell.startswith('"') for line in lines for cell in line.split(delimiter))
    return quoted and (delimiter != " " or len(set(map(len, rows))) == 1)


def _table(
    source: Source, name: str, start: int, stop: int | None, delimiter: str, quotes: bool, wanted: Wanted
) -> Iterator[Row]:
    lines = _first_lines(source, name, LINES)
    most = _cuts(source, wanted, lines, delimiter, quotes)
    first, *others = [_cells(line, delimiter, quotes, most) for line in lines] or [[]]
    names = _names(source, name, first, wanted) if wanted.fields or source.columns else _guessed(first, others)
    rows = (
        _quoted(source, name, start, stop, delimiter) if quotes else _plain(source, name, start, stop, delimiter, most)
    )
    for number, (row, cells) in enumerate(rows):
        if start or number or row.problem or source.columns or not names or cells != first:
            yield _with_cells(row, cells, names)


def _cuts(source: Source, wanted: Wanted, lines: list[str], delimiter: str, quotes: bool) -> int:
    """The cuts of a line, all (-1) or, between spaces, as many as there are columns but for the last one, which takes
    the rest of the line: one where nothing says how many there are, as in `4 Who was Galileo ?`."""
    if delimiter != " " or quotes:
        return -1
    if source.columns:
        return len(source.columns) - 1
    if wanted.fields and all(field.isdecimal() for field in wanted.fields):
        return max(map(int, wanted.fields))
    return len(lines[0].split(" ")) - 1 if lines and wanted.fields else 1


def _names(source: Source, name: str, first: Sequence[str], wanted: Wanted) -> Sequence[str]:
    """The names of the columns; none where they have numbers."""
    if source.columns:
        return source.columns
    if all(field.isdecimal() for field in wanted.fields) or not first:
        return ()
    if set(wanted.fields) <= set(first):
        return first
    missing = next(field for field in wanted.fields if field not in first)
    sentence = unknown_field(missing, [cell[:SHOWN] for cell in first], f"the first line of {name}", wanted.setting)
    raise UserError(
        f"{sentence} Where that is no header, name the columns with data.sources.N.columns, or take them by number: "
        "'0', '1'."
    )


def _guessed(first: Sequence[str], others: Sequence[Sequence[str]]) -> Sequence[str]:
    """The names in a first line if it looks like a header, where no field is asked for; none otherwise.

    Names are short, different, begin with a letter and end as a word does, and do not come again in their columns. The
    first may be empty: pandas writes so the column of its index.
    """
    cells = first[1:] if first and not first[0] else first
    named = all(re.fullmatch(r"(?!\d)#?\w([\w #.:/()-]{0,38}[\w)])?", cell) for cell in cells)
    again = any(row[column] == cell for row in others for column, cell in enumerate(first) if column < len(row))
    return first if first and named and len(set(first)) == len(first) and not again else ()


def _with_cells(row: Row, cells: Sequence[str], names: Sequence[str]) -> Row:
    """The row with its cells by the columns' names or numbers."""
    if not row.problem and names and len(cells) != len(names):
        counts = f"{len(cells)} column{'s' if len(cells) != 1 else ''} where {len(names)} are named"
        return row._replace(problem=f"has {counts}.")
    return row._replace(values=dict(zip(names or map(str, range(len(cells))), cells, strict=False)))


def _plain(
    source: Source, name: str, start: int, stop: int | None, delimiter: str, most: int
) -> Iterator[tuple[Row, list[str]]]:
    """Rows of which each is a line."""
    for offset, raw in read_lines(source, name, start, stop):
        where = functools.partial(line_of, source, name, offset)
        if raw is None:
            yield Row(offset, {}, where, problem=f"{too_long(source)}: raise it, or break the line."), []
        elif raw:
            text, invalid = decode(raw if offset else raw.removeprefix(codecs.BOM_UTF8))
            yield Row(offset, {}, where, invalid), text.split(delimiter, most)


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
            problem = f"is not CSV: {error}; where quotes are text, set data.sources.N.quotes=False."
        ended = cells is None
        if long:
            problem = f"{too_long(source)}: raise it, or break the line."
        if cells or problem:
            where = functools.partial("{}, line {},".format, name, line)
            yield Row(number, {}, where, problem=problem), cells or []
            number += 1
        line, long = reader.line_num + 1, False


def _first_lines(source: Source, name: str, most: int | None) -> list[str]:
    """The first lines that are not empty, or those in the first `HEAD` characters."""
    lines = (line for line in read_lines(source, name, 0, HEAD if most is None else None) if line.content)
    return [decode((raw or b"").removeprefix(codecs.BOM_UTF8))[0] for _, raw in itertools.islice(lines, most)]


def _cells(line: str, delimiter: str, quotes: bool, most: int = -1) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), []) if quotes else line.split(delimiter, most)


def _delimiter(source: Source, lines: list[str], wanted: Wanted) -> str:
    """The character that separates, in the first lines, the fields or columns that are named; otherwise one that makes
    as many cells of each line, or of the first."""
    found = {d: [_cells(line, d, has_quotes(source, "csv")) for line in lines] for d in DELIMITERS if lines}
    for fits in (
        lambda rows: bool(wanted.fields) and set(wanted.fields) <= set(rows[0]),
        lambda rows: len(rows[0]) == len(source.columns),
        lambda rows: len(rows[0]) > 1 and len(set(map(len, rows))) == 1,
        lambda rows: len(rows[0]) > 1,
    ):
        for delimiter, rows in found.items():
            if fits(rows):
                return delimiter
    return DELIMITERS[-1]
