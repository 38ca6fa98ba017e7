"""A config as the Python text of a preset, with the fields that are not at their defaults."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from t5like.config import Config

INDENT = "    "
COLUMNS = 110


def as_preset(config: Config, title: str) -> str:
    """The text of a preset that holds this config."""
    names = ", ".join(sorted({type(value).__name__ for value in _classes(config)}))
    imports = f"from t5like.config import {names}"
    if len(imports) > COLUMNS:
        imports = "from t5like.config import (\n" + "".join(f"{INDENT}{name},\n" for name in names.split(", ")) + ")"
    quoted = title.replace("\\", "\\\\").replace('"""', "'''")
    return f'"""{quoted}"""\n\n{imports}\n\nconfig = {_written(config, "")}\n'


def _classes(value: Any) -> Iterator[Any]:
    """All dataclasses of a value that are written."""
    if dataclasses.is_dataclass(value):
        yield value
        for _, inner in _changed(value):
            yield from _classes(inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from _classes(inner)


def _changed(value: Any) -> list[tuple[str, Any]]:
    """The fields of a dataclass that are not at their defaults."""
    fields = [(field, getattr(value, field.name)) for field in dataclasses.fields(value)]
    return [(field.name, own) for field, own in fields if own != field.default or type(own) is not type(field.default)]


def _written(value: Any, indent: str) -> str:
    """The text of a value, on one line where it fits."""
    if dataclasses.is_dataclass(value):
        parts = [f"{name}={_written(own, indent + INDENT)}" for name, own in _changed(value)]
        return _joined(f"{type(value).__name__}(", parts, ")", indent)
    if isinstance(value, tuple):
        parts = [_written(own, indent + INDENT) for own in value]
        return _joined("(", parts, ")" if len(parts) != 1 else ",)", indent)
    text = repr(value)
    return f'"{text[1:-1]}"' if text.startswith("'") and '"' not in text else text


def _joined(begin: str, parts: list[str], end: str, indent: str) -> str:
    line = f"{begin}{', '.join(parts)}{end}"
    if len(indent) + len(line) <= COLUMNS and "\n" not in line:
        return line
    end = end.lstrip(",")
    return f"{begin}\n" + "".join(f"{indent}{INDENT}{part},\n" for part in parts) + f"{indent}{end}"
