"""The terminal without what Orbax says besides what it raises."""

import contextlib
import functools
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def without_orbax() -> Iterator[None]:
    """Within, Orbax logs nothing: neither notes nor, with their tracebacks, errors that it raises as well."""
    loggers = [(logging.getLogger("absl"), _is_of_others), (logging.getLogger("asyncio"), _is_no_lost_answer)]
    for logger, passes in loggers:
        logger.addFilter(passes)
    try:
        yield
    finally:
        for logger, passes in loggers:
            logger.removeFilter(passes)


@functools.cache
def ignore_late_arrays() -> None:
    """Let no array report that nobody waits for it any more: one of a checkpoint that cannot be read ends the wait for
    the others, which come whenever they come."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda given: None if _came_too_late(given) else hook(given)


def _is_of_others(record: logging.LogRecord) -> bool:
    # Where the logger was made before absl was imported, as by the command line, records name absl itself.
    return not any(library in record.pathname for library in ("orbax", f"absl{os.sep}logging"))


def _is_no_lost_answer(record: logging.LogRecord) -> bool:
    """False for what asyncio says of arrays of a save or restore that another array has ended."""
    return not record.getMessage().startswith(("Future exception was", "Task was destroyed", "Task exception was"))


def _came_too_late(given: Any) -> bool:
    return isinstance(given.exc_value, RuntimeError) and str(given.exc_value) == "Event loop is closed"
