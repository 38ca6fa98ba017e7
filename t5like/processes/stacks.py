"""The stacks of a process's threads, as events keep them."""

import sys
import threading
import traceback

FRAMES = 30
"""Innermost frames of a thread that are kept."""


def stacks() -> dict[str, list[str]]:
    """Name of each thread to its stack, outermost first: `["loop.py:70 train", "steps.py:61 run_steps"]`."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    found: dict[str, list[str]] = {}
    for ident, frame in sys._current_frames().items():
        name = names.get(ident, "")
        name = f"{name} {ident}" if not name or name in found else name
        frames = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=FRAMES, lookup_lines=False)
        found[name] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames)]
    return found
