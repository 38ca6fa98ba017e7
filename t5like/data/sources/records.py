"""Rows, which every reader yields, and the records that a source's fields make of them.

A row is a dictionary of fields, as the file has them; a record has a text for each field that the source names.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from t5like.config import Source
from t5like.data.sources.encoding import decode
from t5like.data.sources.faults import Faults
from t5like.errors import UserError, did_you_mean


class Row(NamedTuple):
    """One record of a file, as a dictionary of fields."""

    number: int
    """Byte offset of a line, number of a row or record, 0 for a whole file."""
    values: Mapping[str, Any]
    where: Callable[[], str]
    """Says for errors which record this is, e.g. `a.jsonl, line 3,`."""
    invalid: int = 0
    """Sequences that were invalid in the file's encoding, each of which is now U+FFFD."""
    group: str = ""
    """Documents of one group go into the same split; empty: those of equal texts."""
    problem: str = ""
    """Why this is no record: the rest of a sentence; empty: it is one."""


class Wanted(NamedTuple):
    """The fields that are read of rows."""

    fields: tuple[str, ...]
    """Fields that each row must have."""
    whole: bool = False
    """All other fields are read too."""
    setting: str = "data.sources.N.fields"
    """The setting that names the fields, for errors."""


def wanted_of(source: Source) -> Wanted:
    """The fields of a source, or those of its task, beside which all others are read too."""
    task = source.task
    return Wanted(source.fields) if task is None else Wanted(task.fields, True, "data.sources.N.task")


class Record(NamedTuple):
    """One record of a file, with a text for each of the source's fields."""

    number: int
    texts: tuple[str, ...]
    invalid: int = 0
    group: str = ""


def records(source: Source, rows: Iterable[Row], faults: Faults) -> Iterator[Record]:
    """The records that the source's fields make of rows; those that make none are faults.

    Raises:
      UserError: a row makes no record, and the source's `on_error` is to stop; or the file has no rows at all.
    """
    only = source.fields[0] if len(source.fields) == 1 else ""
    for row in rows:
        text = row.values.get(only) if only else None
        if type(text) is str and text.isascii() and len(text) <= source.most_bytes:  # most rows, and quickly
            yield Record(row.number, (text,), row.invalid, row.group)
            continue
        try:
            yield _record(source, row)
        except UserError as error:
            faults.add(str(error))


def _record(source: Source, row: Row) -> Record:
    """The texts of a row's fields.

    A name that the row has as it stands comes first; otherwise each dot enters a dictionary by a name or a list by a
    number. None, and what lies behind the end of a list, is an empty text.

    Raises:
      UserError: the row is no record or too long, there is no such field, or it is no text and no number.
    """
    if row.problem:
        raise UserError(f"{row.where()} {row.problem}")
    texts, invalid = [], row.invalid
    for field in source.fields:
        text, count = text_of(value_of(row, field), field, row.where)
        texts.append(text)
        invalid += count
    if sum(map(len, texts)) > source.most_bytes:
        raise UserError(f"{row.where()} {too_long(source)}: raise it.")
    return Record(row.number, tuple(texts), invalid, row.group)


def too_long(source: Source) -> str:
    """The part of a sentence about a record that is longer than the source allows."""
    return f"is longer than data.sources.N.most_bytes={source.most_bytes}"


def value_of(row: Row, field: str, setting: str = "data.sources.N.fields") -> Any:
    """The value of a row's field, a dot in which enters a field within a field or a list by a number.

    Raises:
      UserError: the row has no such field; the sentence names those that it has, and the setting.
    """
    if field in row.values:
        return row.values[field]
    value: Any = row.values
    for name in field.split("."):
        if value is None:
            return None
        if isinstance(value, list | tuple) and name.isdecimal():
            value = value[int(name)] if int(name) < len(value) else None
        elif isinstance(value, Mapping) and name in value:
            value = value[name]
        else:
            raise UserError(unknown_field(field, field_names(row.values), row.where(), setting))
    return value


def unknown_field(field: str, known: list[str], where: str, setting: str = "data.sources.N.fields") -> str:
    """The sentence about a field that a record does not have."""
    hint = did_you_mean(field, known, "" if known else "it has none")
    return f"{setting}: {where} has no field {field!r}{hint}"


def column_of(field: str, known: list[str]) -> str | None:
    """The column to read for a field: of that name, one whose value the field enters further, or one that it begins."""
    if any(name == field or name.startswith(f"{field}.") for name in known):
        return field
    return next((name for name in known if field.startswith(f"{name}.")), None)


def field_names(values: Mapping[str, Any], above: str = "") -> list[str]:
    """The names of all fields, those within a field with a dot."""
    names: list[str] = []
    for name, value in values.items():
        names += field_names(value, f"{above}{name}.") if isinstance(value, Mapping) else [f"{above}{name}"]
    return names


def text_of(value: Any, field: str, where: Callable[[], str]) -> tuple[str, int]:
    match value:
        case str():
            return _without_surrogates(value)
        case bytes():
            return decode(value)
        case None:
            return "", 0
        case bool():
            return str(value).lower(), 0
        case int() | float() | np.generic():
            return str(value), 0
        case list() | tuple():
            problem = f"a list of {len(value)} values: name one of them, {f'{field}.0'!r}, or join them in the file"
        case Mapping():
            problem = f"several fields: name one of them, {', '.join(field_names(value, f'{field}.'))}"
        case _:
            problem = f"no text but a value of type {type(value).__name__}: set data.sources.N.fields"
    raise UserError(f"{where()} has in the field {field!r} {problem}.")


def plain(value: Any) -> tuple[Any, int]:
    """A value with lists and dictionaries of texts, numbers, truths and None alone, and the number of invalid sequences
    in its texts; what is none of these, such as a date, becomes its text."""
    match value:
        case str():
            return _without_surrogates(value)
        case bytes():
            return decode(value)
        case None | bool() | int() | float():
            return value, 0
        case np.generic():
            return plain(value.item())
        case Mapping():
            names, values = list(value), list(map(plain, value.values()))
            return dict(zip(names, (each for each, _ in values), strict=True)), sum(count for _, count in values)
        case list() | tuple():
            values = list(map(plain, value))
            return [each for each, _ in values], sum(count for _, count in values)
    return plain(value.tolist()) if isinstance(value, np.ndarray) else (str(value), 0)


def _without_surrogates(text: str) -> tuple[str, int]:
    """JSON can hold halves of surrogate pairs, which no encoding of Unicode can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return re.subn("[\ud800-\udfff]", "\ufffd", text)
    return text, 0
