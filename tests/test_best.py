"""The best checkpoint of a run: it is the best, it stays and is used, and a run that gets no better ends."""

import json
import pathlib
import signal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_runs import on_one_device
from settings import sentence
from small import replace
from starts import run_config, write_texts

from t5like.config import Config, Train
from t5like.errors import InterruptedRunError
from t5like.model.sharding import make_mesh
from t5like.runs.best import after, best_of, choose, require_figure, shall_be_low
from t5like.runs.checkpoints import Checkpoints, State
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import open_run
from t5like.train.guard import Asked, PreemptionHandler
from t5like.train.loop import train
from t5like.train.selection import Selection
from t5like.train.state import make_training

LAST = 8
BEST = dict(
    optimizer__name="adamw",
    optimizer__learning_rate=0.5,
    optimizer__warmup=LAST,  # so that it learns first, and forgets later
    train__best="text_loss",
    train__patience=3,
    train__ema=0.5,
    train__keep=1,
    eval__every=1,
    eval__ema=True,
    mesh__data=1,
)


def run_of(folder: pathlib.Path, values: dict[int, float], steps: list[int]) -> RunDirectory:
    """A run directory with evaluations by accuracy, and checkpoints of some steps."""
    for step in steps:
        (folder / "checkpoints" / str(step) / "state").mkdir(parents=True)
    lines = [{"step": step, "eval/accuracy": value, "loss": 1.0} for step, value in values.items()]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return RunDirectory(folder)


def test_losses_shall_be_low_and_scores_high():
    low = ("loss", "text_loss", "reviews/loss", "perplexity", "bits_per_byte")
    assert all(map(shall_be_low, low))
    assert not any(map(shall_be_low, ("accuracy", "f1", "bleu", "loss/accuracy", "exact_match")))


def test_the_best_is_the_first_of_equals_and_never_nan():
    best = None
    for step, value in enumerate([np.nan, 2.0, 1.0, 1.0, np.nan, 1.5], 1):
        best = after(best, "loss", step, value)
    assert best == ("loss", 3, 1.0, 3)
    assert after(best, "accuracy", 7, 1.1) == ("accuracy", 7, 1.1, 0)


def test_an_evaluation_without_a_checkpoint_counts_but_is_not_best():
    """Those of a step whose checkpoint a kill prevented, or of a run that had another figure so far."""
    values = {1: 0.5, 2: 0.9, 3: 0.6, 4: 0.4}
    assert best_of("accuracy", values, [1, 3]) == ("accuracy", 3, 0.6, 1)
    assert best_of("accuracy", values, [1, 4]) == ("accuracy", 1, 0.5, 3)
    assert best_of("accuracy", {1: np.nan}, [1]) is None


def test_a_command_takes_the_best_or_the_newest_or_the_step_that_it_is_told(tmp_path):
    run = run_of(tmp_path, {2: 0.5, 4: 0.7, 6: 0.6, 8: 0.8}, [4, 6])  # killed before the checkpoint of step 8
    assert choose(run, "accuracy") == (4, "the best accuracy, 0.7")
    assert choose(run, "accuracy", "best").step == 4
    assert choose(run, "accuracy", "newest") == (6, "the newest")
    assert choose(run, "accuracy", 6) == (6, "")
    assert choose(run, "") == (6, "")
    assert choose(run, "f1") == (6, "the newest")
    assert "has no best checkpoint" in sentence(choose, run, "", "best")
    assert "holds no checkpoint" in sentence(choose, RunDirectory(tmp_path / "none"), "")


def test_a_resumed_run_knows_the_best_of_the_steps_that_it_keeps(tmp_path):
    run = run_of(tmp_path, {2: 0.5, 4: 0.7, 6: 0.6, 8: 0.8}, [4, 6])
    settings = Train(directory=str(tmp_path), steps=10, batch=1, best="accuracy", patience=2)
    selection = Selection(settings, run, 6)
    assert selection.best == ("accuracy", 4, 0.7, 1)
    assert not selection.over
    assert not selection.owes(6, 2, 10)
    assert Selection(settings, run_of(tmp_path / "cut", {2: 0.5}, [4]), 4).owes(4, 2, 10)
    assert not Selection(settings, run_of(tmp_path / "branch", {}, [6]), 4).owes(4, 2, 10)
    assert not selection.add(8, {"accuracy": 0.7})
    assert selection.over
    assert "'f1' is no figure of the evaluation; there are accuracy, loss." in sentence(
        require_figure, "f1", ["loss", "accuracy"]
    )


def test_the_best_checkpoint_stays_beside_the_newest(tmp_path, one_device):
    with Checkpoints(tmp_path / "checkpoints", 2) as checkpoints:
        for step, best in ((1, 1), (2, 1), (3, 1), (4, 1), (5, 5), (6, 5), (7, 5)):
            checkpoints.save(State(jnp.int32(step), {"w": jnp.ones(2)}, {"v": jnp.ones(2)}), step, best)
            checkpoints.wait()
            if step == 4:
                assert checkpoints.steps() == [1, 3, 4]
        assert checkpoints.steps() == [5, 6, 7]


def evaluated(run: pathlib.Path) -> dict[int, float]:
    """All that a run has logged, those before its first checkpoint that is left too."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["eval/text_loss"] for line in lines if "eval/text_loss" in line}


def events(run: pathlib.Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def newest(settings: Config) -> State:
    mesh = make_mesh(settings.mesh)
    with jax.set_mesh(mesh), Checkpoints(pathlib.Path(settings.train.directory) / "checkpoints") as checkpoints:
        return jax.device_get(checkpoints.restore(make_training(settings, mesh).abstract))


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> dict[str, pathlib.Path]:
    return write_texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def whole(texts, tmp_path_factory) -> Config:
    """A run by epochs that gets worse and is not disturbed."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    settings = run_config(texts["first"], directory, **BEST, train__steps=0, train__epochs=0.05)
    with on_one_device():
        train(settings)
    return RunDirectory(directory).config()


@pytest.mark.slow
def test_a_run_that_gets_worse_keeps_its_best_and_ends_early(whole, say, alone):
    run, values = pathlib.Path(whole.train.directory), evaluated(pathlib.Path(whole.train.directory))
    best = min(values, key=lambda step: values[step])
    assert list(values) == list(range(1, best + 4))
    assert best > 1 and best + 3 < whole.train.steps
    assert RunDirectory(run).steps() == [best, best + 3]
    ended = events(run)[-1]
    assert (ended["event"], ended["step"], ended["stopped"], ended["best"]["step"]) == (
        *("finished", best + 3, "patience"),
        best,
    )
    assert f"is finished: step {best + 3} of {whole.train.steps}, the best text_loss" in say("train", run)
    said = say("eval", run)
    assert said.startswith(f"{run}, step {best} (the best text_loss, {values[best]:.4g}, averaged), ")
    figures = json.loads((run / "eval.json").read_text())
    assert figures["text_loss"] == pytest.approx(values[best], rel=1e-6)
    said = say("eval", run, "--step", "newest", "--eval.ema", "False")
    assert said.startswith(f"{run}, step {best + 3} (the newest), ")


@pytest.mark.slow
def test_interrupted_by_steps_is_uninterrupted_by_epochs(whole, texts, tmp_path, monkeypatch, alone):
    """Stopped between saving and evaluating a step: parameters, averages, optimizer, figures, checkpoints."""
    run = tmp_path / "run"
    settings = run_config(texts["first"], run, **BEST, train__steps=whole.train.steps)
    stops = [2]
    monkeypatch.setattr(PreemptionHandler, "after", lambda self, step: Asked(signal.SIGTERM if step in stops else None))
    while stops:
        with pytest.raises(InterruptedRunError):
            train(settings)
        stops.pop(0)
    train(settings)
    there = pathlib.Path(whole.train.directory)
    assert evaluated(run) == evaluated(there)
    assert RunDirectory(run).steps() == RunDirectory(there).steps()
    assert events(run)[-1]["best"] == events(there)[-1]["best"]
    for a, b in zip(jax.tree.leaves(newest(settings)), jax.tree.leaves(newest(whole)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_averaged_parameters_are_read_alone_and_are_missing_where_none_are_kept(whole, tmp_path):
    state, step = newest(whole), RunDirectory(pathlib.Path(whole.train.directory)).steps()[-1]
    with open_run(whole, step) as restored:
        averages, read = jax.tree.leaves(state.opt_state.average), jax.tree.leaves(jax.device_get(restored.params))
    for a, b in zip(averages, read, strict=True):
        np.testing.assert_array_equal(a, b)
    with open_run(replace(whole, eval=replace(whole.eval, ema=False)), step) as restored:
        read = jax.tree.leaves(jax.device_get(restored.params))
    for a, b in zip(jax.tree.leaves(state.params), read, strict=True):
        np.testing.assert_array_equal(a, b)
