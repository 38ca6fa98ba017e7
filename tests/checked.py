"""Annotations checked at less cost: beartype alone where a function takes and returns no arrays.

jaxtyping binds the arguments of each call, opens a scope for the names of dimensions and checks a result together with
the arguments. Only arrays have dimensions; of all other functions beartype checks the same by itself in a tenth of the
time, and such calls are most of what a test does.
"""

import inspect
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping

_WHOLE = jaxtyping.jaxtyped


def checked(function: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
    """Stands in for `jaxtyping.jaxtyped` in the modules that jaxtyping's import hook changes."""
    if function is None:
        return lambda function: checked(function, typechecker=typechecker)
    if inspect.isfunction(function) and not any(map(_may_be_an_array, _hints(function))):
        return typechecker(function)
    return _WHOLE(function, typechecker=typechecker)


def _hints(function: Callable[..., Any]) -> list[Any]:
    """The hints of a function; those that cannot be read yet stay text."""
    try:
        return list(inspect.get_annotations(function, eval_str=True).values())
    except (NameError, AttributeError):  # of a name that is imported for type checkers alone, or comes later
        return list(function.__annotations__.values())


def _may_be_an_array(hint: Any) -> bool:
    """True of jaxtyping's types, wherever they stand in a hint, and of text, which may name one."""
    if isinstance(hint, str | typing.ForwardRef):
        return True
    if isinstance(hint, list | tuple):
        return any(map(_may_be_an_array, hint))
    if getattr(type(hint), "__module__", "").startswith("jaxtyping") or getattr(hint, "__module__", "") == "jaxtyping":
        return True
    return typing.get_origin(hint) is not typing.Literal and any(map(_may_be_an_array, typing.get_args(hint)))
