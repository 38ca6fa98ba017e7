"""Flags of XLA: set for several CPU devices, and never over what is set already."""

import pytest

from t5like.xla import SEVERAL_CPU_DEVICES, TPU, set_flags

EIGHT = "--xla_force_host_platform_device_count=8"
ADDED = " ".join(f"--{name}={value}" for name, value in SEVERAL_CPU_DEVICES.items())


@pytest.mark.parametrize(
    "given",
    [{}, {"XLA_FLAGS": "--xla_dump_to=x"}, {"XLA_FLAGS": EIGHT.replace("8", "1")}, {"JAX_NUM_CPU_DEVICES": ""}],
)
def test_a_process_of_one_device_is_left_alone(given):
    set_flags(kept := dict(given))
    assert kept.pop("LIBTPU_INIT_ARGS")
    assert kept == given


def test_the_tpus_compiler_gets_its_flags_and_keeps_those_that_are_set():
    (name, value), *_ = TPU.items()
    set_flags(kept := {"LIBTPU_INIT_ARGS": "--xla_tpu_some=1"})
    assert kept["LIBTPU_INIT_ARGS"].split()[:2] == ["--xla_tpu_some=1", f"--{name}={value}"]
    set_flags(kept := {"LIBTPU_INIT_ARGS": f"--{name}=7"})
    assert kept["LIBTPU_INIT_ARGS"].split()[0] == f"--{name}=7"
    assert f"--{name}={value}" not in kept["LIBTPU_INIT_ARGS"]


@pytest.mark.parametrize("given", [{"XLA_FLAGS": EIGHT}, {"JAX_NUM_CPU_DEVICES": "8"}])
def test_several_cpu_devices_get_a_pool_that_cannot_lock_up(given):
    set_flags(kept := dict(given))
    assert kept["XLA_FLAGS"] == " ".join(filter(None, (given.get("XLA_FLAGS"), ADDED)))


def test_what_is_set_already_stays():
    own = f"{EIGHT} --xla_cpu_multi_thread_eigen=true"
    set_flags(kept := {"XLA_FLAGS": own})
    assert kept["XLA_FLAGS"].startswith(own)
    assert "--xla_cpu_multi_thread_eigen=false" not in kept["XLA_FLAGS"]
