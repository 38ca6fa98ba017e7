"""Heads learn labelled examples perfectly, on one device or eight, in parts or whole, packed or alone."""

import functools
import json
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_runs import on_one_device
from labelled import made_examples, rows_of
from small import assert_trees_close, labelled_config, random_params, replace, task_of

from t5like import config
from t5like.config import Config
from t5like.convert.original import has_transformers
from t5like.model.sharding import make_mesh
from t5like.model.transformer import Transformer
from t5like.runs import opened
from t5like.runs.checkpoints import State
from t5like.train import loop
from t5like.train.eval_step import eval_step
from t5like.train.labels import KINDS
from t5like.train.losses import label_sums
from t5like.train.state import make_training
from t5like.train.step import accumulated_gradient, batch_sums, train_step

LEARNED = [
    ("classification", "decoder"),
    ("multi_label_classification", "encoder"),
    ("regression", "decoder"),
    ("token_classification", "decoder"),
    ("span", "encoder"),
]
SHARDED = ["token_classification", "span", "multiple_choice"]
SLOW = functools.partial(pytest.param, marks=pytest.mark.slow)


def batch_of(settings: Config, made: list[Any], row: list[int] | None = None) -> dict[str, jax.Array]:
    return jax.tree.map(jnp.asarray, rows_of(settings.data, made, row))


@pytest.mark.parametrize(
    ("kind", "stack"),
    [("classification", "encoder"), ("multiple_choice", "decoder"), *(SLOW(*each) for each in LEARNED)],
)
def test_made_examples_are_learned_to_a_perfect_score(kind, stack, one_device):
    """32 examples, evaluated as a run is; rows are of the learned ones alone."""
    settings = labelled_config(
        kind,
        stack,
        **{f"model__{family}_layers": 1 for family in [stack]},
        data__length=32,
        train__batch=32,
        optimizer__name="adamw",
        optimizer__learning_rate=0.01,
    )
    batch, training = batch_of(settings, made_examples(kind)), make_training(settings, one_device)
    net = training.network.net
    step = jax.jit(functools.partial(train_step, config=settings, net=net, optimizer=training.optimizer))
    state = training.initial_state()
    for _ in range(150):
        state, _ = step(state, batch)
    sums = jax.jit(functools.partial(eval_step, net=net))(state.params, batch)
    if kind == "regression":
        assert sums["loss"].mean() < 0.01
    else:
        assert sums["accuracy"].mean() == 1 and float(sums["accuracy"].count) >= 32
    assert "output" not in state.params


@pytest.mark.parametrize("kind", ["classification", *map(SLOW, SHARDED)])
def test_eight_devices_and_parts_of_a_batch_give_the_gradient_of_one_device_and_the_whole(kind, mesh):
    """With weights of classes where there are classes, whose sum differs from part to part, and smoothing."""
    weighed = kind in ("classification", "token_classification")
    weights = dict(train__class_weights=(0.5, 1.0, 4.0)) if weighed else {}
    settings = labelled_config(
        kind, model__encoder_layers=1, train__batch=16, data__length=32, train__label_smoothing=0.1, **weights
    )
    parts = replace(settings, train=replace(settings.train, accumulate=2))
    net, batch = Transformer(settings.model, settings.rules), batch_of(settings, made_examples(kind, 16))
    params, batch = jax.device_get((random_params(net, batch), batch))
    found = []
    for devices, own in ((mesh, parts), (make_mesh(settings.mesh, jax.devices()[:1]), settings)):
        with jax.set_mesh(devices):
            run = jax.jit(functools.partial(accumulated_gradient, config=own, net=net))
            found.append(jax.device_get(run(State(jnp.int32(0), params, ()), batch)))
    assert_trees_close(*found, rtol=2e-4, atol=2e-5)


def test_packed_labels_of_tokens_give_the_sums_of_rows_of_their_own(one_device):
    settings = labelled_config("token_classification", model__encoder_layers=1, data__length=32)
    made = made_examples("token_classification", 8)
    alone, packed = batch_of(settings, made), batch_of(settings, made, [0, 0, 0, 1, 1, 1, 2, 2])
    net = Transformer(settings.model, settings.rules)
    params = random_params(net, alone)
    count = jax.jit(lambda batch: batch_sums(params, batch, net, settings.train, {}))
    sums = [count(batch) for batch in (alone, packed)]
    assert_trees_close(*sums, rtol=1e-5)


def test_candidates_of_a_row_are_scored_as_each_is_alone(one_device):
    settings = labelled_config("multiple_choice", model__encoder_layers=1, model__pooler=True, data__length=32)
    made = made_examples("multiple_choice", 4)
    together = batch_of(settings, made)
    net = Transformer(settings.model, settings.rules)
    params = random_params(net, together)
    score = jax.jit(lambda batch: net.apply({"params": params}, batch, method=Transformer.scores).labels)
    scores = score(together)
    candidates, counts = [], []
    for tokens, widths, _ in made:
        ends = np.cumsum(np.reshape(widths, (-1, 2)).sum(axis=1)).tolist()
        cuts = enumerate(zip([0, *ends], ends, strict=False))
        candidates += [(tokens[first:last], widths[2 * n : 2 * n + 2], [0]) for n, (first, last) in cuts]
        counts.append(len(ends))
    batch = batch_of(settings, candidates)
    del batch["candidates"]
    alone = np.split(np.asarray(score(batch))[:, 0], np.cumsum(counts)[:-1])
    for found, each in zip(np.asarray(scores), alone, strict=True):
        np.testing.assert_allclose(found[: len(each)], each, rtol=1e-4, atol=1e-5)
        assert (found[len(each) :] < -1e9).all()


@pytest.mark.slow
def test_a_run_of_labels_goes_on_with_the_same_bits_and_is_evaluated_on_each_example(tmp_path, say):
    rows = [json.dumps({"text": f"number {n}", "label": n / 10}) for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    own = dict(directory=str(tmp_path / "run"), steps=4, save_every=2, tensorboard=False, compilation_cache="")
    settings = labelled_config(
        "regression",
        data__sources=(config.Source(kind="jsonl", path=str(tmp_path / "rows.jsonl"), task=task_of("regression")),),
        data__held_out=0.4,
        data__store=str(tmp_path / "store"),
        data__vocabulary=config.Vocabulary(kind="bytes", size=259, sentinels=0),
        data__objective=config.Objective(kind="regression", labels=1),
        **{f"train__{name}": value for name, value in own.items()},
        **dict(model__encoder_layers=1, model__dropout=0.1, model__vocab=384, model__labels=1),
    )

    def trained() -> Any:
        loop.train(settings)
        with opened.open_run(settings) as restored:
            return jax.device_get(restored.params)

    with on_one_device():
        whole = trained()
        shutil.rmtree(tmp_path / "run/checkpoints/4")
        assert_trees_close(whole, trained(), rtol=0)
        said = say("eval", tmp_path / "run")
    assert f"{tmp_path}/run, step 4, " in said
    assert " held-out labels:\n  loss " in said and said.endswith("squared error\n")
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    kept = json.loads((tmp_path / "run/eval.json").read_text())
    (held_out,) = [line for line in lines if "eval/loss" in line]
    assert kept["mean_squared_error"] == kept["loss"] == held_out["eval/loss"]
    assert 2 < kept["targets"] < 14


@pytest.mark.originals
@pytest.mark.slow
@pytest.mark.skipif(not has_transformers(), reason="compares with torch's losses")
def test_objectives_are_torch_s_losses():
    import torch  # pyright: ignore[reportMissingImports]

    random, cross = np.random.default_rng(0), torch.nn.functional.cross_entropy
    scores, labels = random.normal(size=(9, 4)).astype(np.float32), random.integers(0, 4, 9).astype(np.int32)
    ours, theirs = jnp.asarray(scores), torch.tensor(scores)
    rows, single = jnp.ones(9), "single_label_classification"
    for smoothing in (0.0, 0.2):
        for weights in ((), (0.5, 1.0, 2.0, 3.0)):
            found = label_sums(ours, jnp.asarray(labels), rows, single, smoothing, weights)["objective"].mean()
            weight = torch.tensor(weights) if weights else None
            expected = cross(theirs, torch.tensor(labels).long(), weight=weight, label_smoothing=smoothing)
            assert float(found) == pytest.approx(float(expected), rel=1e-5)
    several = random.integers(0, 2, (9, 4)).astype(np.float32)
    for kind, loss in (
        ("multi_label_classification", torch.nn.functional.binary_cross_entropy_with_logits),
        ("regression", torch.nn.functional.mse_loss),
    ):
        found = label_sums(ours, jnp.asarray(several), rows, kind)["objective"].mean()
        assert float(found) == pytest.approx(float(loss(theirs, torch.tensor(several))), rel=1e-5)
    assert KINDS.keys() == {single, "multi_label_classification", "regression", "span"}
