"""Conditions under which fields have an effect, written once as annotations of the fields.

The check of every class reads them (`checks.require_fields`), the help shows them, and a stored config is read without
fields that have none (`effective`), since versions before this check accepted them in silence.
"""

import dataclasses
import functools
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tyro


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


def applies_to(field: str, *values: object, words: str = "") -> object:
    """Annotate a field with its condition, see `AppliesTo`; tyro reads it as the last words of the help."""
    return tyro.conf.arg(help_behavior_hint=AppliesTo(field, values, words))


@functools.cache
def conditions(kind: type) -> dict[str, AppliesTo]:
    """The conditions of a dataclass by the names of their fields."""
    found: dict[str, AppliesTo] = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(condition := getattr(mark, "help_behavior_hint", None), AppliesTo):
                found[name] = condition
    return found


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
