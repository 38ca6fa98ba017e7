"""Branches: a new run that goes on from a step of another with other settings, its optimizer state and its data."""

import json
import pathlib

import jax
import numpy as np
import pytest
from settings import sentence
from small import assert_trees_close, replace
from starts import BYTES, LEARNED, run_config, write_texts

from t5like.cli import COMMANDS, run
from t5like.config import Config, presets
from t5like.data.rows.stream import Rows, training_stream
from t5like.data.vocabulary import open_vocabulary
from t5like.model.sharding import make_mesh
from t5like.runs.changes import acquire
from t5like.runs.checkpoints import Checkpoints
from t5like.runs.directory import RunDirectory
from t5like.train import loop, steps
from t5like.train.state import make_training


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> pathlib.Path:
    return write_texts(tmp_path_factory.mktemp("texts"))["first"]


@pytest.fixture
def source(text, tmp_path) -> Config:
    """A run that has got to step 4, by the names of its folders."""
    config = run_config(text, tmp_path / "run", train__steps=4, data__vocabulary=BYTES, optimizer__schedule="linear")
    for step in (2, 4):
        (tmp_path / "run" / "checkpoints" / str(step) / "state").mkdir(parents=True)
    presets.write(config, tmp_path / "run")
    return config


@pytest.fixture
def branched(source, monkeypatch):
    """The config of the branch that flags make of the run."""
    made = []
    monkeypatch.setitem(COMMANDS, "branch", COMMANDS["branch"]._replace(function=lambda *given: made.append(given[0])))

    def config_of(*flags, run_of=source.train.directory):
        run(["branch", run_of, *map(str, flags)])
        return made.pop()

    return config_of


def test_a_branch_goes_on_with_the_data_where_the_run_was(source, branched):
    directory = source.train.directory
    own = {"directory": f"{directory}_at_2", "branch_from": f"{directory}/checkpoints/2"}
    assert branched("--at", 2) == replace(source, train=replace(source.train, **own))
    config = branched("--at", 2, "--train.batch", 16, "--train.directory", "other")
    assert (config.train.batch, config.train.row_offset, config.train.directory) == (16, -16, "other")
    assert 2 * source.train.batch == 2 * 16 - 16
    again = replace(config, train=replace(config.train, directory=directory, row_offset=8, batch=4, branch_from=""))
    presets.write(again, pathlib.Path(directory))
    assert branched("--at", 2, "--train.batch", 8).train.row_offset == 8 + 2 * (4 - 8)


def test_a_branch_has_the_other_settings_and_the_end_of_the_schedule(source, branched):
    config = branched("--optimizer.learning_rate", 0.5, "--train.steps", 8, "--optimizer.final", 0.1)
    assert config.train.branched_at == 4
    assert (config.optimizer.learning_rate, config.optimizer.schedule_steps) == (0.5, 4)
    config = branched("--train.steps", 8, "--optimizer.schedule_steps", 8, "--optimizer.schedule", "cosine")
    assert (config.optimizer.schedule, config.optimizer.schedule_steps) == ("cosine", 8)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            [],
            "train.steps=4 is not above 4, the step at which the branch starts: give a larger --train.steps, or --at ",
        ),
        (["--at", "3"], "--at 3 is not there: {run} has checkpoints of the steps 2, 4."),
        (["--at", "x"], "--at x is not there: {run} has checkpoints of the steps 2, 4."),
        (
            ["--at=2", "--model.mlp", "9", "--optimizer.name=lion"],
            "{run} belongs to a run with another model.mlp (64 there, 9 now), optimizer.name ('adafactor' there, "
            "'lion' now): keep that in a branch, or start anew from its parameters by train.init_from.",
        ),
        (["--at=2", "--train.directory={run}"], "train.directory={run} is the run's own directory: choose another one"),
        (
            ["--at=2", "--train.steps=8"],
            "optimizer.schedule='linear' ends at step 4 with a rate of 0, so the steps up to",
        ),
    ],
)
def test_a_branch_that_cannot_be_is_refused_in_a_sentence(flags, expected, source):
    there = source.train.directory
    said = sentence(run, ["branch", there, *(flag.format(run=there) for flag in flags)])
    assert said.startswith(expected.format(run=there)), said
    assert [path.name for path in pathlib.Path(there).parent.iterdir()] == ["run"]


def test_a_branch_is_not_mixed_with_another_one(source, branched, tmp_path):
    first = branched("--at", 2, "--optimizer.learning_rate", 0.5)
    (tmp_path / "run_at_2" / "checkpoints" / "3" / "state").mkdir(parents=True)
    presets.write(first, tmp_path / "run_at_2")
    assert branched("--at", 2, "--optimizer.learning_rate", 0.5, "--train.log_every", 7).train.log_every == 7
    assert sentence(branched, "--at", 2, "--optimizer.learning_rate", 0.6) == (
        f"{tmp_path}/run_at_2 belongs to a run with another optimizer.learning_rate (0.5 there, 0.6 now): choose "
        "another train.directory for this one."
    )


def test_a_branch_on_other_text_keeps_the_vocabulary_of_its_run(source, branched, tmp_path):
    learned = replace(source, data=replace(source.data, vocabulary=LEARNED))
    presets.write(learned, tmp_path / "run")
    assert branched("--at", 2).data == learned.data
    other = branched("--at", 2, "--data.held_out", 0.3).data.vocabulary
    assert (other.kind, other.path, other.extra) == ("file", f"{tmp_path}/run/vocabulary", LEARNED.extra)


def test_the_refusal_of_a_changed_run_names_the_branch_that_has_the_changes(source):
    directory = source.train.directory
    changed = replace(source, train=replace(source.train, batch=16), data=replace(source.data, seed=3))
    assert sentence(acquire, RunDirectory(pathlib.Path(directory)), changed) == (
        f"{directory} belongs to a run with another data.seed (0 there, 3 now), train.batch (8 there, 16 now): choose "
        "another train.directory, or go on from it in a new folder by "
        f"`t5like branch {directory} --data.seed 3 --train.batch 16`."
    )
    changed = replace(changed, model=replace(source.model, mlp=32))
    assert sentence(acquire, RunDirectory(pathlib.Path(directory)), changed).endswith(", or delete that folder.")


def test_a_config_starts_from_one_checkpoint(source):
    from_one = {"init_from": "a", "branch_from": "b/checkpoints/3"}
    assert sentence(replace, source.train, **from_one).endswith("are both set: a run starts from one of them.")
    assert sentence(replace, source.train, branch_from="runs/x") == (
        "train.branch_from=runs/x must be a checkpoint, such as runs/x/checkpoints/500."
    )


@pytest.mark.slow
def test_a_branch_without_changes_is_the_undisturbed_run_and_one_with_another_batch_reads_on(
    text, tmp_path, say, monkeypatch, alone
):
    changes = dict(train__steps=4, train__save_every=2, optimizer__schedule="linear", mesh__data=1)
    settings = run_config(text, tmp_path / "run", **changes)
    loop.train(settings)
    said = say("branch", tmp_path / "run", "--at", 2, "--train.log_every", 2)
    assert f"Going on from {tmp_path}/run, step 2: " in said
    assert f"Otherwise than in {tmp_path}/run: train.log_every (1 there, 2 now).\n" in said
    ends = [state_of(settings, tmp_path / name) for name in ("run", "run_at_2")]
    assert_trees_close(*ends, rtol=0)
    (event, *_) = (json.loads(line) for line in (tmp_path / "run_at_2" / "events.jsonl").read_text().splitlines())
    assert (event["event"], event["step"], event["branch_from"]) == ("started", 2, f"{tmp_path}/run/checkpoints/2")
    assert "run_at_2 is finished" in say("branch", tmp_path / "run", "--at", 2, "--train.log_every", 2)
    streams = []

    def recorded(*given):
        streams.append(given)
        return training_stream(*given)

    monkeypatch.setattr(steps, "training_stream", recorded)
    say("branch", tmp_path / "run", "--at", 2, "--train.batch", 16, "--train.directory", tmp_path / "wide")
    first = next(training_stream(*streams[0]))
    rows = Rows(settings.data, open_vocabulary(tmp_path / "run" / "vocabulary"), "train")(np.arange(16, 32))
    assert all((first[name] == rows[name]).all() for name in rows)
    shown = [say("inspect", tmp_path / name, "--step", step, "--json") for name, step in (("wide", 3), ("run", 3))]
    assert shown[0].splitlines()[:8] == shown[1].splitlines()
    said = sentence(run, ["inspect", str(tmp_path / "wide"), "--step", "2"])
    assert said.startswith("--step 2 is before this run began, at step 3: inspect the run that ")
    said = sentence(run, ["branch", str(tmp_path / "run"), "--at", "2", "--optimizer.weight_decay", "0.1"])
    assert said.startswith(f"{tmp_path}/run_at_2 belongs to a run with another optimizer.weight_decay")
    decayed = ["--optimizer.weight_decay", "0.1", "--train.directory", str(tmp_path / "decayed")]
    said = sentence(run, ["branch", str(tmp_path / "run"), "--at", "2", *decayed])
    assert said.startswith(f"The optimizer state of {tmp_path}/run/checkpoints/2 is not that of these settings")


def state_of(settings: Config, folder: pathlib.Path):
    """The state of the newest checkpoint."""
    mesh = make_mesh(settings.mesh)
    with jax.set_mesh(mesh), Checkpoints(folder / "checkpoints") as checkpoints:
        return jax.device_get(checkpoints.restore(make_training(settings, mesh).abstract))
