"""One train step of any config on the devices at hand: speed, memory, and FLOPs against the formula.

    python benchmarks/step.py configs/t5_1_1_base.py [--steps 20] [--profile FOLDER] [--json] [train.batch=64 ...]

Batches are made here, of random tokens, so neither a data set nor tensorflow nor the command line's libraries are
needed: jax, flax, optax and jaxtyping will do, with PYTHONPATH=. where t5like is not installed. `model=NAME` takes a
published size of `t5like architectures`. A step's time is the mean of `--steps` steps of which the last is waited for,
after three that do not count. FLOPs are those of the matrix products of the compiled program, bodies of loops as often
as they run, over those that the model needs by `t5like/cost/flops.py`; MFU is of the latter. The last line is JSON.
"""

import argparse
import ast
import contextlib
import dataclasses
import json
import sys
import time
from typing import Any

import jax
import numpy as np

from t5like.config import Config, presets
from t5like.cost.devices import device_of, mfu
from t5like.cost.flops import step_flops
from t5like.errors import UserError
from t5like.model.architectures import architecture
from t5like.model.network import abstract_batch
from t5like.model.sharding import batch_sharding, make_mesh
from t5like.plan.counts import count
from t5like.plan.hlo import read_module
from t5like.train.compile import lower_step, step_memory
from t5like.train.state import Training, make_training
from t5like.xla import set_flags

DROPPED = 3


def overridden(config: Any, name: str, value: Any) -> Any:
    """The config with one field of a dotted name replaced."""
    head, _, rest = name.partition(".")
    if not hasattr(config, head):
        raise SystemExit(f"{type(config).__name__} has no field {head!r}.")
    return dataclasses.replace(config, **{head: overridden(getattr(config, head), rest, value) if rest else value})


def configured(source: str, changes: list[str]) -> Config:
    config = presets.load(source)
    for change in changes:
        name, _, text = change.partition("=")
        with contextlib.suppress(ValueError, SyntaxError):  # what is no literal is a word
            text = ast.literal_eval(text)
        config = overridden(config, name, architecture(str(text)) if name == "model" else text)
    return config


def random_batch(training: Training, seed: int) -> dict[str, jax.Array]:
    """Rows without padding, each of one segment; every target counts."""
    rng, batch = np.random.default_rng(seed), {}
    place = batch_sharding(training.config.rules, training.mesh)
    for name, feature in abstract_batch(training.config, training.config.train.batch).items():
        if name.endswith("_positions"):
            values = np.broadcast_to(np.arange(feature.shape[1]), feature.shape)
        elif name.endswith("_tokens"):
            values = rng.integers(3, training.config.data.vocabulary.size, feature.shape)
        else:
            values = np.zeros(feature.shape) if name.endswith("_types") or name == "labels" else np.ones(feature.shape)
        batch[name] = jax.device_put(values.astype(feature.dtype), place)
    return batch


def products(lowered: jax.stages.Lowered, compiled: jax.stages.Compiled, devices: int) -> int:
    """FLOPs of all matrix products on all devices; of a program whose products are calls of a library, as lowered."""
    found = count(read_module(compiled.as_text() or "")).products
    return found * devices or count(read_module(lowered.as_text(dialect="hlo"))).products


def measure(config: Config, steps: int, profile: str | None) -> dict[str, Any]:
    mesh = make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        training = make_training(config, mesh)
        started = time.monotonic()
        lowered = lower_step(training)
        compiled = lowered.compile()
        compiling = time.monotonic() - started
        state, batch = training.initial_state(), random_batch(training, 0)
        for _ in range(DROPPED):
            state, metrics = compiled(state, batch)
        jax.block_until_ready(state)
        started = time.monotonic()
        with jax.profiler.trace(profile) if profile else contextlib.nullcontext():
            for _ in range(steps):
                state, metrics = compiled(state, batch)
            jax.block_until_ready(state)
        seconds = (time.monotonic() - started) / steps
        loss = float(metrics.sums["loss"].mean())
    needed, device = step_flops(config), mesh.devices.flat[0]
    held = jax.local_devices()[0].memory_stats() or {}
    return {
        "device": device.device_kind,
        "devices": mesh.size,
        "jax": jax.__version__,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(training.abstract.params)),
        "batch": config.train.batch,
        "lengths": config.data.lengths,
        "compile_seconds": compiling,
        "step_seconds": seconds,
        "sequences_per_second": config.train.batch / seconds,
        "tokens_per_second": config.train.batch * sum(config.data.lengths.values()) / seconds,
        "mfu": mfu(needed.training, seconds, mesh.size, device_of(device.device_kind)),
        "flops_over_formula": products(lowered, compiled, mesh.size) / needed.training,
        "flops_over_unhalved": products(lowered, compiled, mesh.size) / needed.training_unhalved,
        "step_bytes": step_memory(compiled).total,
        "peak_bytes": held.get("peak_bytes_in_use"),
        "loss": loss,
    }


def main() -> None:
    set_flags()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a preset or a run directory")
    parser.add_argument("changes", nargs="*", help="fields to replace, such as train.batch=64")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--profile", help="folder for a trace of the steps")
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    asked = parser.parse_intermixed_args()
    try:
        figures = measure(configured(asked.config, asked.changes), asked.steps, asked.profile)
    except UserError as error:
        sys.exit(str(error))
    figures = {"benchmark": "step", "config": asked.config, "changes": asked.changes, **figures}
    if not asked.json:
        for name, value in figures.items():
            print(f"{name:<22} {value:,.4g}" if isinstance(value, float) else f"{name:<22} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
