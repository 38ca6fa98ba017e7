"""Conditions under which fields have an effect, written once as annotations of the fields (`marks.applies_to`).

The check of every class reads them (`checks.require_fields`), the help shows them, and a stored config is read without
fields that have none (`effective`), since versions before this check accepted them in silence.
"""

import dataclasses
import functools
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AppliesTo:
    """The condition under which a field has an effect: the value of another field, or of a property, of its class.

    Args:
      field: its dotted name, such as `objective.kind`.
      values: those with which the field has an effect; without any, all that are set (true, not 0, not empty).
      words: what the help and the check say of a property.
    """

    field: str
    values: tuple[Any, ...] = ()
    words: str = ""

    def value_in(self, owner: object) -> Any:
        """The value that decides."""
        return functools.reduce(getattr, self.field.split("."), owner)

    def holds(self, owner: object) -> bool:
        """True if the field has an effect in `owner`."""
        value = self.value_in(owner)
        return value in self.values if self.values else bool(value)

    def __call__(self, default: str) -> str:
        """The end of a flag's help."""
        return f"({self._shown()}{default and f'; default: {default}'})"

    def _shown(self) -> str:
        if self.words:
            return f"for {self.words}"
        if not any(self.values):
            return f"{'without' if self.values else 'with'} {self.field}"
        return f"for {self.field} {', '.join(map(str, self.values))}"


@functools.cache
def field_types(kind: type, marked: bool = False) -> dict[str, Any]:
    """The types of a dataclass's fields; with `marked`, as `Annotated[..., AppliesTo(...)]` where that is their mark.

    The marks of `marks` are for tyro, whose import takes longer than all else that `t5like --help` does: where no flag
    is read they are evaluated without it, a condition as the plain value and other marks as None.
    """
    plain = {
        "applies_to": lambda field, *values, words="": AppliesTo(field, values, words),
        "repeatable": lambda: None,
        "without_prefix": lambda: None,
    }
    return typing.get_type_hints(kind, localns=plain, include_extras=marked)


@functools.cache
def conditions(kind: type) -> dict[str, AppliesTo]:
    """The conditions of a dataclass by the names of their fields."""
    marks = {name: getattr(hint, "__metadata__", ()) for name, hint in field_types(kind, marked=True).items()}
    return {name: mark for name, of_field in marks.items() for mark in of_field if isinstance(mark, AppliesTo)}


def idle(value: Any) -> dict[str, AppliesTo]:
    """The fields of a dataclass that were given a value but have no effect, with their conditions."""
    defaults = {field.name: field.default for field in dataclasses.fields(value)}
    return {
        name: condition
        for name, condition in conditions(type(value)).items()
        if getattr(value, name) != defaults[name] and not condition.holds(value)
    }


def effective(kind: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The stored fields of a dataclass that have an effect. Those that have none may make others have none."""
    kept, before = dict(fields), -1
    while len(kept) != before:
        before, owner = len(kept), object.__new__(kind)
        vars(owner).update({field.name: field.default for field in dataclasses.fields(kind)} | kept)
        without = {name for name, condition in conditions(kind).items() if not condition.holds(owner)}
        kept = {name: value for name, value in kept.items() if name not in without}
    return kept
