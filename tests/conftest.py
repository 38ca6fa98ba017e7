"""Tests run on eight CPU devices, with strict promotion and every annotation checked."""

import os
from collections.abc import Callable

import jax
import pytest

from t5like import config
from t5like.cli import run
from t5like.model.sharding import make_mesh
from t5like.xla import set_for_cpu_devices

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
if jax.__version_info__ < (0, 11):  # which has two emitters of fused loops: the older compiles a step in half the time
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false"
set_for_cpu_devices(8)
jax.config.update("jax_platforms", "cpu")  # libtpu, where it is installed to plan, would look for a TPU
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_enable_compilation_cache", False)  # what XLA reads back for several CPU devices may hang
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)  # programs are compiled often here and run once
WIDE = ("class", "module", "package", "session")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups the tests that share a fixture wider than a test, so that under `--dist loadgroup` one worker makes it and
    no second one again. Each value of a parametrised fixture is a group of its own; other tests balance the load."""
    for item in items:
        if groups := sorted(_shared(item)):
            item.add_marker(pytest.mark.xdist_group(" ".join(groups)))


def _shared(item: pytest.Item) -> set[str]:
    """The files of the tests that own wide fixtures of a test, `tests/test_golden.py bert` where one has values."""
    values = item.callspec.params if hasattr(item, "callspec") else {}
    found = {name: made[-1] for name, made in item._fixtureinfo.name2fixturedefs.items()}
    wide = {name: made.baseid for name, made in found.items() if made.baseid and made.scope in WIDE}
    return {f"{file} {values[name]}" if name in values else file for name, file in wide.items()}


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
def say(capsys) -> Callable[..., str]:
    """Carries out a command in this process and returns what it printed."""

    def said(*words: object) -> str:
        capsys.readouterr()
        run([str(word) for word in words])
        return capsys.readouterr().out

    return said
