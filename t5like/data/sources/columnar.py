"""Readers of Parquet and of Arrow."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

from t5like.config import Source
from t5like.data.sources.faults import DamagedError
from t5like.data.sources.files import readable
from t5like.data.sources.records import Row, Wanted, column_of, unknown_field
from t5like.errors import UserError
from t5like.json_files import parse

BATCH_BYTES = 2**23
"""Decoded columns that are in memory at once, as far as the mean length of their rows tells."""


def parquet_row_groups(name: str, wanted: Wanted) -> list[int]:
    """The size in bytes of each row group.

    Raises:
      UserError: the file is no whole Parquet file, or lacks a field.
    """
    with _parquet(name, wanted) as file:
        return [file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups)]


def read_parquet(source: Source, name: str, start: int, stop: int | None, wanted: Wanted) -> Iterator[Row]:
    """The rows of the row groups [start, stop); a row's number is its own in the file."""
    with _parquet(name, wanted) as file:
        columns, classes = _columns(wanted, file.schema_arrow, name), _classes(file.schema_arrow, wanted.whole)
        number = sum(file.metadata.row_group(group).num_rows for group in range(start))
        for group in range(file.metadata.num_row_groups)[start:stop]:
            metadata = file.metadata.row_group(group)
            rows = _rows_at_once(metadata.total_byte_size, metadata.num_rows)
            for batch in file.iter_batches(rows, row_groups=[group], columns=columns):
                found = _rows(batch, name, number)
                yield from map(functools.partial(_named, classes), found) if wanted.whole else found
                number += batch.num_rows


def read_arrow(source: Source, name: str, start: int, stop: int | None, wanted: Wanted) -> Iterator[Row]:
    """The rows of an Arrow file or stream; classes are their names where `datasets` wrote these down."""
    import pyarrow.ipc

    number = 0
    with _arrow_errors(name), readable(name) as raw:
        is_file = raw.read(6) == b"ARROW1"
        raw.seek(0)
        reader = pyarrow.ipc.open_file(raw) if is_file else pyarrow.ipc.open_stream(raw)
        columns, classes = _columns(wanted, reader.schema, name), _classes(reader.schema, wanted.whole)
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        for batch in batches:
            rows = _rows_at_once(batch.nbytes, batch.num_rows)
            chosen = batch.select(list(dict.fromkeys(column.partition(".")[0] for column in columns)))
            for first in range(0, batch.num_rows, rows):
                yield from map(
                    functools.partial(_named, classes), _rows(chosen.slice(first, rows), name, number + first)
                )
            number += batch.num_rows


@contextlib.contextmanager
def _parquet(name: str, wanted: Wanted) -> Iterator[Any]:
    """The opened Parquet file, in which each of the fields was found."""
    import pyarrow.parquet

    with _arrow_errors(name), readable(name) as raw:
        file = pyarrow.parquet.ParquetFile(raw)
        _columns(wanted, file.schema_arrow, name)
        yield file


@contextlib.contextmanager
def _arrow_errors(name: str) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except pyarrow.ArrowException as error:
        raise DamagedError(f"{name} cannot be read: {' '.join(str(error).split()).rstrip('.')}.") from None


def _columns(wanted: Wanted, schema: Any, name: str) -> list[str]:
    """The columns to read.

    Raises:
      UserError: a field is in none.
    """
    known = _leaves(schema)
    for field in wanted.fields:
        if column_of(field, known) is None:
            raise UserError(unknown_field(field, known, name, wanted.setting))
    if wanted.whole:
        return list(dict.fromkeys(schema.names))
    return sorted({column for field in wanted.fields if (column := column_of(field, known))})


def _leaves(fields: Any, above: str = "") -> list[str]:
    """Names of the columns, those within a struct with a dot."""
    import pyarrow.types

    names: list[str] = []
    for field in fields:
        inner = pyarrow.types.is_struct(field.type)
        names += _leaves(field.type, f"{above}{field.name}.") if inner else [f"{above}{field.name}"]
    return names


def _rows_at_once(size: int, rows: int) -> int:
    """The rows that are decoded together, of so many that have so many bytes."""
    return int(min(1024, max(1, BATCH_BYTES // max(1, size / max(1, rows)))))


def _rows(batch: Any, name: str, number: int) -> Iterator[Row]:
    """The rows, with text as bytes: Arrow's own conversion stops at the first text that is no UTF-8."""
    import pyarrow

    batch.validate()
    table = pyarrow.Table.from_batches([batch])
    table = table.cast(pyarrow.schema([(field.name, _as_bytes(field.type)) for field in table.schema]))
    table.validate(full=True)
    for position, values in enumerate(table.to_pylist()):
        yield Row(number + position, values, functools.partial("{}, row {},".format, name, number + position))


def _as_bytes(kind: Any) -> Any:
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(kind):
        return _as_bytes(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pyarrow.large_binary()
    if types.is_struct(kind):
        return pyarrow.struct([(field.name, _as_bytes(field.type)) for field in kind])
    if types.is_list(kind) or types.is_large_list(kind):
        return pyarrow.large_list(_as_bytes(kind.value_type))
    return kind


def _classes(schema: Any, within: bool) -> dict[str, list[str]]:
    """The names of the classes of each column that has some, which `datasets` keeps beside the schema; those of columns
    of lists too, if the classes `within` lists are asked for."""
    try:
        features = parse((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: names for name in features if (names := _class_names(features[name], within))}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _class_names(feature: Any, within: bool) -> list[str]:
    """The names of the classes of a feature, or of the values of its lists."""
    while within and isinstance(feature, dict) and feature.get("_type") in ("Sequence", "List", "LargeList"):
        feature = feature.get("feature")
    is_class = isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    return feature.get("names") or [] if is_class else []


def _named(classes: dict[str, list[str]], row: Row) -> Row:
    """A row with the names of classes instead of numbers; -1, and so no name, where the class is not known."""
    found = {name: _name(row.values[name], names) for name, names in classes.items() if name in row.values}
    return row._replace(values={**row.values, **found})


def _name(value: Any, names: list[str]) -> Any:
    if isinstance(value, list):
        return [_name(each, names) for each in value]
    if not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None
