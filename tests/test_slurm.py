"""launch/slurm.sh on a real Slurm of one node: two tasks train one model, and come back after the end of their time."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest
from command_line import CONFIGS, PROGRAM, ROOT, environment
from slurm_cluster import Cluster, missing, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "-")]
FLAGS = {
    "data.sources.0.kind": "text",
    "data.sources.0.document": "line",
    "data.vocabulary.kind": "bytes",
    "data.vocabulary.size": 259,
    "data.vocabulary.sentinels": 11,
    "data.length": 32,
    "data.held_out": 0.2,
    "model.vocab": 384,
    "model.encoder_layers": 1,
    "model.decoder_layers": 1,
    "model.embed": 32,
    "mesh.data": 2,
    "train.steps": 5_000,
    "train.batch": 8,
    "train.log_every": 1,
    "train.tensorboard": False,
    "eval.rows": 8,
    "eval.batch": 8,
}


@pytest.fixture
def cluster(tmp_path_factory):
    started = Cluster(tmp_path_factory.mktemp("slurm"))
    yield started
    started.stop()


@pytest.fixture
def checkout(tmp_path) -> pathlib.Path:
    """The files that a job needs, and a .venv that runs the package under test."""
    root = tmp_path / "checkout"
    for folder in ("launch", "constraints"):
        shutil.copytree(ROOT / folder, root / folder)
    shutil.copy(ROOT / "setup.py", root)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "t5like-python").write_text(f"{version}\n")
    names = f"cat setup.py constraints/python{version}.txt | cksum"
    installed = subprocess.run(names, shell=True, cwd=root, capture_output=True, text=True, check=True).stdout
    (root / ".venv" / "t5like-installed").write_text(f" {installed}")
    program = root / ".venv" / "bin" / "t5like"
    program.write_text(f"#!{sys.executable}\n{PROGRAM}\n")
    program.chmod(0o755)
    return root


def events(run: pathlib.Path) -> list[dict]:
    file = run / "events.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def steps(run: pathlib.Path) -> list[int]:
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    return [record["step"] for record in records if "loss" in record]


def test_two_tasks_train_one_run_which_goes_on_when_its_time_has_ended(cluster, checkout, tmp_path):
    text, run, log = tmp_path / "text.txt", tmp_path / "run", tmp_path / "log.txt"
    text.write_text("".join(f"line {i} says little, {i * i} times\n" for i in range(300)))
    places = {
        "data.sources.0.path": text,
        "data.store": tmp_path / "store",
        "train.directory": run,
        "train.compilation_cache": tmp_path / "cache",
    }
    flags = [f"--{name}={value}" for name, value in {**FLAGS, **places}.items()]
    variables = {**cluster.variables, **environment(), "PATH": cluster.variables["PATH"]}
    variables |= {"EXTRAS": "", "PYTHON": sys.executable, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    submit = ["sbatch", "--parsable", "--ntasks=2", f"--output={log}", "launch/slurm.sh", CONFIGS / "tiny_t5.py"]
    number = cluster.say(*submit, *flags, cwd=checkout, env=variables)
    assert number.isdecimal()

    def has(event: str) -> bool:
        return any(record["event"] == event for record in events(run))

    def trains() -> bool:
        assert cluster.job(number)["JobState"] != "FAILED", log.read_text()
        return has("started") and bool(steps(run))

    wait_for("a step", trains)
    assert events(run)[0]["devices"] == 2
    cluster.say("scancel", "--signal=INT", number)  # as Slurm does before the end of the time, by the script's --signal
    wait_for("the checkpoint", lambda: has("preempted"))
    reached = events(run)[-1]["step"]
    assert steps(run) == list(range(1, reached + 1)), "each step is logged once, by one of the tasks"
    wait_for("the queue", lambda: cluster.job(number)["JobState"] == "PENDING")
    cluster.say("scontrol", "update", f"JobId={number}", "StartTime=now")  # Slurm waits two minutes
    wait_for("the second start", lambda: has("resumed"))
    assert events(run)[-1]["step"] == reached
    cluster.say("scancel", number)
    wait_for("the end", lambda: cluster.job(number)["JobState"] == "CANCELLED")
    assert cluster.job(number)["Restarts"] == "1"
