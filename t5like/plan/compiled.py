"""The very programs of a run, compiled for a topology: each program, or what it needs more than there is."""

import functools
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import jax

from t5like.plan.early import compile_early
from t5like.plan.placed import mesh_of
from t5like.plan.programs import Answers, lower, names
from t5like.plan.topology import Topology, quiet
from t5like.train.compile import StepMemory, step_memory
from t5like.train.state import Training

UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SIZE = r"([\d.]+)([KMGT]?)B?"


class Allocation(NamedTuple):
    """One of the largest arrays of a program that does not fit."""

    bytes: float
    shape: str
    operation: str


@dataclass(frozen=True)
class TooLarge:
    """A program that the compiler refuses: what it needs of a device's memory, and what there is, in bytes."""

    needed: float
    available: float
    largest: tuple[Allocation, ...]


@dataclass(frozen=True)
class Program:
    """A compiled program: its scheduled text and memory, and the seconds of tracing and of the compiler.

    `complete` says whether machine code was made of it, too.
    """

    text: str
    memory: StepMemory
    lowering: float
    compiling: float
    complete: bool


def compile_all(training: Training, where: Topology, full: bool, answers: Answers) -> dict[str, Program | TooLarge]:
    """All programs of a run by name; those that processes of their own compile, side by side."""
    asked = names(training.config, answers)
    compile_one = functools.partial(compile_program, training, where, full, answers)
    with ThreadPoolExecutor(len(asked) if _in_a_process(where, full) else 1) as pool:
        return dict(zip(asked, pool.map(compile_one, asked), strict=True))


def compile_program(training: Training, where: Topology, full: bool, answers: Answers, name: str) -> Program | TooLarge:
    """A compiled program of a plan; only `full` has machine code, and with it the compiler's cycles."""
    if _in_a_process(where, full):
        found = compile_early(training.config, where, name, answers)
        return too_large(found) if isinstance(found, str) else Program(*found, complete=False)
    started = time.monotonic()
    with mesh_of(training):
        lowered = lower(training, name, answers)
        lowering = time.monotonic() - started
        try:
            with quiet():
                compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            return too_large(str(error))
    compiling = time.monotonic() - started - lowering
    return Program(compiled.as_text() or "", step_memory(compiled), lowering, compiling, complete=True)


def _in_a_process(where: Topology, full: bool) -> bool:
    """True if `early` compiles, without machine code."""
    return bool(where.shape) and not full


def too_large(message: str) -> TooLarge:
    """Read the message of the compiler on a program that does not fit; early refusals do not list its largest arrays.

    Raises:
      RuntimeError: it refused for another reason.
    """
    used = re.search(rf"Used {SIZE} of {SIZE} hbm", message) or re.search(
        rf"\({SIZE}\) exceeds available \w+ \({SIZE}\)", message
    )
    if used is None:
        raise RuntimeError(f"the compiler refused the program: {message}")
    needed, available = _bytes(used[1], used[2]), _bytes(used[3], used[4])
    largest = []
    for part in re.split(r"\n\s*\d+\. Size: ", message)[1:]:
        size, shape = re.match(SIZE, part), re.search(r"Shape: (\S+)", part)
        operation = re.search(r'op_name="([^"]*)"', part)
        if size:
            largest.append(
                Allocation(_bytes(size[1], size[2]), shape[1] if shape else "", operation[1] if operation else "")
            )
    return TooLarge(needed, available, tuple(largest[:5]))


def _bytes(number: str, unit: str) -> float:
    return float(number) * UNITS[unit]
