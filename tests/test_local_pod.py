"""launch/local_pod.sh: the variables of each process, its output, its end; with a stand-in for t5like."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
from command_line import ROOT

T5LIKE = """#!/usr/bin/env bash
trap 'echo "process $JAX_PROCESS_ID saves"; exit 143' TERM
echo "$JAX_PROCESS_ID of $JAX_NUM_PROCESSES: $* on $JAX_PLATFORMS $XLA_FLAGS"
echo "$JAX_COORDINATOR_ADDRESS" > "address$JAX_PROCESS_ID"
[[ -z ${LONG:-} ]] || until [[ -e address0 && -e address1 ]]; do sleep 0.02; done
[[ -z ${FAILING:-} ]] || [[ $FAILING != "$JAX_PROCESS_ID" ]] || { echo "process $FAILING fails" >&2; exit 5; }
[[ -z ${LONG:-} ]] || for _ in $(seq 200); do sleep 0.1; done
"""
"""Says what it was given, ends with status 5 if it is to fail, and else waits if it is to be long: both once all
have begun."""


@pytest.fixture
def checkout(tmp_path) -> pathlib.Path:
    """The script in a repository whose environment has the stand-in."""
    (tmp_path / "launch").mkdir()
    shutil.copy(ROOT / "launch" / "local_pod.sh", tmp_path / "launch")
    (tmp_path / "launch" / "environment.sh").touch()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "t5like").write_text(T5LIKE)
    (tmp_path / "bin" / "t5like").chmod(0o755)
    return tmp_path


def begin(checkout: pathlib.Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    path = f"{checkout / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "LOGS": str(checkout / "logs"), "XLA_FLAGS": "--given", **variables}
    script = ["bash", str(checkout / "launch" / "local_pod.sh"), *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(script, text=True, env=environment, **pipes)


def test_each_process_has_its_number_and_its_devices(checkout):
    process = begin(checkout, "3", "preset.py", "--train.steps", "7", DEVICES="4")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    rest = "of 3: train preset.py --train.steps 7 on cpu --given --xla_force_host_platform_device_count=4\n"
    assert out == f"0 {rest}"
    assert [(checkout / "logs" / f"process{number}.log").read_text() for number in (1, 2)] == [f"1 {rest}", f"2 {rest}"]
    addresses = {(checkout / f"address{number}").read_text() for number in range(3)}
    assert len(addresses) == 1 and addresses.pop().startswith("127.0.0.1:")


def test_the_tiny_t5_is_trained_without_a_preset(checkout):
    out, _ = begin(checkout, "1", "--train.steps=7", COMMAND="eval").communicate(timeout=60)
    assert out.startswith("0 of 1: eval configs/tiny_t5.py --train.steps=7 on cpu")


@pytest.mark.parametrize("failing", ["0", "1"])
def test_the_failure_of_one_ends_all_with_its_status(checkout, failing):
    process = begin(checkout, "2", FAILING=failing, LONG="1")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 5
    assert f"process {failing} fails" in err
    assert f"process {1 - int(failing)} saves" in out + err


def test_an_interruption_reaches_all(checkout):
    process = begin(checkout, "2", LONG="1")
    while not all((checkout / f"address{number}").exists() for number in range(2)):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "process 0 saves" in out and "process 1 saves" in err


@pytest.mark.parametrize("words", [[], ["configs/tiny_t5.py"], ["0"]])
def test_the_number_of_processes_comes_first(checkout, words):
    process = begin(checkout, *words)
    assert process.communicate(timeout=60)[1].startswith("Give the number of processes first: bash launch/local_pod.sh")
    assert process.returncode == 2
