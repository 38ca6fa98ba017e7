"""Damaged and lost checkpoints: the last good one is taken, nothing is deleted, and nothing begins again by itself."""

import json
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import pytest
from test_checkpoint import flip

from t5like.errors import UserError
from t5like.runs.checkpoints import Checkpoints, DamagedCheckpointError
from t5like.runs.damage import begin_again, require_never_saved, restored_newest, with_good
from t5like.runs.directory import RunDirectory

PARAMS = {"one": {"kernel": np.arange(64.0, dtype=np.float32)}}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> pathlib.Path:
    """A run with checkpoints of the steps 1 to 3, each of whose numbers are the step's."""
    run = tmp_path_factory.mktemp("saved")
    with Checkpoints(run / "checkpoints", 9) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save_params(jax.tree.map(lambda leaf, step=step: np.full_like(leaf, step), PARAMS), step)
    return run


@pytest.fixture
def run(saved, tmp_path) -> RunDirectory:
    shutil.copytree(saved, tmp_path / "run")
    (tmp_path / "run" / "events.jsonl").write_text('{"event": "saved", "step": 3}\n')
    return RunDirectory(tmp_path / "run")


def damage(run: RunDirectory, step: int) -> None:
    flip(max((run.checkpoints / str(step)).glob("state/d/*"), key=lambda file: file.stat().st_size))


def read(checkpoints: Checkpoints, step: int) -> int:
    """The number that the parameters of a step have everywhere."""
    _, params = checkpoints.restore_params(jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), PARAMS), step)
    return int(params["one"]["kernel"][0])


def names(run: RunDirectory) -> list[str]:
    return sorted(path.name for path in run.checkpoints.iterdir())


def events(run: RunDirectory) -> list[dict[str, Any]]:
    lines = (run.path / "events.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines]


def test_training_renames_what_is_damaged_and_takes_the_last_good_checkpoint(run, capsys):
    damage(run, 3)
    shutil.rmtree(run.checkpoints / "2" / "state")
    (run.checkpoints / "2.damaged").mkdir()
    (run.checkpoints / "999").mkdir()
    (run.checkpoints / "7").write_text("")
    with Checkpoints(run.checkpoints, 9) as checkpoints:
        assert restored_newest(checkpoints, lambda step: read(checkpoints, step)) == (1, 1)
        checkpoints.save_params(PARAMS, 2)
        assert checkpoints.steps() == run.steps() == [1, 2]
    assert names(run) == ["1", "2", "2.damaged", "2.damaged.2", "3.damaged", "7.damaged", "999.damaged"]
    told = events(run)[1:]
    assert [(each["event"], each["step"], each["renamed"]) for each in told] == [
        ("damaged", 7, "7.damaged"),
        ("damaged", 999, "999.damaged"),
        ("damaged", 3, "3.damaged"),
        ("damaged", 2, "2.damaged.2"),
    ]
    assert told[1]["reason"] == "it is empty" and "other bytes than were written" in told[2]["reason"]
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4 and f"{run.checkpoints / '3'} is damaged ({told[2]['reason']}): renamed to 3.damaged." in said


def test_without_a_good_checkpoint_training_stops_and_names_the_flag(run):
    for step in (1, 2, 3):
        damage(run, step)
    with Checkpoints(run.checkpoints, 9) as checkpoints, pytest.raises(UserError) as raised:
        restored_newest(checkpoints, lambda step: read(checkpoints, step))
    said = str(raised.value)
    assert said.startswith(f"{run.path} saved step 3, as its logs say, but {run.checkpoints} holds no good checkpoint ")
    assert "(1.damaged, 2.damaged, 3.damaged there are damaged)" in said and "--from_scratch" in said


def test_commands_that_read_pass_over_what_is_damaged_and_leave_it(run, capsys):
    damage(run, 3)
    (run.checkpoints / "999").mkdir()
    with Checkpoints(run.checkpoints) as checkpoints:
        chosen, found = with_good(run, "", None, lambda step: read(checkpoints, step))
        assert (chosen.step, found) == (2, 2) and chosen.why == "the newest of those that are good"
        with pytest.raises(DamagedCheckpointError, match="3 is damaged"):
            with_good(run, "", 3, lambda step: read(checkpoints, step))
        damage(run, 2)
        damage(run, 1)
        with pytest.raises(UserError, match=r"holds no good checkpoint: 1, 2, 3 cannot be read"):
            with_good(run, "", None, lambda step: read(checkpoints, step))
    assert names(run) == ["1", "2", "3", "999"]
    said = capsys.readouterr().err
    assert said.count("\n") == 4 and f"{run.checkpoints / '3'} is damaged (" in said and "and not used." in said


def test_the_best_of_those_that_are_good_is_used(run):
    lines = [{"step": step, "eval/accuracy": value} for step, value in ((1, 0.5), (2, 0.4), (3, 0.9))]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    damage(run, 3)
    with Checkpoints(run.checkpoints) as checkpoints:
        chosen, _ = with_good(run, "accuracy", None, checkpoints.require_whole)
    assert chosen == (1, "the best accuracy, 0.5 of those that are good")


@pytest.mark.parametrize("lost", ["removed", "emptied"])
def test_a_run_that_has_lost_its_checkpoints_begins_again_only_if_it_is_told_to(lost, run):
    (run.path / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    (run.path / "metrics.before.jsonl").write_text("older\n")
    require_never_saved(run)
    with pytest.raises(UserError, match=r"--from_scratch is for .* has those of the steps 1, 2, 3: leave it out"):
        begin_again(run)
    shutil.rmtree(run.checkpoints)
    if lost == "emptied":
        run.checkpoints.mkdir()
    with pytest.raises(UserError, match=r"saved step 3, as its logs say, but .* no good checkpoint: put one"):
        require_never_saved(run)
    begin_again(run)
    require_never_saved(run)
    kept = {path.name: path.read_text() for path in run.path.glob("*.jsonl")}
    assert kept == {
        "metrics.before.jsonl": "older\n",
        "metrics.before.2.jsonl": '{"step": 1, "loss": 1.0}\n',
        "events.before.jsonl": '{"event": "saved", "step": 3}\n',
    }


@pytest.mark.parametrize(("events", "lost"), [(None, True), ('{"event": "started", "step": 0}\n', False)])
def test_a_run_that_was_killed_before_its_first_save_has_lost_nothing(events, lost, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 7, "loss": 1.0}\n')
    if events:
        (tmp_path / "events.jsonl").write_text(events)
    if not lost:
        require_never_saved(RunDirectory(tmp_path))
        return
    with pytest.raises(UserError, match="took steps, as its logs say"):
        require_never_saved(RunDirectory(tmp_path))
