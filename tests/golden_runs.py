"""Runs of the golden folders: imported and opened as the commands do it, in float32, and on one device.

One device compiles fastest, and that a mesh changes nothing is tested where it is the point. Only the choice of devices
is replaced: commands take all that there are.
"""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
import pytest
import safetensors.numpy

from t5like.config import Config
from t5like.convert import importing
from t5like.convert.files import open_weights
from t5like.convert.importing import import_run
from t5like.convert.options import ImportOptions
from t5like.convert.original import StoredOutputs
from t5like.model.sharding import make_mesh
from t5like.model.transformer import Transformer
from t5like.runs import opened as opening
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import Restored, open_run
from t5like.train import loop, why

GOLDEN = pathlib.Path(__file__).parent / "golden"
FOLDERS = sorted(file.parent.name for file in GOLDEN.glob("*/golden.safetensors"))


class Opened(NamedTuple):
    """A golden folder beside the run that was made of it."""

    folder: pathlib.Path
    restored: Restored
    net: Transformer
    stored: StoredOutputs

    @property
    def kept(self) -> dict[str, np.ndarray]:
        """The original's inputs, outputs and gradients, by transformers' names."""
        return safetensors.numpy.load_file(self.folder / "golden.safetensors")


@contextlib.contextmanager
def on_one_device() -> Iterator[None]:
    """Imports, restores and trainings use a mesh of one device."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (importing, opening, loop, why):
            patch.setattr(module, "make_mesh", lambda sizes: make_mesh(sizes, jax.devices()[:1]))
        yield


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """transformers without network and progress bars, on one thread."""
    with pytest.MonkeyPatch.context() as patch:
        # It reads a spiece.model by classes made for a newer protobuf than TensorFlow takes.
        patch.setitem(os.environ, "TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK", "true")
        patch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
        import torch
        import transformers

        torch.set_num_threads(1)
        transformers.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
        yield


@contextlib.contextmanager
def opened(name: str, directory: pathlib.Path, options: ImportOptions | None = None) -> Iterator[Opened]:
    """A golden folder imported to `directory` and restored from there."""
    import_run(GOLDEN / name, directory, options or ImportOptions())
    with open_run(float32(RunDirectory(directory).config())) as restored:
        net = restored.network.inference_net
        yield Opened(GOLDEN / name, restored, net, StoredOutputs(GOLDEN / name, net.model))


def float32(config: Config) -> Config:
    """A run's config to compute in float32, and to keep no programs in the user's home."""
    train = dataclasses.replace(config.train, compilation_cache="")
    return dataclasses.replace(config, model=dataclasses.replace(config.model, dtype="float32"), train=train)


def tensors_of(folder: pathlib.Path) -> dict[str, np.ndarray]:
    """All tensors of a folder's weights."""
    files = open_weights(folder)
    return {name: files.read(name) for name in files.names()}


def assert_same_tensors(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    """The same names, shapes, types and bits."""
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert (tensor.shape, tensor.dtype) == (right[name].shape, right[name].dtype), name
        assert tensor.tobytes() == right[name].tobytes(), name
