"""Changes of a resumed run: it goes on with the numbers it would have had, or says both, or is refused."""

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from settings import sentence, valid
from test_loop import final_state, run_config

from t5like.commands import NoOptions
from t5like.commands.generate import longer
from t5like.config import Config, Optimizer, presets
from t5like.config.flags import override
from t5like.optim.optimizer import make_schedule
from t5like.runs.changes import acquire, with_schedule_of
from t5like.runs.directory import RunDirectory
from t5like.train.loop import train
from t5like.train.start import changes as lines_of


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> pathlib.Path:
    folder, rng = tmp_path_factory.mktemp("texts"), np.random.default_rng(1)
    for number in range(20):
        (folder / f"{number}.txt").write_text(" ".join(rng.choice(["some", "words", "of", "text"], 400)), "utf-8")
    return folder


def with_steps(config: Config, steps: int, **optimizer: Any) -> Config:
    return dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, steps=steps),
        optimizer=dataclasses.replace(config.optimizer, **optimizer),
    )


def rates(config: Config, steps: int) -> list[float]:
    schedule = make_schedule(config.optimizer, config.train.steps)
    return np.broadcast_to(schedule(jnp.arange(steps, dtype=jnp.int32)), steps).tolist()


def begun(folder: pathlib.Path, old: bool = False, **optimizer: Any) -> Config:
    """A run of 10 steps that has a checkpoint; an old one has a config without `schedule_steps`."""
    config = valid(optimizer=Optimizer(learning_rate=0.2, **optimizer))
    acquire(RunDirectory(folder), config)
    (folder / "checkpoints" / "10" / "state").mkdir(parents=True)
    if old:
        tree = json.loads((folder / presets.FILE).read_text())
        del tree["optimizer"]["schedule_steps"]
        (folder / presets.FILE).write_text(json.dumps(tree))
    return config


SCHEDULES = [
    dict(schedule="linear", warmup=2, final=0.1),
    dict(schedule="cosine", warmup=2, final=0.1),
    dict(schedule="warmup_stable_decay", warmup=2, decay=4, final=0.1),
    dict(schedule="inverse_sqrt", warmup=2, hold=4),
    dict(schedule="constant"),
]


@pytest.mark.parametrize("old", [False, True], ids=["", "old"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule["schedule"])
def test_other_steps_do_not_stretch_the_schedule_of_a_run(schedule, old, tmp_path):
    """Neither more nor less, not once and not twice; after its end the rate stays."""
    run, first = RunDirectory(tmp_path), begun(tmp_path, old, **schedule)
    longest = rates(first, 40)
    for steps in (20, 8, 15):
        config = with_schedule_of(run, with_steps(first, steps))
        acquire(run, config)
        assert config.train.steps == steps
        assert rates(config, 40) == longest
        assert rates(run.config(), 40) == longest
    if schedule["schedule"] in ("linear", "cosine", "warmup_stable_decay"):
        assert longest[10:] == pytest.approx([0.02] * 30)


@pytest.mark.parametrize("name", ["linear", "cosine", "warmup_stable_decay"])
def test_a_run_whose_rate_has_come_to_nothing_names_what_to_set(name, tmp_path):
    first = begun(tmp_path, schedule=name, **(dict(decay=4) if name == "warmup_stable_decay" else {}))
    run = RunDirectory(tmp_path)
    assert sentence(with_schedule_of, run, with_steps(first, 20)) == (
        f"optimizer.schedule={name!r} ends at step 10 with a rate of 0, so the steps up to train.steps=20 would learn "
        "nothing: set optimizer.schedule_steps=20 to stretch it, optimizer.final above 0 to go on at that share of the "
        "peak, or optimizer.schedule to another one."
    )
    for remedy in (dict(schedule_steps=20), dict(final=0.1), dict(schedule="constant", decay=0)):
        assert acquire(run, with_schedule_of(run, with_steps(first, 20, **remedy)))["train.steps"] == (10, 20)
        presets.write(first, tmp_path)


def test_a_hint_to_go_on_is_one_that_works(tmp_path):
    for number, schedule in enumerate([*SCHEDULES, dict(schedule="linear"), dict(schedule="cosine", warmup=3)]):
        first = begun(tmp_path / str(number), **schedule)
        flags = longer(first).split()
        config, _ = override(first, NoOptions, flags, "t5like train x")
        assert with_schedule_of(RunDirectory(tmp_path / str(number)), config).train.steps == 20
        assert rates(config, 20)[-1] > 0
        assert ("--optimizer.schedule_steps" in flags) == (schedule in (dict(schedule="linear"),) or number == 6)


def test_a_run_without_a_checkpoint_takes_its_schedule_anew(tmp_path):
    config = valid(optimizer=Optimizer(schedule="linear"))
    acquire(RunDirectory(tmp_path), config)
    assert with_schedule_of(RunDirectory(tmp_path), with_steps(config, 20)) == with_steps(config, 20)


def test_a_rate_that_a_resumed_run_changes_is_told_beside_the_old_one(tmp_path):
    before = begun(tmp_path, schedule="linear")
    after = with_steps(before, 20, schedule_steps=20)
    assert list(lines_of(before, after, presets.differences(before, after), 10)) == [
        "Changed: optimizer.schedule_steps (None there, 20 now), train.steps (10 there, 20 now).",
        "The learning rate of step 11 is 0.1, where it would have been 0.",
    ]
    assert list(lines_of(before, before, {}, 5)) == []
    low = with_steps(before, 20, schedule_steps=10, final=0.1)
    assert list(lines_of(low, low, {}, 12)) == [
        "The learning rate stays at 0.02, with which optimizer.schedule='linear' has ended."
    ]


def test_more_accumulation_with_dropout_is_refused(tmp_path):
    dropped = valid(model=dataclasses.replace(valid().model, dropout=0.1))
    run = RunDirectory(tmp_path)
    acquire(run, dropped)
    (tmp_path / "checkpoints" / "10" / "state").mkdir(parents=True)
    assert sentence(acquire, run, replaced(dropped, train__accumulate=2)).startswith(
        "train.accumulate=2 draws other masks for model.dropout=0.1 than the run's 1"
    )
    plain = tmp_path / "plain"
    begun(plain)
    accumulated = replaced(RunDirectory(plain).config(), train__accumulate=2)
    assert acquire(RunDirectory(plain), accumulated) == {"train.accumulate": (1, 2)}


@pytest.fixture(scope="module")
def whole(texts, tmp_path_factory) -> Config:
    """The config of an uninterrupted run of 6 steps with dropout, whose schedule ends after 4."""
    schedule = {"schedule": "cosine", "warmup": 2, "final": 0.1, "schedule_steps": 4}
    changes = {f"optimizer__{name}": value for name, value in schedule.items()}
    folder = tmp_path_factory.mktemp("runs") / "whole"
    config = run_config(texts, folder, train__save_every=3, model__dropout=0.2, **changes)
    train(config)
    return config


def half(whole: Config, folder: pathlib.Path) -> Config:
    """The same run in another folder, interrupted at step 3."""
    shutil.copytree(whole.train.directory, folder)
    shutil.rmtree(folder / "checkpoints" / "6")
    return replaced(whole, train__directory=str(folder))


def assert_same(left: Config, right: Config, **tolerance: float) -> None:
    states = (final_state(config)._replace(recent=None) for config in (left, right))  # some settings keep more there
    pairs = zip(*map(jax.tree.leaves, states), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a, b, **{"rtol": 0, "atol": 0, **tolerance})


@pytest.mark.slow
def test_an_old_run_with_more_steps_than_it_was_started_with_goes_on_with_its_very_rates(whole, tmp_path):
    """Its config has no `schedule_steps`, and values that had no effect; it was to end after 4 steps."""
    config = half(whole, tmp_path / "old")
    file = tmp_path / "old" / presets.FILE
    tree = json.loads(file.read_text())
    del tree["optimizer"]["schedule_steps"]
    tree["optimizer"] |= dict(momentum=0.5, hold=7)
    tree["train"] |= dict(steps=4, directory=config.train.directory)
    file.write_text(json.dumps(tree))
    train(with_steps(presets.read(tmp_path / "old"), 6))
    assert_same(whole, config)
    assert RunDirectory(tmp_path / "old").config().optimizer.schedule_steps == 4


CHANGES = {
    "logging and evaluation": dict(
        **dict(train__log_every=2, train__save_every=4, train__keep=1, train__non_finite="skip"),
        **dict(eval__every=2, eval__rows=8, eval__batch=16),
    ),
    "mesh, rules and remat": dict(mesh__data=1, mesh__fsdp=4, mesh__tensor=2, rules__embed=(), model__remat="full"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHANGES)
def test_what_a_resumed_run_may_change_leaves_its_numbers(kind, whole, tmp_path):
    """Exactly, or but for the order of sums; dropout included. test_step.py shows it of accumulation."""
    config = replaced(half(whole, tmp_path / "run"), **CHANGES[kind])
    train(config)
    assert_same(whole, config, **(dict(rtol=1e-3, atol=2e-5) if "mesh" in kind else {}))


def replaced(config: Config, **changes: Any) -> Config:
    for name, value in changes.items():
        group, _, field = name.partition("__")
        config = dataclasses.replace(config, **{group: dataclasses.replace(getattr(config, group), **{field: value})})
    return config
