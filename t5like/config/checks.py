"""The checks that every class of the config shares: the types and effects of its fields, and single sentences."""

import dataclasses
import math
import types
import typing
from typing import Any

from t5like.config.conditions import AppliesTo, field_types, idle
from t5like.errors import UserError

FLAGS = "--"
"""The owner of a command's options, which sentences name as flags."""
LARGEST = 3.4028234663852886e38
"""The largest number of float32."""


def require(condition: bool, sentence: str) -> None:
    """Raise `UserError(sentence)` unless the condition holds."""
    if not condition:
        raise UserError(sentence)


def require_fields(owner: str, value: Any) -> None:
    """Raise `UserError` for the first field of a dataclass whose value is not of the annotated type, is a number
    without bounds, or has no effect beside the others."""
    for name, hint in field_types(type(value)).items():
        given = getattr(value, name)
        if not fits(given, hint):
            raise UserError(f"{said(owner, name, given)} must be {described(hint)}.")
        if not _is_bounded(given):
            raise UserError(f"{said(owner, name, given)} must be a finite number that float32 or int64 can hold.")
    defaults = {field.name: field.default for field in dataclasses.fields(value)}
    for name, condition in idle(value).items():
        raise UserError(
            f"{said(owner, name, getattr(value, name))} has no effect {_reason(owner, value, condition)}: leave it at "
            f"its default, {said(owner, name, defaults[name])}."
        )


def named(owner: str, name: str) -> str:
    """A field as the user writes it: `train.steps`, or `--top` of a command's options."""
    return f"--{name.rpartition('.')[2]}" if owner == FLAGS else f"{owner}.{name}"


def said(owner: str, name: str, value: object) -> str:
    """A field and its value as the user writes them: `train.steps=3`, or `--top 3`."""
    return f"{named(owner, name)} {value}" if owner == FLAGS else f"{named(owner, name)}={value!r}"


def require_positive(owner: str, value: object, *names: str) -> None:
    """Raise `UserError` for the first of the named fields that is not above zero."""
    for name in names:
        require(getattr(value, name) > 0, f"{said(owner, name, getattr(value, name))} must be above 0.")


def require_seed(owner: str, value: Any) -> None:
    """Raise `UserError` unless the field `seed` can start a generator of random numbers: 31 bits, not negative."""
    require(0 <= value.seed < 2**31, f"{owner}.seed={value.seed} must be at least 0 and below 2**31.")


def require_steps(owner: str, value: Any, *names: str) -> None:
    """Raise `UserError` for the first of the named fields that is no step: they are counted in int32."""
    for name in names:
        require((getattr(value, name) or 0) < 2**31, f"{said(owner, name, getattr(value, name))} must be below 2**31.")


def _reason(owner: str, value: object, condition: AppliesTo) -> str:
    """The part of a sentence that says what hinders a field, and with what it would have an effect."""
    if condition.words:
        return f"here, only for {condition.words}"
    if not any(condition.values):
        return f"{'with' if condition.values else 'without'} {named(owner, condition.field)}"
    given = said(owner, condition.field, condition.value_in(value))
    *most, last = map(repr, condition.values)
    before = f"{', '.join(most)} or " if most else ""
    return f"with {given}, only with {before}{last}"


def _is_bounded(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_bounded, value))
    if isinstance(value, int):
        return abs(value) < 2**63
    return not isinstance(value, float) or (math.isfinite(value) and abs(value) <= LARGEST)


def fits(value: Any, hint: Any) -> bool:
    """True if a value is of an annotated type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in arguments
    if origin in (types.UnionType, typing.Union):
        return any(fits(value, argument) for argument in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(element, arguments[0]) for element in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def described(hint: Any) -> str:
    """An annotated type, as the end of a sentence."""
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(map(repr, typing.get_args(hint)))}"
    if typing.get_origin(hint) is tuple:
        return f"a tuple, each element {described(typing.get_args(hint)[0])}"
    return str(hint) if typing.get_args(hint) else f"of type {hint.__name__}"
