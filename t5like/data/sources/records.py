"""Records, which every reader yields, and the text of their fields."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from t5like.errors import UserError, did_you_mean


class Record(NamedTuple):
    """One record of a file, with a text for each of the source's fields."""

    number: int
    """Byte offset of a line, number of a row or record, 0 for a whole file."""
    texts: tuple[str, ...]
    invalid: int = 0
    """Sequences that were no UTF-8, each of which is now U+FFFD."""
    group: str = ""
    """Documents of one group go into the same split; empty: those of equal texts."""


def decode(raw: bytes) -> tuple[str, int]:
    """Bytes as text, and the number of sequences in them that are no UTF-8 and become U+FFFD."""
    try:
        return raw.decode(), 0
    except UnicodeDecodeError:
        text = raw.decode(errors="replace")
        return text, text.count("\ufffd") - raw.count("\ufffd".encode())


def record_of(number: int, values: Mapping[str, Any], fields: tuple[str, ...], where: Callable[[], str]) -> Record:
    """The named fields of a record that came as a dictionary; an error calls it `where()`, e.g. `a, line 3,`.

    A name that the record has as it stands comes first; otherwise each dot enters a dictionary by a name or a list
    by a number. None, and what lies behind the end of a list, is an empty text.

    Raises:
      UserError: there is no such field, or it is no text and no number.
    """
    texts, invalid = [], 0
    for field in fields:
        text, count = _text(_find(values, field, where), field, where)
        texts.append(text)
        invalid += count
    return Record(number, tuple(texts), invalid)


def _find(values: Mapping[str, Any], field: str, where: Callable[[], str]) -> Any:
    if field in values:
        return values[field]
    value: Any = values
    for name in field.split("."):
        if value is None:
            return None
        if isinstance(value, list | tuple) and name.isdecimal():
            value = value[int(name)] if int(name) < len(value) else None
        elif isinstance(value, Mapping) and name in value:
            value = value[name]
        else:
            raise UserError(unknown_field(field, field_names(values), where()))
    return value


def unknown_field(field: str, known: list[str], where: str) -> str:
    """The sentence about a field that a record does not have."""
    hint = did_you_mean(field, known, "" if known else "it has none")
    return f"data.sources.N.fields: {where} has no field {field!r}{hint}"


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


def _text(value: Any, field: str, where: Callable[[], str]) -> tuple[str, int]:
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


def _without_surrogates(text: str) -> tuple[str, int]:
    """JSON can hold halves of surrogate pairs, which no encoding of Unicode can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return re.subn("[\ud800-\udfff]", "\ufffd", text)
    return text, 0
