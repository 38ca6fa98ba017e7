"""The base of a run with adapters: the checkpoint of another run whose parameters it leaves as they are.

The run's own checkpoints hold the adapters and what is trained beside them. `base.json` of the run directory says where
the rest lies: the base's run, the step, and a fingerprint of the parameters that are read from there.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import NamedTuple, TypedDict, cast

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Array, UInt32

from t5like.config import Config
from t5like.errors import UserError
from t5like.json_files import Count, Digest, read_object, sealed
from t5like.model.sharding import Params
from t5like.optim.groups import is_own, joined, parted
from t5like.runs.checkpoints import Checkpoints
from t5like.runs.directory import RunDirectory, named_checkpoint
from t5like.storage import path_of, write_small


class Base(NamedTuple):
    """The checkpoint that a run's adapters belong to."""

    path: str
    """Run directory of the base, as `train.init_from` named it."""
    step: int
    fingerprint: str
    """Of the parameters that the run takes from there."""


class _Form(TypedDict):
    """`Base` in JSON."""

    path: str
    step: Count
    fingerprint: Digest


def keep_base(run: RunDirectory, base: Base) -> None:
    """Write `base.json`."""
    write_small(run.base, sealed(json.dumps(base._asdict(), indent=2)).decode())


def base_of(run: RunDirectory) -> Base:
    """The base that a run directory names.

    Raises:
      UserError: the file is missing or damaged.
    """
    known = read_object(run.base, _Form, f"it says what the adapters of {run.path} belong to, so put it back")
    return Base(known["path"], known["step"], known["fingerprint"])


def with_base(own: Params, abstract: Params, run: RunDirectory, config: Config) -> Params:
    """A run's parameters: its `own`, as its checkpoints hold them, and its base's, onto the shardings of `abstract`.

    The base lies where `train.init_from` says, or else where `base.json` does.

    Raises:
      UserError: the base is not there any more, or has other parameters by now.
    """
    base = base_of(run)
    there = RunDirectory(path_of(base.path))
    if config.train.init_from:
        there = named_checkpoint(config.train.init_from)[0]
    if base.step not in there.steps():
        raise UserError(
            f"{run.path} holds adapters of step {base.step} of {there.path}, where that is not any more: put it back, "
            "or say where it lies now by --train.init_from RUN."
        )
    _, wanted = parted(abstract, lambda path: is_own(path, config.model.lora))
    params = read_base(there, base.step, wanted)
    if fingerprint(params) != base.fingerprint:
        raise UserError(
            f"{there.path} has other parameters at step {base.step} than those that the adapters of {run.path} were "
            "trained on: put these back, or say where they lie by --train.init_from RUN."
        )
    return joined(params, own)


def read_base(there: RunDirectory, step: int, wanted: Params) -> Params:
    """Parameters of a step of a run, which may have others besides, onto the shardings that `wanted` carries."""
    with Checkpoints(there.checkpoints) as checkpoints:
        others = checkpoints.param_shapes(step).keys() - flatten_dict(wanted, sep="/").keys()
        return checkpoints.restore_params(wanted, step, others)[1]


def fingerprint(params: Params) -> str:
    """A hash of float32 parameters by their paths, shapes and bits, whatever devices they are split over."""
    sums = jax.device_get(jax.jit(_sums)(flatten_dict(params, sep="/")))
    lines = (f"{path} {sums[path]}\n" for path in sorted(sums))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sums(leaves: Mapping[str, Array]) -> dict[str, Array]:
    return {path: _sum(leaf) for path, leaf in leaves.items()}


def _sum(leaf: Array) -> UInt32[Array, ""]:
    """The sum of an array's bits modulo 2^32, each times an odd number that depends on its place: integers add up to
    the same in any order."""
    bits = jax.lax.bitcast_convert_type(leaf, jnp.uint32)
    place = jnp.zeros(leaf.shape, jnp.uint32)
    for dimension in range(leaf.ndim):
        place = place * jnp.uint32(2_654_435_761) + jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, dimension)
    mixed = (bits ^ (bits >> jnp.uint32(15))) * (place * jnp.uint32(2) + jnp.uint32(1))
    return cast(Array, jnp.sum(mixed ^ (mixed >> jnp.uint32(13)), dtype=jnp.uint32))
