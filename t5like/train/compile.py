"""The train step as a program: lowered from shapes alone, for devices that are here or that nobody owns yet.

Training and planning compile the same program by `lower_step`, so that what a plan says of memory, FLOPs and
collectives is said of the very step that will run.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from t5like.config import Config
from t5like.model.network import Network, abstract_batch
from t5like.model.sharding import batch_sharding
from t5like.train.eval_step import eval_step
from t5like.train.state import Training
from t5like.train.step import train_step


@dataclass(frozen=True)
class StepMemory:
    """The memory of a compiled program on each device, in bytes, as its compiler says."""

    arguments: int
    outputs: int
    aliased: int
    """Part of the outputs that takes the place of donated arguments."""
    temporary: int
    code: int

    @property
    def total(self) -> int:
        """All that must fit at once."""
        return self.arguments + self.outputs - self.aliased + self.temporary + self.code


def lower_step(training: Training) -> jax.stages.Lowered:
    """The train step of a run, with its state donated; call it under `jax.set_mesh(training.mesh)`."""
    function = functools.partial(
        train_step, config=training.config, net=training.network.net, optimizer=training.optimizer
    )
    step = jax.jit(function, out_shardings=(training.shardings, None), donate_argnums=0)
    return step.lower(training.abstract, _batch(training.network, training.config.train.batch))


def lower_evaluation(network: Network) -> jax.stages.Lowered:
    """The step of a run's evaluations; call it under `jax.set_mesh(network.mesh)`."""
    sources = sources_apart(network.config)
    function = functools.partial(eval_step, net=network.net, sources=sources)
    whole = NamedSharding(network.mesh, PartitionSpec())
    table = jax.ShapeDtypeStruct((network.config.model.vocab,), jnp.float32, sharding=whole)
    tables = [table, table] if network.config.model.predicts_pieces else []
    batch = _batch(network, rows := network.config.eval.batch)
    if sources:
        sharding = batch_sharding(network.config.rules, network.mesh)
        batch["sources"] = jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=sharding)
    return jax.jit(function).lower(network.params, batch, *tables)


def sources_apart(config: Config) -> int:
    """The number of sources that an evaluation tells apart: 0 where there is one."""
    count = len(config.data.sources)
    return count if count > 1 else 0


def _batch(network: Network, rows: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes, types and shardings of a batch's features."""
    sharding, features = batch_sharding(network.config.rules, network.mesh), abstract_batch(network.config, rows)
    return {n: jax.ShapeDtypeStruct(f.shape, f.dtype, sharding=sharding) for n, f in features.items()}


def step_memory(compiled: jax.stages.Compiled) -> StepMemory:
    """The memory of a program, as the compiler says."""
    said: Any = compiled.memory_analysis()
    return StepMemory(
        arguments=said.argument_size_in_bytes,
        outputs=said.output_size_in_bytes,
        aliased=said.alias_size_in_bytes,
        temporary=said.temp_size_in_bytes,
        code=said.generated_code_size_in_bytes,
    )


def state_bytes(training: Training) -> int:
    """Bytes of the parameters and the optimizer state on each device."""
    leaves = jax.tree.leaves(training.abstract)
    return sum(shard_bytes(leaf) for leaf in leaves)


def shard_bytes(leaf: jax.ShapeDtypeStruct) -> int:
    """Bytes of an abstract array on each device that holds a part of it."""
    shape = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape
    return functools.reduce(int.__mul__, shape, 1) * leaf.dtype.itemsize


def compile_step(training: Training, say: Callable[[str], None]) -> jax.stages.Compiled:
    """The compiled train step; its memory is stated before the first one runs.

    A state that the step copies instead of changing it in place would double the memory of a run: that is said too.
    """
    started = time.monotonic()
    compiled = lower_step(training).compile()
    memory = step_memory(compiled)
    say(f"Compiled in {time.monotonic() - started:.0f} s; a step needs {memory.total / 2**20:,.0f} MiB on each device.")
    needed = state_bytes(training)
    if memory.aliased < 0.95 * needed:
        say(f"The compiler copies the state: only {memory.aliased:,} of {needed:,} bytes are kept in place.")
    return compiled
