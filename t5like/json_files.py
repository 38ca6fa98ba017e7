"""JSON in files, read with checks: whatever bytes lie there, a reader gives what it promises or says one sentence.

Small files of ours end in a checksum of all that stands before it, which `sealed` writes and `read_object` holds the
content against. Files of earlier versions have none: of these, and of damaged ones that still are JSON, the `form`
says which fields must be there and of what type they are.
"""

import functools
import hashlib
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from t5like.errors import UserError

if TYPE_CHECKING:
    import pathlib

    from etils import epath

    Path = pathlib.Path | epath.Path
else:
    from t5like.storage import Path

DEEPEST = 100
"""Levels of lists and objects within each other: more come from damage, and exhaust the stack of what reads them."""
CHECKSUM = "checksum"
SEAL = re.compile(rb'(,\s*)"checksum": "([0-9a-f]{64})"\s*\}\s*')
"""The end of a sealed file."""
END = 2**8
"""Bytes in which that end lies."""
HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""The begin of half a surrogate pair in JSON, which no file name and no terminal takes."""
Count = typing.Annotated[int, range(2**63)]
"""A number of things, in a form."""
Name = typing.Annotated[str, re.compile(r"(?!\.\.?$)([^/\\\0]{1,63}|[ -.0-\[\]-~]{1,255})")]
"""A name of a file that lies in the folder at hand, in a form."""
Digest = typing.Annotated[str, re.compile(r"[0-9a-f]{64}")]


def loads(text: str) -> Any:
    """The value of a JSON text.

    Raises:
      ValueError: it is none, is nested too deeply, or has a number of thousands of digits.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if text.count("[") + text.count("{") > DEEPEST and _is_deep(value):
        raise ValueError("it is nested too deeply")
    return value


def parse(content: bytes) -> Any:
    """The value of a JSON text in UTF-8, all of whose strings are text.

    Raises:
      ValueError: it is no such text.
    """
    text = str(content, "utf-8-sig")
    value = loads(text)
    if HALF.search(text):
        json.dumps(value, ensure_ascii=False).encode()
    return value


def sealed(text: str) -> bytes:
    """The text of a JSON object that has fields, closed by its checksum.

    '{"a": 1}\\n'  gives  '{"a": 1, "checksum": "..."}\\n'
    """
    body = text.rstrip().removesuffix("}").rstrip()
    before, behind = (",\n  ", "\n}\n") if "\n" in body else (", ", "}\n")
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f'{body}{before}"{CHECKSUM}": "{digest}"{behind}'.encode()


def read_object(file: Path, form: Any, remedy: str) -> dict[str, Any]:
    """The object of a JSON file, without its checksum.

    Args:
      form: a TypedDict; fields beyond its own may be there.
      remedy: the end of the sentence on a damaged file, such as "delete it".

    Raises:
      UserError: it is missing or damaged.
    """
    try:
        content = file.read_bytes()
        return _checked(content, form)
    except FileNotFoundError:
        raise UserError(f"{file} is missing: {remedy}.") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise UserError(f"{file} is damaged ({str(error).rstrip('.')}): {remedy}.") from None


def json_object(file: Path) -> dict[str, Any]:
    """A file's JSON object, of whatever fields; empty where there is no file.

    Raises:
      UserError: it holds something else, or cannot be read.
    """
    if not file.is_file():
        return {}
    try:
        content = parse(file.read_bytes())
    except (ValueError, OSError) as error:
        raise UserError(f"{file} is not valid JSON: {str(error).rstrip('.')}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} must hold a JSON object.")
    return content


def write_json(file: Path, content: Mapping[str, Any], indent: int | None = 2) -> None:
    """Write a JSON object."""
    file.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", "utf-8")


def mismatch(value: Any, form: Any, place: str = "") -> str:
    """The first part of a JSON value that is not of a form, as the beginning of a sentence; empty if all is.

    Forms are TypedDicts, lists, tuples (JSON's lists), dictionaries, literals, unions, the types of JSON, and these
    with a range of whole numbers or a pattern of strings as `Annotated` has them. Numbers of all forms are finite, and
    whole ones int64.
    """
    origin, arguments = typing.get_origin(form), typing.get_args(form)
    if origin in (types.UnionType, typing.Union):
        found = [mismatch(value, one, place) for one in arguments]
        return "" if "" in found else found[0]
    if origin is typing.Annotated:
        bound, wrong = arguments[1], mismatch(value, arguments[0], place)
        fits = wrong or (value in bound if isinstance(bound, range) else bound.fullmatch(value))
        return wrong if wrong or fits else _said(value, place)
    parts = _parts(value, form, origin, arguments, place)
    if parts is None:
        return "" if _is_plain(value, form, origin, arguments) else _said(value, place)
    return next(filter(None, (part if isinstance(part, str) else mismatch(*part) for part in parts)), "")


def _checked(content: bytes, form: Any) -> dict[str, Any]:
    """Raises `ValueError` if the content is not what was written, as far as its checksum or else its form tells."""
    value, seal = parse(content), SEAL.search(content, max(0, len(content) - END))
    if not isinstance(value, dict):
        raise ValueError("it holds no JSON object")
    told = value.pop(CHECKSUM, None)
    if told is not None:
        end = seal and seal.end() == len(content) and seal[2].decode() == told
        if not (seal and end) or hashlib.sha256(content[: seal.start()]).hexdigest() != told:
            raise ValueError("its checksum is not that of its content")
    if wrong := mismatch(value, form):
        raise ValueError(wrong)
    return value


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for some in inner for each in some if isinstance(each, dict | list)] if level else []
        if not level:
            return False
    return True


def _parts(
    value: Any, form: Any, origin: Any, arguments: tuple[Any, ...], place: str
) -> Iterator[tuple[Any, Any, str] | str] | None:
    """The values within a value with their forms and places, or what is wrong of itself; None where none are within."""
    if typing.is_typeddict(form):
        return _fields(value, form, place) if isinstance(value, dict) else iter([_said(value, place)])
    if origin is dict:
        within = value.items() if isinstance(value, dict) else None
        return None if within is None else ((each, arguments[1], _at(place, key)) for key, each in within)
    if origin not in (list, tuple) or not isinstance(value, list):
        return None
    if origin is list or arguments[1:] == (...,):
        return ((each, arguments[0], _at(place, number)) for number, each in enumerate(value))
    if len(value) != len(arguments):
        return iter([_said(value, place)])
    pairs = enumerate(zip(value, arguments, strict=True))
    return ((each, kind, _at(place, number)) for number, (each, kind) in pairs)


def _fields(value: dict[str, Any], form: Any, place: str) -> Iterator[tuple[Any, Any, str] | str]:
    for name, kind in _hints(form).items():
        if name in value:
            yield value[name], kind, _at(place, name)
        elif name in form.__required_keys__:
            yield f"{_at(place, name)} is missing"


@functools.cache
def _hints(form: Any) -> dict[str, Any]:
    """The fields of a TypedDict with their forms, bounds included."""
    hints = typing.get_type_hints(form, include_extras=True)
    optional = (typing.NotRequired, typing.Required)
    return {name: typing.get_args(h)[0] if typing.get_origin(h) in optional else h for name, h in hints.items()}


def _is_plain(value: Any, form: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    if form is Any:
        return True
    if origin is Literal:
        return value in arguments
    if origin is not None:
        return False
    if form is type(None):
        return value is None
    if isinstance(value, bool) or form is bool:
        return isinstance(value, bool) and form is bool
    if form is float:
        return isinstance(value, int | float) and abs(value) < 2**1023
    return isinstance(value, form) and (form is not int or abs(value) < 2**63)


def _at(place: str, name: object) -> str:
    return f"{place}.{name}" if place else str(name)


def _said(value: Any, place: str) -> str:
    text = "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else json.dumps(value)
    return f"{place or 'it'} is {text if len(text) < 40 else text[:37] + '...'}"
