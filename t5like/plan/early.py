"""A compiled step without machine code, which is nine tenths of the TPU compiler's time and little that a plan asks.

The compiler runs in a process of its own and writes down what it does. Once the program is scheduled and every array
has its address in memory, the process is ended. What only comes later is unknown: the cycles that the compiler expects,
the size of the code, and some 60 MiB that collectives use while they run.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from typing import Any

from t5like.config import Config, presets
from t5like.plan.programs import FUNCTIONS, Answers, lower
from t5like.plan.topology import Topology, prepare_environment, topology
from t5like.train.compile import StepMemory

PLACED = "*jit_{}*after_optimizations_after_buffer_assignment.txt"
"""The scheduled program of a function, which is written after its buffers have addresses."""
BUFFERS = "*jit_{}*after_optimizations-buffer-assignment.txt"
LOWERED, REFUSED = "lowered", "refused"
"""Files of ours: when the compiler began, and what it said if it gave up."""
PAUSE = 0.05
ALLOCATION = re.compile(r"^allocation \d+: size (\d+)(.*):$", re.MULTILINE)


def compile_early(
    config: Config, where: Topology, name: str, answers: Answers
) -> tuple[str, StepMemory, float, float] | str:
    """The text of the program `name`, its memory, and the seconds of tracing and of the compiler; or the compiler's
    refusal."""
    root = pathlib.Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    placed, buffers = (pattern.format(FUNCTIONS[name]) for pattern in (PLACED, BUFFERS))
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        presets.write(config, folder)
        words = made, where.name, where.slices, name, *answers
        command = [sys.executable, "-m", "t5like.plan.early", *map(str, words)]
        with (folder / "said").open("wb") as said:
            started = time.time()
            child = subprocess.Popen(command, stdout=said, stderr=said, env={**os.environ, "PYTHONPATH": paths})
        try:
            while child.poll() is None and not _written(folder, placed):
                time.sleep(PAUSE)
        finally:
            child.kill()
            child.wait()
        if (folder / REFUSED).exists():
            return (folder / REFUSED).read_text("utf-8")
        text = _text(folder, placed)
        if not text:
            raise RuntimeError(f"the compiler ended without a program: {(folder / 'said').read_text()[-4000:]}")
        lowered = (folder / LOWERED).stat().st_mtime
        return text, memory_of(_text(folder, buffers)), lowered - started, time.time() - lowered


def memory_of(buffers: str) -> StepMemory:
    """The sums of the compiler's assignment of buffers, in the device's own memory. Its lines are such as

    `allocation 3: size 512, parameter 0, shape |f32[128]| at ShapeIndex {}, maybe-live-out:`.
    """
    arguments = outputs = aliased = temporary = 0
    for size, kind in ALLOCATION.findall(buffers):
        if "color" in kind or "thread-local" in kind:
            continue
        taken, live = ", parameter" in kind, "maybe-live-out" in kind
        arguments += int(size) * taken
        outputs += int(size) * live
        aliased += int(size) * (taken and live)
        temporary += int(size) * (not taken and not live)
    return StepMemory(arguments=arguments, outputs=outputs, aliased=aliased, temporary=temporary, code=0)


def _written(folder: pathlib.Path, placed: str) -> bool:
    """True if the program is there, whole: its entry, which is the last computation, is closed."""
    file = next(folder.glob(placed), None)
    if file is None or not file.stat().st_size:
        return False
    with file.open("rb") as opened:
        opened.seek(max(file.stat().st_size - 3, 0))
        if not opened.read().strip().endswith(b"}"):
            return False
    # What is written so far may end with the brace of another computation, or of an instruction.
    text = file.read_bytes()
    return b"\nENTRY " in text and text.rstrip().endswith(b"\n}")


def _text(folder: pathlib.Path, pattern: str) -> str:
    file = next(folder.glob(pattern), None)
    return file.read_text("utf-8") if file else ""


def _compile(folder: pathlib.Path, where: Topology, name: str, answers: Answers) -> None:
    """Child process: compile the program and dump its text into `folder`. The parent ends it once the scheduled program
    is written, so it ends by itself only if the compiler refuses or is quicker."""
    import jax

    from t5like.plan.placed import mesh_of, training_on

    training = training_on(presets.read(folder), where)
    options: dict[str, Any] = {"xla_dump_to": str(folder), "xla_dump_hlo_as_text": True}
    with mesh_of(training):
        lowered = lower(training, name, answers)
        (folder / LOWERED).touch()
        try:
            lowered.compile(compiler_options=options)
        except jax.errors.JaxRuntimeError as error:
            partial = folder / f"{REFUSED}.partial"
            partial.write_text(str(error), "utf-8")
            partial.replace(folder / REFUSED)


if __name__ == "__main__":
    prepare_environment()
    folder, shape, slices, name, *numbers = sys.argv[1:]
    _compile(pathlib.Path(folder), topology(shape, int(slices)), name, Answers(*map(int, numbers)))
