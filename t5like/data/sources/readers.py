"""Readers of files: text, JSON lines and Parquet. Each yields the records of a file, or of a range of it."""

import codecs
import contextlib
import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

from t5like.config import Source
from t5like.data.sources.files import line_number, read_lines, read_whole, readable
from t5like.data.sources.records import Record, column_of, decode, record_of, unknown_field
from t5like.errors import UserError

PARQUET_BYTES = 2**23
"""Decoded Parquet that is in memory at once, as far as the mean length of its rows tells."""


def read_text(source: Source, name: str, start: int, stop: int | None) -> Iterator[Record]:
    """A file, or the lines that begin in its bytes [start, stop)."""
    if source.document == "file":
        lines = iter([(0, read_whole(name, source.most_bytes))])
    else:
        lines = read_lines(name, start, stop, source.most_bytes)
    for offset, raw in lines:
        text, invalid = decode(raw if offset else raw.removeprefix(codecs.BOM_UTF8))
        yield Record(offset, (text,), invalid)


def read_json_lines(source: Source, name: str, start: int, stop: int | None) -> Iterator[Record]:
    """The JSON objects in the lines that begin in the bytes [start, stop)."""
    for offset, raw in read_lines(name, start, stop, source.most_bytes):
        line, invalid = decode(raw if offset else raw.removeprefix(codecs.BOM_UTF8))
        if not line.strip():
            continue
        where = functools.partial(_line, name, offset)
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise UserError(f"{where()} is not JSON: {reason}.") from None
        if not isinstance(values, dict):
            raise UserError(f"{where()} is no JSON object with named fields.")
        record = record_of(offset, values, source.fields, where)
        yield record._replace(invalid=record.invalid + invalid)


def _line(name: str, offset: int) -> str:
    return f"{name}, line {line_number(name, offset)},"


def parquet_row_groups(source: Source, name: str) -> list[int]:
    """The size in bytes of each row group.

    Raises:
      UserError: the file is no whole Parquet file, or lacks a field.
    """
    with _parquet(source, name) as file:
        return [file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups)]


def read_parquet(source: Source, name: str, start: int, stop: int | None) -> Iterator[Record]:
    """The rows of the row groups [start, stop); a record's number is that of its row in the file."""
    with _parquet(source, name) as file:
        known = _leaves(file.schema_arrow)
        columns = sorted({column for field in source.fields if (column := column_of(field, known))})
        number = sum(file.metadata.row_group(group).num_rows for group in range(start))
        for group in range(file.metadata.num_row_groups)[start:stop]:
            metadata = file.metadata.row_group(group)
            mean = metadata.total_byte_size / max(1, metadata.num_rows)
            rows = int(min(1024, max(1, PARQUET_BYTES // max(1, mean))))
            for batch in file.iter_batches(rows, row_groups=[group], columns=columns):
                for values in _rows(batch):
                    where = functools.partial("{}, row {},".format, name, number)
                    yield bounded(record_of(number, values, source.fields, where), source, where)
                    number += 1


@contextlib.contextmanager
def _parquet(source: Source, name: str) -> Iterator[Any]:
    """The opened Parquet file, in which each of the source's fields was found."""
    import pyarrow
    import pyarrow.parquet

    with readable(name) as raw:
        try:
            file = pyarrow.parquet.ParquetFile(raw)
            known = _leaves(file.schema_arrow)
            for field in source.fields:
                if column_of(field, known) is None:
                    raise UserError(unknown_field(field, known, name))
            yield file
        except pyarrow.ArrowException as error:
            raise UserError(f"{name} cannot be read: {str(error).rstrip('.')}.") from None


def _leaves(fields: Any, above: str = "") -> list[str]:
    """Names of the columns, those within a struct with a dot."""
    import pyarrow.types

    names: list[str] = []
    for field in fields:
        inner = pyarrow.types.is_struct(field.type)
        names += _leaves(field.type, f"{above}{field.name}.") if inner else [f"{above}{field.name}"]
    return names


def _rows(batch: Any) -> list[dict[str, Any]]:
    """The rows, with text as bytes: Arrow's own conversion stops at the first text that is no UTF-8."""
    import pyarrow

    table = pyarrow.Table.from_batches([batch])
    return table.cast(pyarrow.schema([(field.name, _as_bytes(field.type)) for field in table.schema])).to_pylist()


def _as_bytes(kind: Any) -> Any:
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(kind):
        return _as_bytes(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pyarrow.large_binary()
    if types.is_struct(kind):
        return pyarrow.struct([(field.name, _as_bytes(field.type)) for field in kind])
    if types.is_list(kind):
        return pyarrow.list_(_as_bytes(kind.value_type))
    return kind


def bounded(record: Record, source: Source, where: Callable[[], str]) -> Record:
    """The record, unless its texts are longer than the source allows."""
    if sum(map(len, record.texts)) > source.most_bytes:
        raise UserError(f"{where()} is longer than data.sources.N.most_bytes={source.most_bytes}: raise it.")
    return record
