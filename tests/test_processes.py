"""Several processes, as on the hosts of a pod, do what one does. Each test or fixture starts one group of them."""

import json
import pathlib
import shutil
import signal
import socket
import subprocess
from typing import Any

import pytest
from command_line import PROGRAM, command, environment
from starts import run_config, write_texts

from t5like.config import presets
from t5like.runs.directory import RunDirectory

pytestmark = pytest.mark.slow
SEVERAL = """
import json, sys
import numpy as np
from t5like.cli import run
from t5like.xla import set_flags
set_flags()
for words in json.loads(sys.argv[1]):
    run(words)
    print("---", flush=True)
"""
"""A program of several command lines, which saves starts."""
APART = """
import jax
import os
from t5like.processes.batches import GlobalBatches, replicated

os.dup2(2, 1)  # where Gloo writes
devices = np.array(jax.devices()).reshape(2, 2).T.ravel()  # every other row of devices is of the same process
mesh = jax.sharding.Mesh(devices, "data")
to_global = GlobalBatches(jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")), 8)
batch = np.arange(24, dtype=np.int32).reshape(8, 3)
first = 2 * jax.process_index()
assert to_global.local_rows.tolist() == [first, first + 1, first + 4, first + 5], to_global.local_rows
whole = jax.jit(lambda x, y: x - y, out_shardings=replicated(mesh, batch).sharding)
assert not np.any(whole(to_global({"x": batch[to_global.local_rows]})["x"], replicated(mesh, batch)))
"""
"""On a mesh whose devices are not in the order of their processes, a batch is made of the rows that each has."""
PROMPTS = ["--prompt=the model", "--prompt=a line of", "--prompt=it", "--tokens=6", "--batch=2"]
CHOICES = ["--temperature=1"], ["--num_beams=3", "--num_return_sequences=2", "--scores", "--json"]
DEVICES = 4
"""Of all processes together."""


def start(words: list[list[str]], program: str = PROGRAM, **variables: str) -> list[subprocess.Popen[str]]:
    """The processes of a group, which share four devices, from the words of each."""
    count = len(words)
    with socket.create_server(("", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
    shared = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count)}
    shared = environment(DEVICES // count) | shared | variables
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [
        subprocess.Popen(command(*own, program=program), env=shared | {"JAX_PROCESS_ID": str(number)}, **pipes)
        for number, own in enumerate(words)
    ]


def finish(processes: list[subprocess.Popen[str]], status: int = 0) -> list[tuple[str, str]]:
    """What each process wrote to standard output and standard error; all end with this status."""
    try:
        said = [process.communicate(timeout=600) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [status] * len(processes), said
    return said


def carry_out(count: int, *commands: list[Any], then: str = "") -> list[str]:
    """What process 0 printed for each of the commands; the others print nothing."""
    words = json.dumps([list(map(str, words)) for words in commands])
    (first, _), *others = finish(start([[words]] * count, SEVERAL + then))
    assert [out for out, _ in others] == ["---\n" * len(commands)] * (count - 1)
    return first.split("---\n")[:-1]


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> pathlib.Path:
    return write_texts(tmp_path_factory.mktemp("texts"))["first"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """All runs lie beside one store, which the first group prepares."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(folder, texts):
    """Makes a run directory that holds a config of 6 steps, and returns its path."""

    def made(name: str, **changes: Any) -> pathlib.Path:
        changes = {
            "mesh__fsdp": 2,
            "train__steps": 6,
            "train__save_every": 3,
            "eval__every": 3,
            "eval__rows": 12,
        } | changes
        changes |= {"train__tensorboard": True}
        (folder / name).mkdir()
        presets.write(run_config(texts, folder / name, **changes), folder / name)
        return folder / name

    return made


def generations(path: pathlib.Path) -> list[list[str | pathlib.Path]]:
    """The commands that write answers: sampled ones, and those of beams with their scores."""
    return [["generate", path, *PROMPTS, *choice] for choice in CHOICES]


@pytest.fixture(scope="module")
def of_two(run, folder) -> tuple[pathlib.Path, list[str]]:
    """A run of two processes, and what it, its evaluation and its generation printed."""
    path = run("two")
    return path, carry_out(2, ["train", path], ["eval", path], *generations(path), then=APART)


def from_step_3(path: pathlib.Path, name: str) -> pathlib.Path:
    """A copy of a run as it was when it had saved step 3, before it was evaluated."""
    copy = path.parent / name
    shutil.copytree(path, copy)
    shutil.rmtree(copy / "checkpoints" / "6")
    return copy


@pytest.fixture(scope="module")
def of_one(run, of_two) -> tuple[pathlib.Path, list[str]]:
    """The same of one process, which then goes on from step 3 of the two."""
    path = run("one")
    on = from_step_3(of_two[0], "two_then_one")
    return path, carry_out(1, ["train", path], ["eval", path], *generations(path), ["train", on])


@pytest.fixture(scope="module")
def of_four(of_two) -> pathlib.Path:
    """A run that four processes go on with from step 3 of the two."""
    path = from_step_3(of_two[0], "two_then_four")
    carry_out(4, ["train", path])
    return path


def curve(path: pathlib.Path) -> list[dict[str, float]]:
    """The metrics of a run without the times that its steps took."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    kept = [{name: x for name, x in line.items() if not name.startswith("timing/")} for line in lines]
    return [line for line in kept if len(line) > 1]


def events(path: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]


def assert_same_curve(left: pathlib.Path, right: pathlib.Path) -> None:
    """The same metrics of the same steps within 1e-6: sums over processes may be added up in another order."""
    assert [(line["step"], sorted(line)) for line in curve(left)] == [
        (line["step"], sorted(line)) for line in curve(right)
    ]
    for one, other in zip(curve(left), curve(right), strict=True):
        assert one == pytest.approx(other, rel=1e-6)


def test_two_processes_have_the_loss_curve_of_one_within_1e_6(of_one, of_two):
    assert_same_curve(of_one[0], of_two[0])
    assert [line["step"] for line in curve(of_two[0])] == [1, 2, 3, 3, 4, 5, 6, 6]
    assert events(of_two[0])[0]["processes"] == 2


@pytest.mark.parametrize("count", ["one", "four"])
def test_what_two_processes_saved_is_gone_on_with_by_one_and_by_four(of_one, of_four, of_two, folder, count):
    """So four processes too have the loss curve of one."""
    path = folder / f"two_then_{count}"
    assert_same_curve(of_two[0], path)
    assert [event["step"] for event in events(path) if event["event"] == "resumed"] == [3]


def test_evaluation_and_generation_across_processes_say_what_one_says(of_one, of_two):
    (one, (_, evaluated, sampled, searched, _)), (two, (_, *by_two)) = of_one, of_two
    assert by_two[:2] == [evaluated.replace(str(one), str(two)), sampled]
    assert sampled.count("\n") >= 3 and "perplexity" in evaluated
    answers = [[json.loads(line) for line in text.splitlines()] for text in (searched, by_two[2])]
    for ours, theirs in zip(*answers, strict=True):
        assert ours["answer"] == theirs["answer"] and len(ours["others"]) == 1
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-4)
        assert [other["answer"] for other in ours["others"]] == [other["answer"] for other in theirs["others"]]
    figures = [json.loads((path / "eval.json").read_text()) for path in (one, two)]
    assert figures[0] == pytest.approx(figures[1], rel=1e-6)


def test_one_process_alone_writes_the_logs(of_two):
    """Every event and figure stands there once, and nothing is left of the preflight."""
    path, (said, *_) = of_two
    assert [event["event"] for event in events(path)] == ["started", "first_step", "saved", "saved", "finished"]
    assert said.count("step 6 of 6") == said.count("step 6: held-out loss") == 1
    assert len(list((path / "tensorboard").iterdir())) == 1
    names = {entry.name for entry in path.iterdir()}
    assert names == {
        *("checkpoints", "config.json", "eval.json", "events.jsonl", "metrics.jsonl", "store.json"),
        *("tensorboard", "vocabulary"),
    }


def test_a_signal_to_one_process_saves_the_same_step_on_all(run, of_two):
    """Whichever it was sent to; both end as the signal asks."""
    path = run("stopped", train__steps=100_000, train__save_every=100_000, eval__every=100_000, train__log_every=2)
    processes = start([["train", str(path)]] * 2)
    out = processes[0].stdout
    assert out is not None
    assert any(line.startswith("step 4 of") for line in out), processes[0].communicate()
    processes[1].send_signal(signal.SIGTERM)
    said = finish(processes, 128 + signal.SIGTERM)
    (last,) = RunDirectory(path).steps()
    assert events(path)[-1]["event"] == "preempted" and events(path)[-1]["step"] == last
    sentence = f"t5like: SIGTERM at step {last}; the state is saved, and the same command goes on from there."
    assert [err.splitlines()[-1] for _, err in said] == [sentence, sentence]
