"""A run from its config to its last checkpoint: interrupted or not, it ends with the same bits."""

import json
import pathlib
import shutil
import signal
from typing import Any

import jax
import numpy as np
import pytest
from golden_runs import on_one_device
from small import replace, small_config

from t5like import config
from t5like.config import Config
from t5like.data.rows.stream import Rows
from t5like.errors import InterruptedRunError, TransientError, UserError
from t5like.model.sharding import make_mesh
from t5like.runs.changes import writing
from t5like.runs.checkpoints import Checkpoints, State
from t5like.runs.directory import RunDirectory
from t5like.runs.skipped import rows_skipped
from t5like.train.guard import Asked, PreemptionHandler, StoppedEvaluationError
from t5like.train.loop import train
from t5like.train.state import make_training


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    words = ["the", "model", "reads", "a", "line", "of", "text", "and", "writes", "it", "again", "你好", "世界"]
    for number in range(40):
        (folder / f"{number}.txt").write_text(" ".join(rng.choice(words, 400)), "utf-8")
    return folder


def run_config(corpus: pathlib.Path, run: pathlib.Path, family: str = "gpt", **changes: Any) -> Config:
    changes = {
        "data__store": str(corpus / "store"),
        "data__sources": (config.Source(kind="text", path=str(corpus / "*.txt")),),
        "data__vocabulary": config.Vocabulary(kind="bytes", size=259, sentinels=11, extra=(config.MASK,)),
        "data__held_out": 0.2,
        "model__vocab": 384,
        "train__directory": str(run),
        "train__steps": 6,
        "train__log_every": 1,
        "train__save_every": 100,
        "train__compilation_cache": "",
        "train__tensorboard": False,
        "eval__rows": 16,
        "eval__every": 3,
        "mesh__data": 2,
        **changes,
    }
    return small_config(family, **changes)


def final_state(settings: Config) -> State:
    mesh = make_mesh(settings.mesh)
    with (
        jax.set_mesh(mesh),
        Checkpoints(RunDirectory(pathlib.Path(settings.train.directory)).checkpoints) as checkpoints,
    ):
        return jax.device_get(checkpoints.restore(make_training(settings, mesh).abstract))


def lines(run: pathlib.Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


def test_a_second_run_in_a_directory_is_refused_before_it_touches_anything(corpus, tmp_path):
    settings = run_config(corpus, tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    with writing(run):
        before = {path: path.read_bytes() for path in run.path.iterdir()}
        with pytest.raises(TransientError, match=r"run is in use by t5like train \(process \d+ on "):
            train(settings)
        assert {path: path.read_bytes() for path in run.path.iterdir()} == before and len(before) == 1
    assert not (corpus / "store").exists()


@pytest.mark.slow
def test_an_evaluation_that_a_signal_prevents_is_made_on_resumption(corpus, tmp_path, monkeypatch, capsys):
    """Between its batches, and before that of the last step, after which `finished` is still to be noted."""
    whole, parts = (run_config(corpus, tmp_path / name, eval__batch=8) for name in ("whole", "parts"))
    train(whole)

    def stop(at: int, batches: int) -> None:
        """Train until the evaluation of a step has had some batches, or the step ends where there are none."""
        handled, asked = [0], PreemptionHandler.after

        def between(self: PreemptionHandler) -> None:
            handled[0] += 1
            if handled[0] > batches > 0:
                raise StoppedEvaluationError(signal.SIGTERM)

        def after(self: PreemptionHandler, step: int) -> Asked:
            return Asked(signal.SIGTERM) if step == at and not batches else asked(self, step)

        with monkeypatch.context() as patched:
            patched.setattr(PreemptionHandler, "between_batches", between)
            patched.setattr(PreemptionHandler, "after", after)
            with pytest.raises(InterruptedRunError, match=f"SIGTERM at step {at}; the state is saved"):
                train(parts)
        assert RunDirectory(tmp_path / "parts").steps()[-1] == at

    for at, batches in ((3, 1), (3, 1), (6, 0)):  # the second time it is the owed one
        stop(at, batches)
    train(parts)
    left, right = (
        [{n: x for n, x in line.items() if not n.startswith("timing/")} for line in lines(run, "metrics.jsonl")]
        for run in (tmp_path / "whole", tmp_path / "parts")
    )
    assert [line for line in left if len(line) > 1] == [line for line in right if len(line) > 1]
    assert lines(tmp_path / "parts", "events.jsonl")[-1]["event"] == "finished"
    for a, b in zip(jax.tree.leaves(final_state(whole)), jax.tree.leaves(final_state(parts)), strict=True):
        np.testing.assert_array_equal(a, b)
    events = tmp_path / "parts" / "events.jsonl"
    events.write_text("".join(f"{line}\n" for line in events.read_text().splitlines()[:-1]))
    train(parts)  # killed between the evaluation and its last event
    assert lines(tmp_path / "parts", "events.jsonl")[-1]["event"] == "finished"
    before = events.read_text()
    train(parts)
    assert "is finished: step 6 of 6" in capsys.readouterr().out
    assert events.read_text() == before


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_bits(corpus, tmp_path):
    """Parameters, optimizer state and metrics; with dropout and over several epochs."""
    changes = dict(model__dropout=0.1, optimizer__name="adamw", optimizer__schedule="constant")
    whole = run_config(corpus, tmp_path / "whole", **changes)
    train(whole)
    first = run_config(corpus, tmp_path / "parts", train__steps=3, **changes)
    train(first)
    train(run_config(corpus, tmp_path / "parts", **changes))
    left, right = final_state(whole), final_state(run_config(corpus, tmp_path / "parts", **changes))
    assert int(left.step) == int(right.step) == 6
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_array_equal(a, b)
    metrics = ([x for x in lines(tmp_path / n, "metrics.jsonl") if not is_timing(x)] for n in ("whole", "parts"))
    assert next(metrics) == next(metrics)
    assert [e["event"] for e in lines(tmp_path / "parts", "events.jsonl")] == [
        *("started", "first_step", "saved", "finished"),
        *("resumed", "first_step", "saved", "finished"),
    ]


def is_timing(line: dict[str, Any]) -> bool:
    """Whether a line of metrics holds speeds, which no two runs have alike."""
    return any(name.startswith("timing/") for name in line)


@pytest.mark.slow
def test_a_run_may_go_on_on_another_mesh(corpus, tmp_path):
    train(run_config(corpus, tmp_path / "run", train__steps=3))
    train(run_config(corpus, tmp_path / "run", mesh__data=1, mesh__tensor=2))
    (event,) = (e for e in lines(tmp_path / "run", "events.jsonl") if e["event"] == "resumed")
    assert event["changed"] == {"mesh.data": [2, 1], "mesh.tensor": [1, 2], "train.steps": [3, 6]}


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory) -> Config:
    """A run of six steps on one device, with a checkpoint of each third."""
    settings = run_config(corpus, tmp_path_factory.mktemp("finished") / "run", mesh__data=1, train__save_every=3)
    with on_one_device():
        train(settings)
    return settings


@pytest.mark.slow
def test_metrics_that_a_kill_left_behind_its_checkpoint_are_dropped(finished, tmp_path, alone):
    run = tmp_path / "run"
    shutil.copytree(finished.train.directory, run)
    shutil.rmtree(run / "checkpoints" / "6")
    kept = [line for line in (run / "metrics.jsonl").read_text().splitlines() if json.loads(line)["step"] <= 3]
    (run / "metrics.jsonl").write_text("".join(f"{line}\n" for line in kept))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 1.0}\n{"step": 5, "lo')
    train(replace(finished, train=replace(finished.train, directory=str(run))))
    steps = [line["step"] for line in lines(run, "metrics.jsonl") if "loss" in line]
    assert steps == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_a_finished_run_changes_nothing(finished, capsys, alone):
    run = pathlib.Path(finished.train.directory)
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    train(finished)
    assert capsys.readouterr().out.endswith("is finished: step 6 of 6.\n")
    assert before == {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_only_the_newest_checkpoints_are_kept(corpus, tmp_path, alone):
    train(run_config(corpus, tmp_path / "run", train__save_every=1, train__keep=2, mesh__data=1))
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [5, 6]


@pytest.mark.slow
def test_a_checkpoint_that_does_not_fit_is_refused_and_named(finished):
    wider = replace(finished, model=replace(finished.model, mlp=128))
    with pytest.raises(UserError, match=r"The checkpoint .*/checkpoints/6 cannot be read with this config"):
        final_state(wider)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_or_is_passed_over(corpus, tmp_path, alone):
    explode = dict(optimizer__learning_rate=1e30, optimizer__name="adamw", mesh__data=1)
    with pytest.raises(UserError, match=r"Loss or gradient of step \d is not finite"):
        train(run_config(corpus, tmp_path / "stop", **explode))
    train(run_config(corpus, tmp_path / "skip", train__non_finite="skip", **explode))
    assert "skipped" in [e["event"] for e in lines(tmp_path / "skip", "events.jsonl")]
    text = (tmp_path / "skip" / "metrics.jsonl").read_text()
    assert "null" in text and "NaN" not in text and "Infinity" not in text
    state = final_state(run_config(corpus, tmp_path / "skip", **explode))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.fixture
def bad_rows(monkeypatch) -> set[int]:
    """Rows whose loss is not finite, of a run that is trained now."""
    bad, features_of = set(), Rows.__call__

    def features(rows: Rows, numbers: np.ndarray) -> dict[str, np.ndarray]:
        found = features_of(rows, numbers)
        if rows.split == "train" and (here := np.isin(numbers, list(bad))).any():
            weights = found["decoder_loss_weights"]
            found["decoder_loss_weights"] = np.where(here[:, None], np.float32(np.inf), weights)
        return found

    monkeypatch.setattr(Rows, "__call__", features)
    return bad


BACK: dict[str, Any] = dict(train__non_finite="rollback", train__save_every=2, mesh__data=1, train__batch=8)
WATCHED = BACK | {"train__spike_norm": 100.0, "train__spike_window": 2}


@pytest.mark.slow
def test_a_run_goes_back_behind_the_rows_of_a_bad_step_interrupted_or_not(corpus, tmp_path, alone, bad_rows):
    """Step 4 is bad twice: with the rows 24 to 31, and, after the run went back to step 2, with 40 to 47."""
    bad_rows |= {30, 45}
    whole = run_config(corpus, tmp_path / "whole", **WATCHED)
    train(whole)
    train(run_config(corpus, tmp_path / "parts", **WATCHED, train__steps=3))
    train(run_config(corpus, tmp_path / "parts", **WATCHED))
    states = [final_state(run_config(corpus, tmp_path / name, **WATCHED)) for name in ("whole", "parts")]
    assert (
        int(states[0].skipped) == 32
        and int(states[0].recent.seen) == 6
        and np.isfinite(states[0].params["embedding"]).all()
    )
    for a, b in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(a, b)
    metrics = [[x for x in lines(tmp_path / name, "metrics.jsonl") if not is_timing(x)] for name in ("whole", "parts")]
    assert metrics[0] == metrics[1]
    assert [line["step"] for line in metrics[0] if "loss" in line] == [1, 2, 3, 4, 5, 6]
    back = [e for e in lines(tmp_path / "whole", "events.jsonl") if e["event"] == "rolled_back"]
    assert [(e["step"], e["to"], e["rows_skipped"]) for e in back] == [(4, 2, 16), (4, 2, 32)]
    run = RunDirectory(tmp_path / "parts")
    assert [rows_skipped(run)(step) for step in (1, 2, 3, 6)] == [0, 0, 32, 32]


@pytest.mark.slow
def test_a_run_that_cannot_get_farther_stops(corpus, tmp_path, alone, bad_rows):
    """Also one that has no checkpoint yet, and so goes back to its beginning."""
    bad_rows |= set(range(1, 10**5, 8))
    with pytest.raises(UserError, match=r"step 1 is not finite, and the run has gone back 2 times .*`t5like why"):
        train(run_config(corpus, tmp_path / "run", **BACK, train__skips=2))


@pytest.mark.slow
def test_a_run_learns_what_is_there_to_learn(corpus, tmp_path, alone):
    """Words drawn evenly from a short list: far better than the frequencies of single bytes."""
    run = tmp_path / "run"
    changes = dict(
        optimizer__learning_rate=0.1, train__steps=120, train__batch=16, eval__every=120, train__log_every=40
    )
    changes["mesh__data"] = 1
    train(run_config(corpus, run, **changes))
    figures = lines(run, "metrics.jsonl")[-1]
    assert figures["eval/text_loss"] < 0.75 * figures["eval/unigram_text_loss"]
