"""Checkpoints of a run: how long a save holds the steps, how large it is, how much memory it takes, how long a restore
takes, and how much of that is the verification of the checksums.

    python benchmarks/checkpoint.py [ARCHITECTURE] [REPEATS]      t5_1_1_small and 3 by default; AdamW, in float32

The state has random numbers, which do not compress. Prints a line of JSON for the save and for each of two restores,
of the whole state and of the parameters alone, each in a process of its own; of several tries, the median. `memory` is
the most host memory that the process ever held besides what it held before, over the bytes of the state; on a CPU the
restored state itself is part of that.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from t5like import config
from t5like.config import presets
from t5like.model.architectures import architecture
from t5like.model.sharding import make_mesh
from t5like.runs import checksums
from t5like.runs.checkpoints import Checkpoints, State
from t5like.train.state import Training, make_training

STEP = 7


@contextlib.contextmanager
def training_of(name: str) -> Iterator[Training]:
    """The training of an architecture on one device."""
    settings = presets.load("tiny_t5")
    adamw = dataclasses.replace(settings.optimizer, name="adamw")
    settings = dataclasses.replace(settings, model=architecture(name, dtype="float32"), optimizer=adamw)
    mesh = make_mesh(config.Mesh(), jax.devices()[:1])
    with jax.set_mesh(mesh):
        yield make_training(settings, mesh)


def random_state(training: Training) -> State:
    """Random numbers in every array."""
    leaves, tree = jax.tree.flatten(training.abstract)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    filled = [
        jax.random.normal(key, x.shape, x.dtype) if x.dtype == jnp.float32 else jnp.full(x.shape, STEP, x.dtype)
        for key, x in zip(keys, leaves, strict=True)
    ]
    return jax.block_until_ready(jax.tree.unflatten(tree, filled))


def size(tree: object) -> int:
    """Bytes of a tree of arrays."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def memory(field: str) -> int:
    """Bytes of host memory that the process holds (`VmRSS`), or held at most (`VmHWM`)."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


@contextlib.contextmanager
def measured(into: dict[str, float], state: int) -> Iterator[None]:
    """Put the seconds and the most memory of what is done within into a dict."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # the most memory is counted from here
    before, began = memory("VmRSS"), time.perf_counter()
    yield
    into["seconds"] = time.perf_counter() - began
    into["memory"] = (memory("VmHWM") - before) / state


def save(name: str, folder: pathlib.Path, repeats: int) -> dict[str, float]:
    """Save the state while a step changes it in its place; the first time includes what is done once."""
    with training_of(name) as training:
        state, stalls, found = random_state(training), list[float](), dict[str, float]()
        change = jax.jit(lambda state: jax.tree.map(lambda x: x + 1, state), donate_argnums=0)
        state = jax.block_until_ready(change(state))
        with Checkpoints(folder, keep=1) as checkpoints:
            for number in range(repeats + 1):
                with measured(found, size(state)):
                    began = time.perf_counter()
                    checkpoints.save(state, STEP + number)
                    stalls.append(time.perf_counter() - began)
                    state = jax.block_until_ready(change(state))
                    checkpoints.wait()
        written = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        return {
            "state": size(state),
            "bytes_over_state": written / size(state),
            "first_stall": stalls[0],
            "stall": statistics.median(stalls[1:]),
            **found,
        }


def restore(name: str, folder: pathlib.Path, part: str) -> dict[str, float]:
    """Restore the newest checkpoint, or its parameters."""
    verifications, check = list[float](), checksums.agreed_damage

    def timed(checkpoint: pathlib.Path) -> str:
        began = time.perf_counter()
        reason = check(checkpoint)
        verifications.append(time.perf_counter() - began)
        return reason

    checksums.agreed_damage = timed
    with training_of(name) as training, Checkpoints(folder) as checkpoints:
        wanted = training.abstract if part == "state" else training.abstract.params
        found = dict[str, float]()
        with measured(found, size(training.abstract)):
            read = checkpoints.restore if part == "state" else checkpoints.restore_params
            jax.block_until_ready(read(wanted))
        return {**found, "verification": sum(verifications)}


def main(name: str = "t5_1_1_small", repeats: str = "3") -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made, "checkpoints")
        print(
            json.dumps({"what": "save", "model": name, **rounded([child("save", name, folder, repeats)])}), flush=True
        )
        for part in ("state", "params"):
            figures = [child("restore", name, folder, part) for _ in range(int(repeats))]
            found = rounded(figures)
            share = found["verification"] / found["seconds"]
            line = {"what": f"restore {part}", "model": name, **found, "verification_share": round(share, 3)}
            print(json.dumps(line), flush=True)


def rounded(figures: list[dict[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: round(statistics.median(each[name] for each in figures), 4) for name in figures[0]}


def child(*words: object) -> dict[str, float]:
    """The figures of one task in a process of its own."""
    command = [sys.executable, __file__, "child", *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        task, model, where, last = sys.argv[2:]
        there = pathlib.Path(where)
        print(json.dumps(save(model, there, int(last)) if task == "save" else restore(model, there, last)))
    else:
        main(*sys.argv[1:])
