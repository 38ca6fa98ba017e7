"""The process that trainings are forked from: it has imported what they import, and has no threads yet.

It reads requests, a line of JSON each, from standard input and answers each with a line. A fork becomes the command
that it is asked for and ends as any interpreter does. At the end of the input the server kills what it has started.
"""

import ctypes
import importlib
import json
import os
import pathlib
import runpy
import signal
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

PRELOADED = (
    *("tensorflow", "jax", "flax.linen", "optax", "optax.contrib", "orbax.checkpoint", "tensorboardX", "tyro"),
    *("t5like.cli", "t5like.train.loop", "t5like.runs.opened", "t5like.processes.preflight"),
)
"""The modules that a training imports and that take long."""
CAP_DAC_OVERRIDE = 1
PR_CAPBSET_DROP = 24


def serve() -> None:
    """Answer requests until the input ends: `{"words": ...}` with the number of a new process, `{"poll": number}` with
    its exit status, or null while it runs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
    for name in PRELOADED:
        importlib.import_module(name)
    running = set[int]()
    with os.fdopen(os.dup(0), "rb") as requests, os.fdopen(os.dup(1), "wb", buffering=0) as answers:
        answers.write(b"ready\n")
        for line in requests:
            request = json.loads(line)
            if "poll" in request:
                answers.write(json.dumps(_status(request["poll"], running)).encode() + b"\n")
            elif number := os.fork():
                running.add(number)
                answers.write(f"{number}\n".encode())
            else:
                break
        else:
            for number in running:
                os.kill(number, signal.SIGKILL)
            return
    become(request)


def _status(number: int, running: set[int]) -> int | None:
    """The exit status of a process, negative of one that a signal ended; None while it runs."""
    done, status = os.waitpid(number, os.WNOHANG)
    if not done:
        return None
    running.discard(number)
    return os.waitstatus_to_exitcode(status)


def become(request: dict[str, Any]) -> None:
    """Carry out a command line as a process of its own would."""
    os.setsid()
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    log, nothing = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(old, new)
    sys.argv = ["t5like", *request["words"]]
    if request["slow"]:
        slow_down(request["slow"])
    if request["confined"]:
        obey_permissions()
    runpy.run_module("t5like", run_name="__main__", alter_sys=True)


def slow_down(seconds: float) -> None:
    """Make new folders, renames and writes to the disk that are waited for take so much longer, as a busy file server
    does."""

    def slowed(act: Callable[..., Any]) -> Callable[..., Any]:
        def acting(*given: Any, **named: Any) -> Any:
            time.sleep(seconds)
            return act(*given, **named)

        return acting

    for name in ("rename", "replace", "fsync"):
        setattr(os, name, slowed(getattr(os, name)))
    pathlib.Path.mkdir = slowed(pathlib.Path.mkdir)


def obey_permissions() -> None:
    """Give up root's right to write where permissions forbid it, so that a folder can be read-only for root too."""
    if os.geteuid():
        return
    library = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # version 3 of capget(2), this thread
    library.capget(header, sets)
    for number in range(3):  # effective, permitted, inheritable
        sets[number] &= ~(1 << CAP_DAC_OVERRIDE)
    library.prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)
    if library.capset(header, sets):
        raise OSError(ctypes.get_errno(), "the right to override permissions cannot be given up")
