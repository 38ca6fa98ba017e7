"""Runs that start from the parameters of another: the same numbers on any mesh, and a sentence for what cannot be."""

import json
import pathlib
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_runs import on_one_device
from settings import sentence
from small import assert_trees_close, replace, task_of
from starts import LEARNED, flags_of, import_run, run_config, write_texts

from t5like import config
from t5like.cli import run as command
from t5like.config import Config
from t5like.data.rows.stream import Rows
from t5like.model.sharding import make_mesh
from t5like.runs.changes import acquire
from t5like.runs.checkpoints import Checkpoints, State
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import open_run
from t5like.runs.shapes import shapes_of
from t5like.runs.start import find_start
from t5like.train.loop import check_start, find_source, starting_state, train
from t5like.train.losses import weighted_sums
from t5like.train.state import make_training
from t5like.train.step import targets_and_weights


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> dict[str, pathlib.Path]:
    return write_texts(tmp_path_factory.mktemp("texts"))


def begun(settings: Config, devices: int = 8) -> tuple[State, list[str]]:
    """The state that a run starts with, and what is said of it."""
    mesh = make_mesh(settings.mesh, jax.devices()[:devices])
    run = RunDirectory(pathlib.Path(settings.train.directory))
    start = check_start(run, settings)
    acquire(run, settings)
    with jax.set_mesh(mesh), Checkpoints(run.checkpoints, 1) as checkpoints:
        training = make_training(settings, mesh)
        source = find_source(start, training.network) if start else None
        state, origin = starting_state(training, checkpoints, source)
        assert [x.sharding for x in jax.tree.leaves(state)] == jax.tree.leaves(training.shardings)
        return jax.device_get(state), [origin, *(source.differences(training.config) if source else ())]


def lines(run: pathlib.Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(texts, tmp_path_factory) -> Config:
    """A run of 30 steps on the first text, with a vocabulary that was learned from it."""
    settings = run_config(
        texts["first"],
        tmp_path_factory.mktemp("trained") / "run",
        data__vocabulary=LEARNED,
        optimizer__learning_rate=0.1,
        train__steps=30,
        train__save_every=20,
        eval__every=30,
        mesh__data=1,
    )
    with on_one_device():
        train(settings)
    return settings


@pytest.fixture(scope="module")
def tuned(trained, texts, tmp_path_factory) -> Config:
    """A run of 20 steps on the second text that starts from the trained one, as if that had been imported once."""
    run = RunDirectory(pathlib.Path(trained.train.directory))
    run.hugging_face.mkdir()
    (run.hugging_face / "chat_template.jinja").write_text("{{ messages }}")
    settings = run_config(
        texts["second"],
        tmp_path_factory.mktemp("tuned") / "run",
        data__vocabulary=replace(LEARNED, kind="file", path=str(run.vocabulary)),
        optimizer__learning_rate=0.1,
        train__steps=20,
        train__init_from=str(run.path),
        eval__every=20,
        mesh__data=1,
    )
    with on_one_device():
        train(settings)
    return settings


@pytest.mark.slow
def test_what_is_kept_of_an_imported_folder_goes_with_a_fine_tuned_run(tuned):
    kept = RunDirectory(pathlib.Path(tuned.train.directory)).hugging_face
    assert [(file.name, file.read_text()) for file in kept.iterdir()] == [("chat_template.jinja", "{{ messages }}")]


@pytest.mark.slow
def test_fine_tuning_starts_at_the_loss_of_its_source_and_lowers_it(trained, tuned):
    there = open_run(trained)
    with there as restored:
        assert restored.step == 30
        batch = jax.tree.map(jnp.asarray, Rows(tuned.data, restored.vocabulary, "train")(np.arange(tuned.train.batch)))
        logits = jax.jit(restored.network.net.apply)({"params": restored.params}, batch)
        sums = weighted_sums(logits, *targets_and_weights(batch), z_loss=0.0)
        expected = float(sums["loss"].mean())
    losses = [line["loss"] for line in lines(pathlib.Path(tuned.train.directory), "metrics.jsonl") if "loss" in line]
    assert losses[0] == pytest.approx(expected, rel=1e-4)
    assert np.mean(losses[-5:]) < 0.8 * losses[0]


@pytest.mark.slow
def test_a_run_says_where_it_started(trained, tuned):
    (event,) = (e for e in lines(pathlib.Path(tuned.train.directory), "events.jsonl") if e["event"] == "started")
    assert event["init_from"] == f"{trained.train.directory}/checkpoints/30"


@pytest.mark.slow
def test_a_named_step_is_where_a_run_starts(trained, tmp_path):
    named = f"{trained.train.directory}/checkpoints/20"
    settings = replace(trained, train=replace(trained.train, directory=str(tmp_path / "run"), init_from=named))
    state, said = begun(settings)
    assert said == [f"Starting from {trained.train.directory}, step 20"]
    with open_run(trained, 20) as restored:
        assert_trees_close(state.params, restored.params, rtol=0)


@pytest.mark.parametrize("optimizer", [pytest.param("adafactor", marks=pytest.mark.slow), "adamw"])
def test_a_start_on_eight_devices_equals_one_on_a_single_device(optimizer, texts, tmp_path):
    """Parameters are the source's bits; the optimizer state is that of a new run with these parameters."""
    params = import_run(run_config(texts["first"], tmp_path / "source", "t5"))
    settings = run_config(
        texts["first"],
        tmp_path / "run",
        "t5",
        optimizer__name=optimizer,
        train__init_from=str(tmp_path / "source"),
        mesh__tensor=2,
    )
    alone = replace(settings, mesh=config.Mesh(fsdp=1))
    left, right = begun(settings)[0], begun(alone, devices=1)[0]
    assert int(left.step) == int(right.step) == 0
    assert_trees_close(left, right, rtol=0)
    assert_trees_close(left.params, params, rtol=0)
    mesh = make_mesh(alone.mesh, jax.devices()[:1])
    with jax.set_mesh(mesh):
        training = make_training(alone, mesh)
        assert_trees_close(left.opt_state, jax.jit(training.optimizer.init)(params), rtol=0)
    assert jax.tree.structure(left) == jax.tree.structure(training.abstract)


@pytest.mark.slow
def test_parameters_of_heads_that_the_source_lacks_are_initial_and_its_own_are_left_out(texts, tmp_path):
    source = run_config(texts["first"], tmp_path / "source", "bert", model__output_bias=True)
    params = import_run(source)
    settings = run_config(
        texts["first"],
        tmp_path / "run",
        "bert",
        model__output_transform=True,
        model__tied=False,
        model__dropout=0.1,
        train__init_from=str(tmp_path / "source"),
    )
    state, said = begun(settings)
    new = sorted(shapes_of(state.params).keys() - shapes_of(params).keys())
    assert {path.split("/")[0] for path in new} == {"output", "transform"}
    assert said == [
        f"Starting from {tmp_path}/source, step 0",
        f"Not in {tmp_path}/source, so with initial values: {', '.join(new)}.",
        f"Only in {tmp_path}/source, so left out: output_bias.",
        f"Otherwise than in {tmp_path}/source: model.dropout (0.0 there, 0.1 now), model.output_bias (True there, "
        "False now), model.output_transform (False there, True now), model.tied (True there, False now).",
    ]
    scratch, origin = begun(replace(settings, train=replace(settings.train, init_from="")))
    assert origin == ["Starting from scratch"]
    for name, tree in state.params.items():
        assert_trees_close(tree, (scratch.params if name in ("output", "transform") else params)[name], rtol=0)


LABELLED = dict(
    data__objective=config.Objective(kind="classification", labels=3),
    data__sources=(config.Source(kind="jsonl", path="made", task=task_of("classification")),),
)
HEAD = dict(model__head="sequence", model__labels=3, model__pooler=True)


@pytest.mark.parametrize(
    ("family", "there", "here", "left_out"),
    [
        (
            "t5",
            {},
            dict(model__decoder_layers=0, model__pooling="mean"),
            "the decoder, output",
        ),
        (
            "bert",
            dict(model__output_transform=True, model__output_bias=True, model__token_types=2),
            dict(model__token_types=2),
            "output_bias, transform/bias, transform/kernel, transform/norm_bias, transform/scale",
        ),
    ],
)
def test_a_head_starts_from_a_t5_s_encoder_or_a_masked_language_model(family, there, here, left_out, texts, tmp_path):
    params = import_run(run_config(texts["first"], tmp_path / "source", family, **there))
    settings = run_config(
        texts["first"],
        tmp_path / "run",
        family,
        **{**LABELLED, **HEAD, **here, "train__init_from": str(tmp_path / "source")},
    )
    state, said = begun(settings)
    new = "head/bias, head/kernel, pooler/bias, pooler/kernel"
    assert said[1:3] == [
        f"Not in {tmp_path}/source, so with initial values: {new}.",
        f"Only in {tmp_path}/source, so left out: {left_out}.",
    ]
    assert "decoder" not in state.params
    for name in state.params.keys() - {"head", "pooler"}:
        assert_trees_close(state.params[name], params[name], rtol=0)


def test_a_head_of_other_labels_begins_anew_and_its_pooler_is_kept(texts, tmp_path):
    made = tmp_path / "made.jsonl"
    made.write_text("".join(f'{{"text": "number {n}", "label": "{"ab"[n % 2]}"}}\n' for n in range(40)))
    sources = (config.Source(kind="jsonl", path=str(made), task=config.Task(labels=("a", "b"))),)
    there = {**HEAD, "data__objective": config.Objective(kind="classification", labels=2)}
    there |= {"model__labels": 2, "data__sources": sources}
    params = import_run(run_config(texts["first"], tmp_path / "source", "bert", **there))
    here = {**LABELLED, **HEAD, "train__init_from": str(tmp_path / "source")}
    state, said = begun(run_config(texts["first"], tmp_path / "run", "bert", **here))
    assert f"Of another head in {tmp_path}/source, so with initial values: head/bias, head/kernel." in said
    assert state.params["head"]["kernel"].shape[-1] == 3
    for name in state.params.keys() - {"head"}:
        assert_trees_close(state.params[name], params[name], rtol=0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"model__mlp": 128},
            "decoder/blocks/mlp/down is (2, 64, 32) there and (2, 128, 32) here; set model.* to the same as there: "
            "model.mlp (64 there, 128 now).",
        ),
        (
            {"model__bias": True},
            "decoder/blocks/mlp/down_bias is missing there and (2, 32) here; set model.* to the same as there: "
            "model.bias (False there, True now).",
        ),
        (
            {"model__norm": "layer", "model__vocab": 512},
            "decoder/blocks/norm_mlp/bias is missing there and (2, 32) here; set model.* to the same as there: "
            "model.norm ('rms' there, 'layer' now), model.vocab (384 there, 512 now).",
        ),
        (
            {"model__vocab": 512},
            "embedding is (384, 32) there and (512, 32) here; set model.* to the same as there: model.vocab (384 "
            "there, 512 now).",
        ),
        (
            {"model__decoder_layers": 3},
            "decoder/blocks/mlp/down is (2, 64, 32) there and (3, 64, 32) here; set model.* to the same as there: "
            "model.decoder_layers (2 there, 3 now).",
        ),
    ],
)
def test_other_parameters_than_the_sources_are_refused_before_data_is_prepared(changes, expected, texts, tmp_path):
    import_run(run_config(texts["first"], tmp_path / "source"))
    settings = run_config(texts["second"], tmp_path / "run", train__init_from=str(tmp_path / "source"), **changes)
    said = sentence(train, settings)
    assert said == f"train.init_from={tmp_path}/source does not fit: the parameter {expected}"
    assert not pathlib.Path(settings.data.store).exists()


def test_a_source_that_cannot_be_one_is_refused_before_anything_is_written(texts, tmp_path):
    source, new = tmp_path / "source", tmp_path / "run"
    import_run(run_config(texts["first"], source), step=4)
    (tmp_path / "empty").mkdir()
    acquire(RunDirectory(tmp_path / "begun"), run_config(texts["first"], tmp_path / "begun"))
    before = sorted(tmp_path.rglob("*"))
    for given, expected in {
        "run": "is the run's own directory: choose another train.directory, or leave it out.",
        "run/checkpoints/4": "is the run's own directory: choose another train.directory, or leave it out.",
        "none": "is not a run directory: {given} has no config.json.",
        "empty": "is not a run directory: {given} has no config.json.",
        "source/checkpoints": "is not a run directory: {given} has no config.json.",
        "begun": "holds no checkpoint: train there first, or name another run.",
        "source/checkpoints/5": "is not there: {source} has checkpoints of the steps 4.",
    }.items():
        given = str(tmp_path / given)
        said = sentence(train, run_config(texts["second"], new, train__init_from=given))
        assert said == f"train.init_from={given} {expected.format(given=given, source=source)}"
    assert sorted(tmp_path.rglob("*")) == before
    assert find_start(run_config(texts["first"], new, train__init_from=f"{source}/checkpoints/4/")) == (
        RunDirectory(source),
        4,
        False,
        "",
    )


@pytest.mark.slow
def test_a_run_goes_on_without_its_source_but_not_with_another(tuned, tmp_path, capsys):
    """What a run started with cannot change once it has a checkpoint; the source is not needed any more."""
    folder = tmp_path / "tuned"
    shutil.copytree(tuned.train.directory, folder)
    gone = {"directory": str(folder), "init_from": str(tmp_path / "gone")}
    written = json.loads((folder / "config.json").read_text())
    written["train"]["init_from"] = gone["init_from"]
    (folder / "config.json").write_text(json.dumps(written))
    train(replace(tuned, train=replace(tuned.train, **gone)))
    assert capsys.readouterr().out.endswith(f"{folder} is finished: step 20 of 20.\n")
    other = replace(tuned, train=replace(tuned.train, directory=str(folder), init_from="", steps=30))
    assert sentence(train, other) == (
        f"{folder} belongs to a run with another train.init_from ('{tmp_path}/gone' there, '' now): choose another "
        "train.directory, or delete that folder."
    )


@pytest.mark.slow
def test_training_from_an_imported_run_takes_the_command_that_the_refusal_names(texts, tmp_path, say):
    there = str(tmp_path / "imported")
    import_run(run_config(texts["first"], tmp_path / "imported", data__vocabulary=LEARNED))
    before = {file: file.read_bytes() for file in pathlib.Path(there).rglob("*") if file.is_file()}
    said = sentence(command, ["train", there, "--train.steps", "4"])
    assert said == (
        f"{there} holds parameters without an optimizer state, with which no training can go on: start another run "
        f"from it, `t5like train {there} --train.directory runs/NEW --train.init_from {there}`."
    )
    words = said.split("`")[1].replace("runs/NEW", str(tmp_path / "new")).split()[1:]
    printed = say(*words, *flags_of(run_config(texts["second"], tmp_path / "x")))
    assert f"\nStarting from {there}, step 0: " in printed
    assert before == {file: file.read_bytes() for file in pathlib.Path(there).rglob("*") if file.is_file()}
    with Checkpoints(tmp_path / "new" / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [2]
        checkpoints.require_optimizer_state()
    kept = RunDirectory(tmp_path / "new").config()
    assert (kept.train.directory, kept.train.init_from) == (str(tmp_path / "new"), there)
    assert kept.data.vocabulary.path == f"{there}/vocabulary"
