"""The one kind of error that is the user's to mend, and the sentence that suggests a spelling."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend: one sentence saying what was given, what is possible and what to do."""


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """`"; did you mean 'steps'?"` for the known name closest to `name`; when none is close, `otherwise`, or a list."""
    known = list(known)
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.65):
        return f"; did you mean {close[0]!r}?"
    return f"; {otherwise or 'there are ' + ', '.join(sorted(known))}."
