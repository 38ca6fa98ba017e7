"""The errors that end a command with one sentence, and the sentence that suggests a spelling."""

import difflib
import signal
from collections.abc import Iterable

TRY_AGAIN = 75
"""The status after which supervisors start the same command again, EX_TEMPFAIL of sysexits.h."""


class UserError(Exception):
    """A mistake that the user can mend: one sentence saying what was given, what is possible and what to do."""

    status = 2
    """What the command ends with."""


class StorageError(UserError):
    """A bucket that did not answer: nothing is wrong with the command, and the same one may do later."""

    status = TRY_AGAIN


class TransientError(Exception):
    """A failure that the same command may not meet again, such as a process of the run that did not come: one sentence.
    Supervisors try again after its status, and not after that of a `UserError`."""

    status = TRY_AGAIN


class InterruptedRunError(Exception):
    """The run was asked to stop and has saved its state, or says why not; `status` is what a shell expects of it."""

    def __init__(self, number: signal.Signals, step: int, unsaved: str = ""):
        saved = "the state is saved, and the same command goes on from there."
        super().__init__(f"{number.name} at step {step}; {unsaved or saved}")
        self.status = 128 + number


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """`"; did you mean 'steps'?"` for the known name closest to `name`; when none is close, `otherwise`, or a list."""
    known = list(known)
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.65):
        return f"; did you mean {close[0]!r}?"
    return f"; {otherwise or 'there are ' + ', '.join(sorted(known))}."
