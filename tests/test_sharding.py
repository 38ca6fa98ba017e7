"""Helpers that fail closed: a wrong name, a missing dimension or a missing mesh never replicates in silence."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from command_line import CONFIGS
from flax import linen as nn
from jax.sharding import AbstractMesh, AxisType
from jax.tree_util import tree_leaves_with_path as leaves_with_path
from small import replace, small_config

from t5like import config
from t5like.config import STRATEGIES, Rules, presets
from t5like.errors import UserError
from t5like.model import sharding
from t5like.model.network import make_network
from t5like.train.state import make_training


def test_a_misspelt_dimension_names_the_nearest(mesh):
    with pytest.raises(ValueError, match=r"no dimension is named 'emebd'; did you mean 'embed'\?"):
        sharding.shard(jnp.ones((8, 4, 4)), Rules(), "batch", "length", "emebd")


def test_a_missing_dimension_is_an_error(mesh):
    with pytest.raises(ValueError, match=r"axes \('batch', 'length'\) for an array of shape \(8, 4, 4\)"):
        sharding.shard(jnp.ones((8, 4, 4)), Rules(), "batch", "length")


def test_an_activation_without_a_mesh_is_an_error():
    with pytest.raises(RuntimeError, match="without a mesh"):
        sharding.shard(jnp.ones((8, 4)), Rules(), "batch", "length")


def test_one_mesh_axis_cannot_split_two_dimensions():
    with pytest.raises(UserError, match=r"change one of rules.embed=\('fsdp',\), rules.heads=.*, rules.kv="):
        sharding.spec(Rules(kv=("tensor",)), ("embed", "heads", "kv"))


def test_a_parameter_needs_a_name_for_each_dimension():
    class Module(nn.Module):
        @nn.compact
        def __call__(self):
            return sharding.param(self, "kernel", Rules(), (4, 4), ("embed",), nn.initializers.ones)

    with pytest.raises(ValueError, match=r"parameter 'kernel' has shape \(4, 4\) but axes \('embed',\)"):
        Module().init(jax.random.key(0))


def test_shard_acts_on_cpu_devices(mesh):
    x = jax.jit(lambda x: sharding.shard(x, Rules(), "batch", "length", "act_heads", None))(
        np.ones((8, 4, 2, 4), np.float32)
    )
    assert {s.data.shape for s in x.addressable_shards} == {(2, 4, 1, 4)}


@pytest.mark.parametrize(
    ("sizes", "sentence"),
    [
        (config.Mesh(data=64, fsdp=1), "mesh.data=64 needs 64 device(s), but there are 8: change mesh."),
        (
            config.Mesh(tensor=3),
            "mesh.fsdp=-1, mesh.tensor=3 needs a multiple of 3 device(s), but there are 8: change mesh.",
        ),
        (config.Mesh(fsdp=1), "A mesh of 1 everywhere needs 1 device(s), but there are 8: change mesh."),
    ],
)
def test_a_mesh_that_does_not_fit_says_what_it_needs(sizes, sentence):
    with pytest.raises(UserError) as error:
        sharding.make_mesh(sizes)
    assert str(error.value) == sentence


def test_a_mesh_axis_of_minus_one_takes_the_devices_that_are_left():
    assert dict(sharding.make_mesh(config.Mesh(tensor=2)).shape) == dict(slice=1, data=1, fsdp=4, sequence=1, tensor=2)


def test_a_parameter_that_the_mesh_does_not_divide_is_named(mesh):
    with pytest.raises(UserError, match=r"Parameter decoder/blocks/mlp/down has mlp=63, which 2 devices of mesh axes"):
        make_training(small_config("gpt", model__mlp=63), mesh)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (dict(mesh__sequence=2, data__length=21), "A row of the encoder has length=21, which 2 devices of mesh axes"),
        (dict(model__heads=3), "Attention has act_heads=3, which 2 devices of mesh axes tensor do not divide"),
    ],
)
def test_activations_that_the_mesh_does_not_divide_are_named(changes, expected):
    settings = small_config("bert", mesh__tensor=2, **changes)
    with pytest.raises(UserError, match=expected), jax.set_mesh(made := sharding.make_mesh(settings.mesh)):
        make_training(settings, made)


@dataclasses.dataclass(frozen=True)
class Chip:
    id: int
    slice_index: int
    process_index: int
    coords: tuple[int, ...]
    core_on_chip: int = 0
    device_kind: str = ""
    platform: str = "tpu"


def test_several_slices_are_steps_along_their_own_axis():
    """Devices of two slices, as a TPU has them; CPU devices have none."""
    devices = [Chip(id=n, slice_index=n // 4, process_index=n // 4, coords=(n % 2, n % 4 // 2, 0)) for n in range(8)]
    for sizes in (config.Mesh(tensor=2), config.Mesh(slice=2, tensor=2)):
        grid = sharding.make_mesh(sizes, devices).devices
        assert grid.shape == (2, 1, 2, 1, 2)
        assert {(d.slice_index, n) for n, half in enumerate(grid) for d in half.flat} == {(0, 0), (1, 1)}
    gpus = [dataclasses.replace(device, platform="gpu") for device in devices]
    assert sharding.make_mesh(config.Mesh(), gpus).devices.shape == (1, 1, 8, 1, 1)
    with pytest.raises(UserError, match=r"mesh.slice=4, but there are 2 slices: set mesh.slice=2"):
        sharding.make_mesh(config.Mesh(slice=4), devices)


def large(tree: Any, size: int) -> dict[str, Any]:
    """Path -> leaf of what is too large for each device to hold it whole."""
    named = ((jax.tree_util.keystr(path, simple=True, separator="/"), x) for path, x in leaves_with_path(tree))
    return {name: leaf for name, leaf in named if leaf.size >= size}


PRODUCTION = {
    "t5_1_1_base": config.Mesh(fsdp=64),
    "mt5_base": config.Mesh(fsdp=64),
    "byt5_base": config.Mesh(fsdp=64),
    "ul2_base": config.Mesh(slice=2, fsdp=64),
    "bert_base": config.Mesh(fsdp=64),
    "gpt2_small": config.Mesh(data=2, fsdp=32),
    "llama_1b": config.Mesh(fsdp=64, tensor=4),
    "transformer_2017_base": config.Mesh(fsdp=16, tensor=4),
}
"""A mesh of a pod for each preset that is not tiny."""


@pytest.mark.parametrize(
    "name",
    [
        name if name in ("t5_1_1_base", "llama_1b", "bert_base") else pytest.param(name, marks=pytest.mark.slow)
        for name in sorted(file.stem for file in CONFIGS.glob("*.py"))
    ],
)
def test_every_preset_is_split_over_its_pod_without_a_device(name):
    """Parameters and optimizer state, from shapes alone: each large array is split over fsdp and tensor as far as they
    are above 1, however many devices that is."""
    settings = replace(presets.load(str(CONFIGS / f"{name}.py")), mesh=PRODUCTION.get(name, config.Mesh(fsdp=8)))
    sizes = dataclasses.asdict(settings.mesh)
    mesh = AbstractMesh(tuple(sizes.values()), tuple(sizes), (AxisType.Auto,) * len(sizes))
    with jax.sharding.use_abstract_mesh(mesh):
        training = make_training(settings, mesh)
    assert settings.train.batch % (sizes["slice"] * sizes["data"] * sizes["fsdp"]) == 0
    for path, leaf in (large(training.abstract.params, 2**16) | large(training.abstract.opt_state, 2**20)).items():
        held = math.prod(leaf.sharding.shard_shape(leaf.shape))
        assert held * sizes["fsdp"] <= leaf.size, path


@pytest.mark.parametrize("family", ["t5", "gpt", "bert"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_strategy_splits_what_its_name_says(strategy, family):
    sizes = config.Mesh(tensor=2) if strategy not in ("replicated", "fsdp") else config.Mesh()
    settings = replace(small_config(family), rules=STRATEGIES[strategy], mesh=sizes)
    with jax.set_mesh(made := sharding.make_mesh(sizes)):
        training = make_training(settings, made)
    used = {
        axis
        for leaf in jax.tree.leaves(training.abstract.params)
        for axis in jax.tree.leaves(tuple(leaf.sharding.spec))
    }
    assert used == {"replicated": set(), "fsdp": {"fsdp"}}.get(strategy, {"fsdp", "tensor"})
    assert settings.rules.uses("sequence") == (strategy == "sequence")


def test_a_bias_of_the_residual_stream_is_whole_on_every_device(mesh):
    """As the stream itself is; biases inside a layer are split like what they are added to."""
    axes = make_network(small_config("bert"), mesh).axes
    biases = {path.removeprefix("encoder/blocks/"): names for path, names in axes.items() if path.endswith("_bias")}
    assert [biases[name] for name in ("self/out_bias", "mlp/down_bias")] == [("layers", "norm")] * 2
    assert (biases["self/query_bias"], biases["mlp/up_bias"]) == (("layers", "heads", "kv"), ("layers", "mlp"))


@pytest.mark.parametrize("family", ["t5", "gpt", "bert"])
def test_no_matrix_is_whole_on_every_device(family, mesh):
    training = make_training(small_config(family), mesh)
    whole = {
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(training.abstract.params)
        if leaf.ndim > 2 and leaf.sharding.is_fully_replicated
    }
    assert not whole
