"""Epochs in place of steps: they become steps once the rows are known, and nothing else."""

import math

import pytest
from settings import change, sentence, valid
from small import replace
from streams import rows_of, settings, without_rates, write_texts

from t5like import config
from t5like.cli import run
from t5like.config import presets
from t5like.optim.optimizer import make_schedule
from t5like.plan.estimate import StepTime
from t5like.plan.figures import OPEN, Budget, _times
from t5like.plan.topology import Topology
from t5like.runs.changes import acquire, with_schedule_of
from t5like.runs.directory import RunDirectory
from t5like.runs.epochs import with_steps_of, with_steps_of_epochs


def of_epochs(epochs: float, **changes) -> config.Config:
    return replace(valid(), train=replace(valid().train, steps=0, epochs=epochs, **changes))


@pytest.mark.parametrize("documents", [False, True], ids=["windows", "packs"])
def test_an_epoch_is_every_row_once(tmp_path, documents):
    data = without_rates(settings(write_texts(tmp_path), "causal", documents=documents))
    rows = rows_of(data)["train"]
    given = replace(valid(), model=replace(valid().model, vocab=512), data=data)

    def steps(**changes) -> int:
        course = replace(given.train, **{"steps": 0, "epochs": 1.0, **changes})
        return with_steps_of_epochs(replace(given, train=course), rows.vocabulary).train.steps

    assert steps() == math.ceil(rows.count / 8)
    assert steps(epochs=0.1 * 30) == math.ceil(3 * rows.count / 8)  # 3.0000000000000004
    assert steps(epochs=1e-9) == 1
    assert steps(row_offset=8) == math.ceil((rows.count - 8) / 8)
    assert steps(steps=5) == 5
    assert sum(rows.epochs(rows.count).values()) == pytest.approx(3)


def test_a_run_that_goes_on_keeps_its_steps_for_the_same_epochs(tmp_path):
    run = RunDirectory(tmp_path)
    resolved = replace(valid(), train=replace(valid().train, directory=str(tmp_path), steps=40, epochs=2.0))
    acquire(run, resolved)
    (tmp_path / "checkpoints" / "20" / "state").mkdir(parents=True)
    asked = of_epochs(2.0, directory=str(tmp_path))
    assert with_steps_of(run, asked) == run.config() == resolved
    assert acquire(run, with_schedule_of(run, with_steps_of(run, asked))) == {}
    other = of_epochs(4.0, directory=str(tmp_path))
    assert with_steps_of(run, other) == with_schedule_of(run, other) == other


def test_a_flag_of_one_takes_the_place_of_the_other(monkeypatch, tmp_path):
    from t5like.cli import COMMANDS

    given = []
    monkeypatch.setitem(COMMANDS, "train", COMMANDS["train"]._replace(function=lambda *made: given.append(made[0])))
    run(["train", "tiny_t5", "--train.epochs", "2"])
    assert (given[-1].train.steps, given[-1].train.epochs) == (0, 2.0)
    acquire(RunDirectory(tmp_path), replace(given[-1], train=replace(given[-1].train, steps=40)))
    run(["train", str(tmp_path)])
    assert (given[-1].train.steps, given[-1].train.epochs) == (40, 2.0)
    run(["train", str(tmp_path), "--train.steps=50"])
    assert (given[-1].train.steps, given[-1].train.epochs) == (50, None)
    run(["train", str(tmp_path), "--train.epochs", "3"])
    assert (given[-1].train.steps, given[-1].train.epochs) == (0, 3.0)
    said = sentence(run, ["train", "tiny_t5", "--train.epochs", "2", "--train.steps", "7"])
    assert said == "--train.steps 7 and --train.epochs 2 both say how long to train: give one of them."


def test_a_preset_sets_one_of_them(tmp_path):
    preset = tmp_path / "both.py"
    text = (presets.packaged()["tiny_t5"]).read_text()
    preset.write_text(text.replace("train=Train(", "train=Train(epochs=2.0, "))
    assert "sets train.steps=1300 and train.epochs=2.0: leave one out." in sentence(presets.load, str(preset))
    assert "train.epochs=-1.0 must be above 0" in sentence(of_epochs, -1.0)
    assert "train.steps=0 must be above 0, or train.epochs must be set." in sentence(change, "train.steps", 0)


def test_what_needs_no_steps_does_without_them(say):
    """Whether a run is valid and how much memory it takes; the schedule is checked once there are steps."""
    assert "It is a valid run: 2 epochs in steps of " in say("check", "tiny_t5", "--train.epochs", 2)
    assert float(make_schedule(config.Optimizer(schedule="cosine", warmup=5), 0)(5)) == pytest.approx(0.01)
    falls = replace(of_epochs(1.0), optimizer=config.Optimizer(schedule="cosine", warmup=5))
    assert "needs 6 steps" in sentence(replace, falls, train=replace(falls.train, steps=5))
    time = StepTime(*[1.0] * len(StepTime._fields))
    where = Topology("h100:1", None, 1)
    assert _times(falls, where, time, OPEN)["run"] is None
    assert _times(falls, where, time, Budget(tokens=1e6))["run"]["steps"] > 0
