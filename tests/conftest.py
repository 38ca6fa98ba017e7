"""Tests run on eight CPU devices, with strict promotion and every annotation checked."""

import collections
import gc
import os
from collections.abc import Callable, Iterator

import jax
import jaxtyping
import pytest
from checked import checked
from programs import remember_programs

jaxtyping.jaxtyped = checked  # before any module of t5like is imported

from t5like import config  # noqa: E402
from t5like.cli import run  # noqa: E402
from t5like.model.sharding import make_mesh  # noqa: E402
from t5like.xla import set_for_cpu_devices  # noqa: E402

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
if jax.__version_info__ < (0, 11):
    # Of two emitters of fused loops the older compiles a step in half the time, and a small program as a whole does in
    # two thirds of the time that its 32 parts take.
    flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
set_for_cpu_devices(8)
jax.config.update("jax_platforms", "cpu")  # libtpu, where it is installed to plan, would look for a TPU
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_enable_compilation_cache", False)  # what XLA reads back for several CPU devices may hang
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)  # programs are compiled often here and run once
remember_programs()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files with most slow tests first, so that two workers end together: under `--dist loadfile` each file is
    one worker's, which makes its fixtures and programs once."""
    slow = collections.Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish() -> None:
    """Leaves what was imported, which is most of what lives, out of every search for garbage, and searches seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture
def mesh():
    """Eight devices, two along each of data, fsdp and tensor."""
    mesh = make_mesh(config.Mesh(data=2, fsdp=2, tensor=2))
    with jax.set_mesh(mesh):
        yield mesh


@pytest.fixture
def one_device():
    mesh = make_mesh(config.Mesh(fsdp=1), jax.devices()[:1])
    with jax.set_mesh(mesh):
        yield mesh


@pytest.fixture
def alone() -> Iterator[None]:
    """Imports, restores and trainings take one device, for what a mesh has no part in: its programs compile fastest."""
    from golden_runs import on_one_device  # imports the conversions too

    with on_one_device():
        yield


@pytest.fixture
def say(capsys) -> Callable[..., str]:
    """Carries out a command in this process and returns what it printed."""

    def said(*words: object) -> str:
        capsys.readouterr()
        run([str(word) for word in words])
        return capsys.readouterr().out

    return said
