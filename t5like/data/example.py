"""An example of a task, as the fields of a row say it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Gold(NamedTuple):
    """An answer that stands in a context: its text, and the position of its first character where a file says it."""

    text: str
    start: int | None = None


Target = str | float | int | tuple[str, ...] | tuple[Gold, ...]
"""The target of an example: a label, a text or several references (tuple), labels (tuple), a number, the number of the
right candidate, or the answers that a context has (tuple of Gold, empty for none)."""


class Example(NamedTuple):
    """A question of a task, and its answer."""

    values: Mapping[str, Any]
    """The fields of the row."""
    where: Callable[[], str]
    """Says for errors which row this is, e.g. `a.jsonl, line 3,`."""
    input: str
    target: Target | None = None
    """None: unlabelled."""
    second: str = ""
    """The second text, or the context."""
    words: tuple[str, ...] = ()
    """The words to label."""
    candidates: tuple[str, ...] = ()
    group: str = ""
    """Examples of one group lie on the same side of the split."""
    turn: int = 0
    """Number of the answer in a dialogue, counted from 0."""
    dialogue: tuple[Mapping[str, str], ...] = ()
    """The messages before the answer."""
