"""Every parameter is in one group, and its group's rate, decay and freezing act where the config says they do."""

import dataclasses
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from settings import sentence, valid
from small import small_config

from t5like.commands import NoOptions
from t5like.config import Config, Group, Groups, Lora, Optimizer, presets
from t5like.config.flags import override
from t5like.model.network import abstract_batch
from t5like.model.transformer import Transformer
from t5like.optim.groups import KINDS, frozen_and_trained, group_of, is_decayed, joined, require_groups
from t5like.optim.optimizer import make_optimizer

ATTENTION = {"self/query", "self/key", "self/value", "self/out"}
CROSS = {name.replace("self", "cross") for name in ATTENTION}
GATED = {"mlp/gate", "mlp/up", "mlp/down"}
DECAYED = {
    "t5": {
        *("embedding", "output"),
        *(f"encoder/blocks/{name}" for name in ATTENTION | GATED),
        *(f"decoder/blocks/{name}" for name in ATTENTION | CROSS | GATED),
    },
    "gpt": {"embedding", "output", *(f"decoder/blocks/{name}" for name in ATTENTION | GATED)},
    "bert": {"embedding", "positions", *(f"encoder/blocks/{name}" for name in ATTENTION | {"mlp/up", "mlp/down"})},
}
DECAYED["pairs"] = DECAYED["bert"] | {"token_types", "pooler/kernel", "head/kernel"}
DECAYED["written out"] = DECAYED["pairs"] | {"transform/kernel"}
NOT_DECAYED = ("scale", "bias", "relative")
SHAPES = {
    "embedding": (6, 4),
    "encoder/relative": (4, 2),
    "encoder/blocks/mlp/up": (2, 4, 8),
    "encoder/blocks/mlp/up_bias": (2, 8),
    "decoder/blocks/mlp/up": (2, 4, 8),
    "decoder/norm/scale": (4,),
}
AXES = {
    "embedding": ("vocab", "embed"),
    "encoder/relative": ("buckets", "heads"),
    "encoder/blocks/mlp/up": ("layers", "embed", "mlp"),
    "encoder/blocks/mlp/up_bias": ("layers", "mlp"),
    "decoder/blocks/mlp/up": ("layers", "embed", "mlp"),
    "decoder/norm/scale": ("norm",),
}


def paths(family: str) -> set[str]:
    """Of every parameter of a small model."""
    changes = {"model__output_transform": True, "model__output_bias": True} if family == "written out" else {}
    config = small_config("pairs" if changes else family, **changes)
    net, batch = Transformer(config.model, config.rules), abstract_batch(config, 2)
    boxed = jax.eval_shape(lambda b: net.init(jax.random.key(0), b, method=Transformer.scores), batch)
    return set(flatten_dict(nn.unbox(boxed)["params"], sep="/"))


def random_tree(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    leaves = {path: jnp.asarray(rng.normal(size=shape), jnp.float32) for path, shape in SHAPES.items()}
    return unflatten_dict(leaves, sep="/")


def updates(gradients: Any = None, **changes: Any) -> tuple[dict[str, Any], Any]:
    """The first update of each parameter, by its path, and the optimizer's state."""
    settings = Optimizer(**{"learning_rate": 0.1, "schedule": "constant", "weight_decay": 0.5, **changes})
    optimizer, params = make_optimizer(settings, 10, AXES), random_tree(0)
    gradients = random_tree(1) if gradients is None else gradients
    moved, state = jax.jit(lambda g, p: optimizer.update(g, optimizer.init(p), p))(gradients, params)
    return flatten_dict(moved, sep="/"), state


@pytest.mark.parametrize("family", list(DECAYED))
def test_matrices_are_decayed_and_norms_biases_and_the_relative_bias_are_not(one_device, family):
    """By name, for every parameter."""
    there = paths(family)
    assert {path for path in there if is_decayed(path, Optimizer())} == DECAYED[family]
    assert all(path.endswith(NOT_DECAYED) for path in there - DECAYED[family])


def test_each_kind_of_group_has_parameters_in_some_model(one_device):
    assert {group_of(path) for family in DECAYED for path in paths(family)} == set(KINDS)


def test_every_kind_and_both_stacks_can_be_frozen():
    for part in (*KINDS, "encoder", "decoder"):
        assert Optimizer(freeze=(part,)).freeze == (part,)


def test_a_parameter_that_no_group_claims_is_named_with_the_groups():
    with pytest.raises(
        ValueError, match="'decoder/blocks/gate/kernel' is in none of the groups embedding, output, att"
    ):
        make_optimizer(Optimizer(), 10, {"decoder/blocks/gate/kernel": ("embed",)})


@pytest.mark.parametrize("name", ["adafactor", "muon"])
def test_a_group_s_rate_multiplies_its_update_and_its_decay(name):
    plain, state = updates(name=name)
    groups = Groups(mlp=Group(rate=4.0), norm=Group(rate=0.5, decay=False))
    scaled, other = updates(name=name, groups=groups)
    assert jax.tree.structure(state) == jax.tree.structure(other)
    factors = {"norm": 0.5, "mlp": 4.0}
    for path, update in scaled.items():
        np.testing.assert_allclose(update, factors.get(group_of(path), 1.0) * plain[path], rtol=1e-6, err_msg=path)


@pytest.mark.parametrize("name", ["adafactor", "adamw_rms"])
def test_decay_is_added_before_the_rate_and_to_no_bias(name):
    groups = Groups(embedding=Group(decay=False), relative=Group(decay=True))
    without, _ = updates(name=name, weight_decay=0.0)
    decayed, _ = updates(name=name, groups=groups)
    for path, param in flatten_dict(random_tree(0), sep="/").items():
        expected = -0.1 * 0.5 * param if path.endswith(("/up", "relative")) else jnp.zeros_like(param)
        np.testing.assert_allclose(decayed[path] - without[path], expected, atol=1e-6, err_msg=path)


@pytest.mark.parametrize("name", ["adafactor", "muon"])
def test_what_is_frozen_keeps_its_value_without_state_and_does_not_count_in_clipping(name):
    """Frozen gradients, however large, change nothing in the updates of the rest."""
    huge = flatten_dict(random_tree(1), sep="/")
    huge |= {path: 1e6 * leaf for path, leaf in huge.items() if path.startswith("encoder") or path == "embedding"}
    chosen = {"name": name, "clip": 1.0, "freeze": ("encoder", "embedding")}
    moved, state = updates(unflatten_dict(huge, sep="/"), **chosen)
    again, _ = updates(**chosen)
    assert {path for path, update in moved.items() if not np.any(update)} == {p for p in SHAPES if "decoder" not in p}
    jax.tree.map(np.testing.assert_array_equal, moved, again)
    kept = {path for path in SHAPES if any(p in str(jax.tree.structure(state)) for p in (path, path.split("/")[0]))}
    assert kept == {"decoder/blocks/mlp/up", "decoder/norm/scale"}


def test_frozen_parameters_are_apart_and_the_others_update_as_beside_them():
    settings = Optimizer(name="adamw", freeze=("relative", "decoder"))
    frozen, trained = frozen_and_trained(random_tree(0), settings, Lora())
    assert set(flatten_dict(frozen, sep="/")) == {"encoder/relative", "decoder/blocks/mlp/up", "decoder/norm/scale"}
    jax.tree.map(np.testing.assert_array_equal, joined(frozen, trained), random_tree(0))
    optimizer = make_optimizer(settings, 10, AXES)
    states = [optimizer.init(params) for params in (joined(frozen, trained), trained)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    whole, part = (optimizer.update(params, states[0], params)[0] for params in (joined(frozen, trained), trained))
    jax.tree.map(np.testing.assert_array_equal, frozen_and_trained(whole, settings, Lora())[1], part)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"freeze": ("pooler",)},
            "optimizer.freeze names 'pooler', but the model has encoder, decoder, embedding, mlp, ",
        ),
        (
            {"groups": Groups(head=Group(rate=2.0))},
            "optimizer.groups.head is changed, but the model has encoder, decode",
        ),
        ({"freeze": ("encoder", "decoder", "embedding")}, "leaves nothing to train: take something out."),
    ],
)
def test_a_rule_without_parameters_is_a_mistake(changes, expected):
    assert expected in sentence(require_groups, Optimizer(**changes), Lora(), SHAPES)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"groups": {"head": {"rate": 0.0}}}, "optimizer.groups.head.rate=0.0 must be above 0."),
        ({"groups": {"heads": {}}}, "x: Groups has no field 'heads'; did you mean 'head'?"),
        ({"freeze": ["mlp", "mlp"]}, "optimizer.freeze=('mlp', 'mlp') names a part twice."),
        ({"name": "muon", "momentum": 1.0}, "optimizer.momentum=1.0 must lie in [0, 1)."),
    ],
)
def test_a_mistake_in_an_optimizer_is_one_sentence(fields, expected):
    assert sentence(presets.from_json, Optimizer, fields, "x").startswith(expected)


def test_groups_are_set_on_the_command_line_and_kept_in_json():
    flags = ["--optimizer.groups.head.rate", "10", "--optimizer.groups.embedding.decay", "False"]
    flags += ["--optimizer.weight_decay", "0.1"]
    config, _ = override(valid(), NoOptions, [*flags, "--optimizer.freeze", "encoder", "mlp"], "t5like train x")
    assert config.optimizer.groups == Groups(head=Group(rate=10.0), embedding=Group(decay=False))
    assert config.optimizer.freeze == ("encoder", "mlp")
    assert presets.from_json(Config, json.loads(json.dumps(dataclasses.asdict(config))), "x") == config
