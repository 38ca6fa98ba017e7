"""Low-rank adapters: they alone are trained and kept, and start as nothing beside a base that stays as it is."""

import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import PartitionSpec
from lora_runs import randomly
from settings import sentence, valid
from small import assert_trees_close, random_batch, replace, small_config

from t5like import config
from t5like.cli import run as command
from t5like.config import Config, Lora, presets
from t5like.cost.flops import step_flops
from t5like.model.adapters import is_adapter, merged
from t5like.model.network import make_network
from t5like.model.sharding import make_mesh
from t5like.model.transformer import Transformer
from t5like.optim.groups import frozen_and_trained, joined, parted
from t5like.plan import figures, report
from t5like.plan.topology import topology
from t5like.runs.checkpoints import State
from t5like.runs.shapes import shapes_of
from t5like.train.state import make_training
from t5like.train.step import train_step

LORA = Lora(rank=2, alpha=3.0, targets=("query", "value", "out", "down"))
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt": (
        "gpt",
        {
            "model__lora": Lora(rank=3, alpha=5.0, targets=("key", "out"), dora=True),
            "model__kv_heads": 2,
            "model__windows": (8, None),
            "model__decoder_layers": 3,
            "model__remat": "full",
        },
    ),
    "bert": ("bert", {"model__lora": Lora(rank=2, targets=("value", "up", "down"), dora=True, dropout=0.5)}),
}


@pytest.mark.parametrize("kind", ["gpt", pytest.param("bert", marks=pytest.mark.slow)])
def test_merged_adapters_give_the_same_scores_and_new_ones_none_at_all(kind, one_device):
    family, changes = KINDS[kind]
    settings = small_config(family, **changes)
    network, batch = make_network(settings, one_device), random_batch(settings)
    plain = Transformer(replace(settings.model, lora=Lora()), settings.rules)

    @jax.jit
    def scores(params: Any) -> tuple[jax.Array, jax.Array]:
        found = merged(params, settings.model.lora)
        return network.net.apply({"params": params}, batch), plain.apply({"params": found}, batch)

    params = network.initial_params()
    np.testing.assert_allclose(*scores(params), atol=2e-5)
    before = scores(params)[1]
    ours, theirs = scores(with_random_adapters(params))
    np.testing.assert_allclose(ours, theirs, atol=2e-5)
    assert float(jnp.abs(ours - before).max()) > 0.01


def with_random_adapters(params: Any) -> Any:
    adapters, base = parted(params, is_adapter)
    return joined(base, randomly(adapters))


def step_of(settings: Config, mesh: jax.sharding.Mesh, batch: Any) -> tuple[State, State, Any]:
    """The state before and after a step on a mesh, and its metrics; adapters are random."""
    with jax.set_mesh(mesh):
        training = make_training(settings, mesh)
        params = with_random_adapters(training.network.initial_params())
        before = training.state_from(jax.device_put(params, training.shardings.params))
        step = functools.partial(train_step, config=settings, net=training.network.net, optimizer=training.optimizer)
        after, metrics = jax.jit(step, out_shardings=(training.shardings, None))(before, batch)
        return *jax.device_get((before, after)), jax.device_get(metrics)


def test_a_step_changes_adapters_alone(one_device):
    settings = small_config("gpt", model__lora=LORA, model__decoder_layers=1, optimizer__name="adamw")
    before, after, _ = step_of(settings, one_device, random_batch(settings))
    old, new = (frozen_and_trained(s.params, settings.optimizer, settings.model.lora) for s in (before, after))
    assert_trees_close(old[0], new[0], rtol=0)
    trained = flatten_dict(new[1], sep="/")
    assert trained.keys() == {path for path in shapes_of(after.params) if is_adapter(path)}
    for path, leaf in flatten_dict(old[1], sep="/").items():
        assert np.all(leaf != trained[path]), path


@pytest.mark.slow
def test_a_step_on_eight_devices_is_that_on_one_in_two_parts(mesh):
    settings = small_config("gpt", model__lora=replace(LORA, dora=True), model__decoder_layers=1)
    batch = jax.device_get(random_batch(settings))
    _, after, metrics = step_of(settings, mesh, batch)
    accumulated = replace(settings, train=replace(settings.train, accumulate=2))
    _, alone, same = step_of(accumulated, make_mesh(config.Mesh(fsdp=1), jax.devices()[:1]), batch)
    assert_trees_close(after, alone, rtol=2e-3, atol=2e-5)
    assert metrics.gradient_norm == pytest.approx(same.gradient_norm, rel=1e-4)


@pytest.mark.parametrize("optimizer", ["adafactor", "adamw", "adamw_rms", "lion", "muon"])
def test_only_what_is_trained_has_optimizer_state(optimizer, one_device):
    settings = small_config("bert", model__lora=replace(LORA, dora=True), optimizer__name=optimizer)
    training = make_training(replace(settings, optimizer=replace(settings.optimizer, weight_decay=0.1)), one_device)
    trained = sum(leaf.size for leaf in jax.tree.leaves(training.trained))
    assert trained < training.network.parameter_count / 10
    leaves = [leaf for leaf in jax.tree.leaves(training.abstract.opt_state) if leaf.ndim > 1]
    assert sum(leaf.size for leaf in leaves) <= 2 * trained


def test_adapters_are_split_by_the_names_of_their_dimensions(mesh):
    settings = small_config("t5", model__lora=Lora(rank=2, targets=("query", "out")))
    rules = replace(settings.rules, rank=("data",))
    network = make_network(replace(settings, rules=rules), mesh)
    own = network.shardings["encoder"]["blocks"]["self"]
    assert network.axes["encoder/blocks/self/out_lora_a"] == ("layers", "heads", "kv", "rank")
    assert own["query_lora_a"].spec == PartitionSpec(None, "fsdp", "data")
    assert own["query_lora_b"].spec == PartitionSpec(None, "data", "tensor", None)
    assert own["out_lora_b"].spec == PartitionSpec(None, "data", "fsdp")


@pytest.mark.slow
def test_dropout_of_adapters_falls_on_their_inputs_and_only_while_training(one_device):
    settings = small_config("gpt", model__lora=Lora(rank=2, targets=("query", "out"), dropout=0.5))
    network, batch = make_network(settings, one_device), random_batch(settings)
    new = network.initial_params()
    apply = jax.jit(lambda params, keys: network.net.apply({"params": params}, batch, rngs=keys))
    keys = [{"dropout": jax.random.key(seed)} for seed in (0, 1)]
    np.testing.assert_array_equal(apply(new, keys[0]), apply(new, keys[1]))
    params = with_random_adapters(new)
    one, other = (apply(params, key) for key in keys)
    assert float(jnp.abs(one - other).max()) > 1e-3


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"targets": ("query", "q_proj")},
            "model.lora.targets names 'q_proj', but the model has query, key, value, out, gate, up, down: choose "
            "among these.",
        ),
        ({"targets": ("up", "up")}, "model.lora.targets=('up', 'up') names a part twice."),
        ({"targets": ()}, "model.lora.targets is empty: name matrices, such as query value."),
        ({"rank": -1}, "model.lora.rank=-1 must not be negative."),
        ({"rank": 0}, "model.lora.alpha=3.0 has no effect without model.lora.rank: leave it at its default, "),
        ({"train": ("heads",)}, "model.lora.train names 'heads'; the kinds of parameters are embedding, output, atten"),
        ({"dropout": 1.0}, "model.lora.dropout=1.0 must be at least 0 and below 1."),
    ],
)
def test_a_mistake_in_adapters_is_one_sentence(changes, expected):
    fields = {**vars(LORA), **changes}
    assert sentence(lambda: small_config("gpt", model__lora=Lora(**fields))).startswith(expected)


def test_what_the_model_lacks_is_no_target_and_nothing_to_train(one_device):
    said = sentence(small_config, "bert", model__lora=Lora(rank=2, targets=("gate",)))
    assert said.startswith("model.lora.targets names 'gate', but the model has query, key, value, out, up, down: ")
    settings = small_config("gpt", model__lora=Lora(rank=2, train=("pooler",)))
    said = sentence(make_training, settings, one_device)
    assert said == (
        "model.lora.train names 'pooler', but the model has decoder, embedding, output, attention, mlp, norm: leave it "
        "out."
    )


def test_a_config_of_before_has_no_adapters_and_flags_give_them(capsys):
    written = json.loads(json.dumps(presets.dataclasses.asdict(valid())))
    del written["model"]["lora"], written["rules"]["rank"]
    assert presets.from_json(Config, written, "x") == valid()
    command(
        [
            "check",
            "tiny_t5",
            "--model.lora.rank",
            "4",
            "--model.lora.targets",
            "query",
            "up",
            "--show",
            "model.lora.rank",
        ]
    )
    assert capsys.readouterr().out == "4\n"


@pytest.mark.slow
def test_a_plan_shows_full_fine_tuning_beside(one_device):
    settings = small_config("bert", model__lora=LORA, optimizer__name="adamw")
    found = figures.figures(settings, topology("h100:1"))
    memory, whole = found["memory"], found["full_fine_tuning"]
    assert memory["optimizer"] < whole["optimizer"] / 10
    assert memory["gradients"] * 2 == pytest.approx(memory["optimizer"], abs=64)
    lines = list(report.report(found, settings))
    assert any(
        line.startswith("The train step, on each device") and line.endswith("full fine-tuning") for line in lines
    )
    plain = step_flops(replace(settings, model=replace(settings.model, lora=Lora())))
    assert 0.6 < step_flops(settings).training / plain.training < 0.9
