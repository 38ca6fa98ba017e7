"""A run as later commands use it: its config, vocabulary and parameters, restored onto the devices at hand."""

import contextlib
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax

from t5like.config import Config
from t5like.config.run_directory import RunDirectory
from t5like.data.vocabulary import Vocabulary, open_vocabulary
from t5like.model.sharding import make_mesh
from t5like.train.checkpoint import Checkpoints
from t5like.train.state import Plan, plan_run


@dataclass(frozen=True)
class Restored:
    """A checkpoint of a run. Use it within the `restore` that made it, which sets the mesh."""

    run: RunDirectory
    config: Config
    vocabulary: Vocabulary
    plan: Plan
    step: int
    params: Any


@contextlib.contextmanager
def restore(config: Config, step: int | None = None) -> Iterator[Restored]:
    """The newest checkpoint of the config's run directory, or the one of a step, on the config's mesh.

    Raises:
      UserError: no such run, checkpoint or vocabulary, or a config that the checkpoint does not fit.
    """
    run = RunDirectory(pathlib.Path(config.train.directory).expanduser())
    run.config()
    if config.train.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(config.train.compilation_cache).expanduser()))
    mesh = make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        vocabulary = open_vocabulary(run.vocabulary)
        plan = plan_run(config, mesh)
        with Checkpoints(run.checkpoints, vocabulary_hash=vocabulary.hash) as checkpoints:
            state = checkpoints.restore(plan.abstract, step)
        yield Restored(run, config, vocabulary, plan, int(jax.device_get(state.step)), state.params)
