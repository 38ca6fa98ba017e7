"""Processes name the one that is lost, in place of JAX's stack of C++."""

import json
import pathlib
import signal
import socket
import subprocess
import time
from typing import Any

import jax
import pytest
from command_line import command, environment
from connections import connected, free_address
from starts import run_config, write_texts

from t5like.config import presets
from t5like.errors import TransientError
from t5like.processes import peers
from t5like.processes.joining import lost_after
from t5like.processes.peers import Peers

NOTICE = """
import datetime, os, pathlib, signal, sys, time
from t5like.config import presets
from t5like.processes.distributed import connection
from t5like.processes.preflight import processes
from t5like.signals import Signals, end_at_once
from t5like.train.guard import PreemptionHandler
from t5like.train.watchdog import Watchdog

folder = pathlib.Path(sys.argv[1])
config = presets.read(folder)
with Signals(end_at_once), processes(config, {}, writes=True):
    connected = connection()
    assert isinstance(getattr(signal.getsignal(signal.SIGTERM), "__self__", None), Signals)
    with Watchdog(config.train.limits, folder) as watchdog, PreemptionHandler(config.train, watchdog) as preemption:
        for step in range(1, 10**6):
            if connected.index and step == 5:  # what JAX's service keeps when it is told of a maintenance
                now = datetime.datetime.now(datetime.UTC).isoformat()
                connected.client.key_value_set("RECEIVED_PREEMPTION_NOTICE", now)
            if stop := preemption.after(step).stop:
                break
            time.sleep(0.002 * (1 + connected.index))
    print(stop.name, step, file=sys.stderr, flush=True)
    time.sleep(6)
    if connected.index == int(os.environ["VICTIM"]):
        os.kill(os.getpid(), int(os.environ["NUMBER"]))
    time.sleep(100)
"""


def test_a_silent_process_is_named_and_one_that_ended_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "BEAT", 0.2)
    monkeypatch.setattr(peers, "_take_terminations", lambda peers: None)
    monkeypatch.setattr(Peers, "_watch", lambda self: None)
    address, host = free_address(), socket.gethostname()
    with connected(address, 3) as processes:
        watching = [Peers(process, address, tmp_path) for process in processes]
        for each in reversed(watching):
            each._beat(1)
        watching[0]._beat(2)  # which sees the others' first
        time.sleep(0.6)
        for each in (watching[1], watching[0], watching[1]):
            each._beat(time.monotonic_ns())
            each._reached = time.monotonic()
        lost = f"Process 2 ({host}) is lost (killed, stopped, or without a network)"
        assert [each._lost() for each in watching[:2]] == [lost, lost]
        watching[1]._reached = 0.0
        assert str(watching[1]._lost()).startswith(f"Process 0 ({host}) is lost")
        with pytest.raises(ValueError, match="The disk"), watching[2]:
            raise ValueError("The disk is full.\nMore")
        watching[0]._beat(4)
        said = f"Process 2 ({host}) ended (The disk is full)"
        assert watching[0]._lost() == said
        with pytest.raises(TransientError, match=r"ended \(The disk is full\): the same command goes on"), watching[0]:
            raise jax.errors.JaxRuntimeError("INTERNAL: Gloo: connection closed by peer")
    (line,) = (tmp_path / "events.jsonl").read_text().splitlines()
    assert json.loads(line)["event"] == "lost" and json.loads(line)["said"] == said


def test_the_seconds_until_a_process_is_lost_are_checked(monkeypatch):
    monkeypatch.delenv("T5LIKE_LOST_SECONDS", raising=False)
    assert lost_after() == 30
    for value in ("5", "soon"):
        monkeypatch.setenv("T5LIKE_LOST_SECONDS", value)
        with pytest.raises(Exception, match=f"T5LIKE_LOST_SECONDS={value} must be a number of seconds, at least 10"):
            lost_after()


def group(folder: pathlib.Path, victim: int, number: signal.Signals) -> list[subprocess.Popen[str]]:
    """Two processes, one of which is sent a signal after both have stopped at a notice of maintenance."""
    shared = environment() | {"JAX_COORDINATOR_ADDRESS": free_address(), "JAX_NUM_PROCESSES": "2"}
    shared |= {"VICTIM": str(victim), "NUMBER": str(int(number)), "T5LIKE_LOST_SECONDS": "10"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    words = command(folder, program=NOTICE)
    return [subprocess.Popen(words, env=shared | {"JAX_PROCESS_ID": str(n)}, **pipes) for n in range(2)]


@pytest.mark.slow
def test_processes_stop_at_one_step_by_a_notice_of_maintenance_and_name_who_is_lost(tmp_path):
    """Process 1 is stopped, which the time-out of JAX notices; process 0, which has the service, is killed."""
    folders = [tmp_path / name for name in ("stopped", "killed")]
    text = write_texts(tmp_path)["first"]
    for folder in folders:
        folder.mkdir()
        presets.write(run_config(text, folder, train__directory=str(folder)), folder)
    groups = [group(folders[0], 1, signal.SIGSTOP), group(folders[1], 0, signal.SIGKILL)]
    try:
        survivors = [groups[0][0], groups[1][1]]
        said = [process.communicate(timeout=120)[1] for process in survivors]
    finally:
        for process in [*groups[0], *groups[1]]:
            process.kill()
    others = [groups[0][1].communicate()[1], groups[1][0].communicate()[1]]
    for lost, process, own, other, folder in zip((1, 0), survivors, said, others, folders, strict=True):
        assert process.returncode == 75, own
        stopped, *_, last = [line for line in own.splitlines() if "Gloo" not in line]
        assert stopped.startswith("SIGTERM ") and stopped in other
        assert last.startswith(f"t5like: Process {lost} (") and last.endswith(
            "is lost (killed, stopped, or without a network): the same command goes on from the newest checkpoint."
        )
        assert "terminate called" not in own
        event = json.loads((folder / "events.jsonl").read_text().splitlines()[-1])
        assert (
            event["event"] == "lost"
            and event["said"].startswith(f"Process {lost} ")
            and "MainThread" in event["stacks"]
        )
