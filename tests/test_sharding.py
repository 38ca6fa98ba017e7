"""Helpers that fail closed: a wrong name, a missing dimension or a missing mesh never replicates in silence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from small import small_config

from t5like import config
from t5like.config import Rules
from t5like.errors import UserError
from t5like.model import sharding
from t5like.train.state import plan_run


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
        plan_run(small_config("gpt", model__mlp=63), mesh)


@pytest.mark.parametrize("family", ["t5", "gpt", "bert"])
def test_no_matrix_is_whole_on_every_device(family, mesh):
    plan = plan_run(small_config(family), mesh)
    whole = {
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(plan.abstract.params)
        if leaf.ndim > 2 and leaf.sharding.is_fully_replicated
    }
    assert not whole
