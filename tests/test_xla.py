"""Flags of XLA: set for several CPU devices, and never over what is set already."""

import json
import socket
import subprocess
import sys

import pytest
from command_line import CONFIGS, ROOT, environment

from t5like.xla import SEVERAL_CPU_DEVICES, THREADS, TPU, set_flags

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
    assert int(kept["NPROC"]) == 8 * THREADS
    assert kept["XLA_FLAGS"] == " ".join(filter(None, (given.get("XLA_FLAGS"), ADDED)))


@pytest.mark.parametrize(("own", "kept"), [("2", 8 * THREADS), ("4096", 4096), ("all", 8 * THREADS)])
def test_a_pool_that_is_too_small_grows(own, kept):
    """People set NPROC for their compilers."""
    set_flags(environment := {"XLA_FLAGS": EIGHT, "NPROC": own})
    assert int(environment["NPROC"]) == kept


def test_what_is_set_already_stays():
    own = f"{EIGHT} --xla_cpu_multi_thread_eigen=true"
    set_flags(kept := {"XLA_FLAGS": own})
    assert kept["XLA_FLAGS"].startswith(own)
    assert "--xla_cpu_multi_thread_eigen=false" not in kept["XLA_FLAGS"]


STEPS = [str(ROOT / "benchmarks" / "step.py"), str(CONFIGS / "tiny_t5.py"), "train.batch=16", "--steps=2", "--json"]
JOINED = """
import os, runpy, sys
import jax

address, *numbers = (os.environ[f"JAX_{name}"] for name in ("COORDINATOR_ADDRESS", "NUM_PROCESSES", "PROCESS_ID"))
jax.distributed.initialize(address, *map(int, numbers))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), [(1, 2), (1, 8), (2, 2)])
def test_the_quick_starts_own_step_runs_on_several_cpu_devices(processes, devices):
    """It has collectives enough to take all threads of a small machine; smaller models do not hang. The fewest
    devices are tried, and as many as a host may have."""
    with socket.create_server(("", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
    shared = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(processes)}
    shared |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}  # its very program
    words = [sys.executable, *(STEPS if processes == 1 else ["-c", JOINED, *STEPS])]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    group = [
        subprocess.Popen(words, env=environment(devices) | shared | {"JAX_PROCESS_ID": str(number)}, **pipes)
        for number in range(processes)
    ]
    try:
        said = [process.communicate(timeout=300) for process in group]
    finally:
        for process in group:
            process.kill()
    assert [process.returncode for process in group] == [0] * processes, said
    figures = json.loads(said[0][0].splitlines()[-1])
    assert figures["devices"] == processes * devices
    assert 7 < figures["loss"] < 13
