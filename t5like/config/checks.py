"""The checks that every class of the config shares: the types of its fields, and single sentences."""

import types
import typing
from typing import Any

from t5like.errors import UserError


def require(condition: bool, sentence: str) -> None:
    """Raises `UserError(sentence)` unless the condition holds."""
    if not condition:
        raise UserError(sentence)


def require_types(owner: str, value: object) -> None:
    """Raises `UserError` for the first field of a dataclass whose value is not of the annotated type."""
    for name, hint in typing.get_type_hints(type(value)).items():
        given = getattr(value, name)
        require(_fits(given, hint), f"{owner}.{name}={given!r} must be {_describe(hint)}.")


def require_positive(owner: str, value: object, *names: str) -> None:
    """Raises `UserError` for the first of the named fields that is not above zero."""
    for name in names:
        require(getattr(value, name) > 0, f"{owner}.{name}={getattr(value, name)} must be above 0.")


def require_seed(owner: str, value: Any) -> None:
    """Raises `UserError` unless the field `seed` can start a generator of random numbers: 31 bits, not negative."""
    require(0 <= value.seed < 2**31, f"{owner}.seed={value.seed} must be at least 0 and below 2**31.")


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in arguments
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(element, arguments[0]) for element in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(repr, typing.get_args(hint)))}"
    if typing.get_origin(hint) is tuple:
        return f"a tuple, each element {_describe(typing.get_args(hint)[0])}"
    return str(hint) if typing.get_args(hint) else f"of type {hint.__name__}"
