"""A plan without a compiler: GPUs that are not at hand, by arithmetic alone.

State and gradients are exact, and what the backward pass keeps of the forward pass is what JAX says when the gradient
is traced; what XLA's fusions save or need on top is not known. Collectives are those that the sharding implies.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from t5like.config import Config
from t5like.cost.flops import Flops, step_flops
from t5like.model.network import abstract_batch
from t5like.model.sharding import parts_of, row_parts
from t5like.optim.groups import frozen_and_trained, joined
from t5like.plan.collectives import Collective
from t5like.plan.placed import mesh_of
from t5like.train.compile import shard_bytes
from t5like.train.state import Training
from t5like.train.step import batch_sums

COMPUTE_BYTES = {"float32": 4, "bfloat16": 2}


def kept_bytes(training: Training) -> int:
    """Bytes that each device keeps for the backward pass of one part of a batch.

    They are the residuals of the traced gradient that grow with the rows. Those that tensor parallelism splits are
    counted whole.
    """
    config, mesh = training.config, training.mesh.shape
    parts = row_parts(config.rules, training.mesh)
    each = residual_bytes(training, 2 * parts) - residual_bytes(training, parts)  # what does not grow is no activation
    rows = config.train.batch // config.train.accumulate
    return each * rows // parts // parts // mesh["sequence"]


def residual_bytes(training: Training, rows: int) -> int:
    """Bytes of all that the backward pass of some rows is given by the forward pass, on all devices together."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in residuals(training, rows))


def residuals(training: Training, rows: int) -> list[jax.ShapeDtypeStruct]:
    """The arrays that the backward pass of some rows is given by the forward pass."""
    config = training.config
    batch = abstract_batch(config, rows)

    def backward(params: Any, batch: Any) -> Any:
        keys = {"dropout": jax.random.key(0)} if config.model.drops else {}
        frozen, trained = frozen_and_trained(params, config.optimizer, config.model.lora)

        def objective(trained: Any) -> Any:
            sums = batch_sums(joined(frozen, trained), batch, training.network.net, config.train, keys)
            return sums["objective"].total

        return jax.vjp(objective, trained)[1]

    with mesh_of(training):
        leaves = jax.tree.leaves(jax.eval_shape(backward, training.abstract.params, batch))
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.number)]


def largest_parts(training: Training, count: int = 5) -> list[dict[str, Any]]:
    """The parts with most memory on each device: state, gradients, and the arrays kept for the backward pass.

    Arrays of one shape and type are one part. What a device needs for a moment, within a layer, is not among them.
    """
    mesh, config = training.mesh.shape, training.config
    rows = config.train.batch // config.train.accumulate
    parts = row_parts(config.rules, training.mesh) * mesh["sequence"]
    found = [
        {"bytes": sum(map(shard_bytes, jax.tree.leaves(tree))), "shape": "", "operation": label}
        for label, tree in (
            ("parameters", training.abstract.params),
            ("optimizer state", training.abstract.opt_state),
            ("gradients", training.trained),
        )
    ]
    kept = Counter((leaf.dtype.name, leaf.shape) for leaf in residuals(training, rows) if rows in leaf.shape)
    for (dtype, shape), times in kept.items():
        size = times * math.prod(shape) * jnp.dtype(dtype).itemsize // parts
        label = f"{times} kept for the backward pass, of all devices"
        found.append({"bytes": size, "shape": f"{dtype}[{','.join(map(str, shape))}]", "operation": label})
    return sorted(found, key=lambda part: -part["bytes"])[:count]


def collectives(training: Training) -> list[Collective]:
    """Gathers of the split parameters in both passes, the sum of their gradients, and what tensor parallelism adds."""
    return list(_collectives(training))


def _collectives(training: Training) -> Iterator[Collective]:
    config, mesh = training.config, dict(training.mesh.shape)
    size, parts = COMPUTE_BYTES[config.model.dtype], config.train.accumulate
    params = training.network.parameter_count // mesh["tensor"]
    trained = sum(leaf.size for leaf in jax.tree.leaves(training.trained)) // mesh["tensor"]
    if mesh["fsdp"] > 1:
        yield Collective("all-gather", ("fsdp",), mesh["fsdp"], size * params, 2 * parts, True)
        yield Collective("reduce-scatter", ("fsdp",), mesh["fsdp"], 4 * trained, parts, True)
    copies = tuple(axis for axis in ("slice", "data") if mesh[axis] > 1)
    if copies:
        devices = parts_of(copies, training.mesh)
        yield Collective("all-reduce", copies, devices, 4 * trained // mesh["fsdp"], 1, False)
    if mesh["tensor"] > 1:
        rows = config.train.batch // row_parts(config.rules, training.mesh)
        model, lengths = config.model, config.data.lengths
        # One sum after each attention and each feed-forward layer, and in the backward pass one before it.
        tokens = 2 * model.encoder_layers * lengths.get("encoder", 0)
        tokens += (3 if model.encoder_layers else 2) * model.decoder_layers * lengths.get("decoder", 0)
        whole = rows * tokens * model.embed * size // mesh["sequence"]
        yield Collective("all-reduce", ("tensor",), mesh["tensor"], whole, 2, False)


def products(config: Config) -> int:
    """FLOPs of the matrix products that are computed: causal scores whole, and again what remat computes again."""
    flops = step_flops(config)
    return flops.training_unhalved + computed_again(config, flops)


def computed_again(config: Config, flops: Flops) -> int:
    """FLOPs of the forward pass that the policy `model.remat` repeats in the backward pass."""
    again = {
        "none": 0,
        "dots": flops.scores_unhalved,
        "full": flops.forward_unhalved - flops.output,
    }
    return again.get(config.model.remat, flops.forward_unhalved - flops.output)


def moved_bytes(training: Training, kept: int) -> int:
    """Bytes through each device's memory: weights thrice, gradient and state, and what is kept, written and read."""
    trained = sum(map(shard_bytes, jax.tree.leaves(training.trained)))
    changed = trained + sum(map(shard_bytes, jax.tree.leaves(training.abstract.opt_state)))
    gathered = training.network.parameter_count // training.mesh.shape["tensor"]
    parts = training.config.train.accumulate
    weights = 3 * parts * gathered * COMPUTE_BYTES[training.config.model.dtype]
    return weights + 3 * trained * parts + 2 * changed + 2 * kept * parts
