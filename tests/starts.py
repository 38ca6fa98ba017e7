"""Runs that others start from: trained ones, and ones as an import writes them, with parameters alone."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from small import random_params, replace, small_config

from t5like import config
from t5like.config import Config
from t5like.data.prepare import prepare
from t5like.model.network import abstract_batch
from t5like.model.sharding import make_mesh
from t5like.runs.changes import acquire
from t5like.runs.checkpoints import Checkpoints
from t5like.runs.directory import RunDirectory
from t5like.train.state import make_training

WORDS = {
    "first": ["the", "model", "reads", "a", "line", "of", "text", "and", "writes", "it", "again", "你好", "世界"],
    "second": ["some", "other", "words", "stand", "in", "here", "but", "never", "what", "was", "there"],
}
BYTES = config.Vocabulary(kind="bytes", size=259, sentinels=11, extra=(config.MASK,))
LEARNED = config.Vocabulary(kind="byte_bpe", size=270, sentinels=7, extra=(config.MASK, config.CLS))


def write_texts(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Two texts of 300 lines each, of different words."""
    rng = np.random.default_rng(0)
    for name, words in WORDS.items():
        (folder / f"{name}.txt").write_text("\n".join(" ".join(rng.choice(words, 24)) for _ in range(300)), "utf-8")
    return {name: folder / f"{name}.txt" for name in WORDS}


def run_config(text: pathlib.Path, directory: pathlib.Path, family: str = "gpt", **changes: Any) -> Config:
    """A run of two steps on the lines of a text."""
    changes = {
        "data__store": str(directory.parent / f"store_{text.stem}"),
        "data__sources": (config.Source(kind="text", path=str(text), document="line"),),
        "data__vocabulary": BYTES,
        "data__held_out": 0.2,
        "model__vocab": 384,
        "train__directory": str(directory),
        "train__steps": 2,
        "train__log_every": 1,
        "train__compilation_cache": "",
        "train__tensorboard": False,
        "eval__rows": 8,
        "mesh__data": 2,
        **changes,
    }
    return small_config(family, **changes)


def import_run(settings: Config, step: int = 0) -> Any:
    """Makes the run directory that an import makes: config, vocabulary, and a checkpoint without optimizer state. Its
    vocabulary is a file of its own, unless it is of bytes. Returns the parameters."""
    run, mesh = RunDirectory(pathlib.Path(settings.train.directory)), make_mesh(settings.mesh)
    vocabulary = prepare(settings.data, quietly)
    vocabulary.save(run.vocabulary)
    if settings.data.vocabulary.kind != "bytes":
        usual = config.Vocabulary().coverage
        file = replace(settings.data.vocabulary, kind="file", path=str(run.vocabulary), coverage=usual)
        settings = replace(
            settings, data=replace(settings.data, store=f"{settings.train.directory}/store", vocabulary=file)
        )
    acquire(run, settings)
    with jax.set_mesh(mesh), Checkpoints(run.checkpoints, 1, vocabulary.hash) as checkpoints:
        training = make_training(settings, mesh)
        batch = {n: jnp.zeros(f.shape, f.dtype) for n, f in abstract_batch(settings, settings.train.batch).items()}
        params = jax.device_put(random_params(training.network.net, batch), training.shardings.params)
        checkpoints.save_params(params, step)
        checkpoints.wait()
    return jax.device_get(params)


def flags_of(settings: Config) -> list[str]:
    """The flags that give a command the text and the store of a config."""
    source = settings.data.sources[0]
    values = {
        "data.store": settings.data.store,
        "data.sources.0.kind": source.kind,
        "data.sources.0.path": source.path,
        "data.sources.0.document": source.document,
    }
    return [f"--{name}={value}" for name, value in values.items()]


def quietly(text: str) -> None:
    """What a preparation reports to in a test."""
