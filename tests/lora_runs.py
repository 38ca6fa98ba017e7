"""Runs with adapters as training writes them, with random numbers in the adapters."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from small import replace

from t5like.config import Config, Lora
from t5like.model.network import make_network
from t5like.model.sharding import make_mesh
from t5like.optim.groups import is_own, own_params, parted
from t5like.runs.base import Base, fingerprint, keep_base, read_base
from t5like.runs.changes import acquire
from t5like.runs.checkpoints import Checkpoints
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import open_vocabulary


def adapted_run(base: Config, directory: pathlib.Path, lora: Lora, step: int = 0) -> Config:
    """Makes a run on a base that is there, whose adapters, and all that is trained beside them, are random."""
    train = replace(base.train, directory=str(directory), init_from=base.train.directory)
    settings = replace(base, model=replace(base.model, lora=lora), train=train)
    there, run = RunDirectory(pathlib.Path(base.train.directory)), RunDirectory(directory)
    vocabulary, mesh = open_vocabulary(there.vocabulary), make_mesh(settings.mesh, jax.devices()[:1])
    acquire(run, settings)
    vocabulary.save(run.vocabulary)
    run.take_hugging_face(there)
    with jax.set_mesh(mesh), Checkpoints(run.checkpoints, 1, vocabulary.hash) as checkpoints:
        network = make_network(settings, mesh)
        _, frozen = parted(network.params, lambda path: is_own(path, lora))
        keep_base(run, Base(base.train.directory, step, fingerprint(read_base(there, step, frozen))))
        checkpoints.save_params(randomly(own_params(network.params, lora)), 0)
        checkpoints.wait()
    return settings


def randomly(params: dict) -> dict:
    """Normal values with a deviation of 0.1, around 1 for the scales of norms."""
    rng = np.random.default_rng(0)
    flat = flatten_dict(params, sep="/")
    values = {path: 0.1 * rng.normal(size=leaf.shape) + path.endswith("scale") for path, leaf in flat.items()}
    return unflatten_dict({path: jnp.asarray(value, jnp.float32) for path, value in values.items()}, sep="/")
