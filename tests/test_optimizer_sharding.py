"""The state of every optimizer is split as its parameters are, and the compiled step changes it in place."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import PartitionSpec as P
from small import assert_trees_close, random_batch, random_params, small_config

from t5like import config
from t5like.model.sharding import batch_sharding, make_mesh
from t5like.optim.matrices import per_matrix
from t5like.optim.placement import kept_dimensions, optimizer_shardings
from t5like.optim.scales import LEAST_FACTORED
from t5like.runs.checkpoints import State
from t5like.train.state import Training, make_training
from t5like.train.step import train_step

RATES = {"adafactor": 0.1, "adamw": 0.03, "adamw_rms": 0.2, "lion": 0.02, "muon": 0.03}
"""At which a small model learns."""
AXES = dict(mesh__data=2, mesh__fsdp=2, mesh__tensor=2)
MESH = config.Mesh(data=2, fsdp=2, tensor=2)
SQUARE = dict(model__embed=128, model__heads=4, model__kv=32, model__mlp=256)
"""Sizes from which Adafactor factors, and of which the matrices of attention are square."""


def training_of(name: str, family: str) -> Training:
    mesh = make_mesh(MESH)
    with jax.set_mesh(mesh):
        return make_training(small_config(family, optimizer__name=name, **SQUARE), mesh)


@pytest.fixture(scope="module")
def adafactor() -> Training:
    return training_of("adafactor", "t5")


@pytest.mark.parametrize(
    ("path", "rows", "columns", "whole"),
    [
        ("decoder/blocks/self/query", P(None, "fsdp"), P(None, "tensor"), P(None, None)),
        ("decoder/blocks/cross/out", P(None, "tensor"), P(None, "fsdp"), P(None, None)),
        ("encoder/blocks/mlp/up", P(None, "fsdp"), P(None, "tensor"), P(None, None)),
        ("encoder/blocks/mlp/down", P(None, "fsdp"), P(None, "tensor"), P(None, None)),
        ("embedding", P("fsdp"), P("tensor"), P(None)),
        ("output", P("fsdp"), P("tensor"), P(None)),
        ("encoder/relative", P(None), P(None), P(None, "tensor")),
        ("encoder/blocks/norm_mlp/scale", P(None, None), P(None, None), P(None, None)),
        ("encoder/norm/scale", P(None), P(None), P(None)),
    ],
)
def test_adafactor_s_factors_are_split_as_the_dimensions_that_they_keep(adafactor, path, rows, columns, whole):
    """`v_row` lacks the largest dimension, or the last of two that are equal; rows and columns are named by that."""
    state = adafactor.shardings.opt_state[1][path][0]
    expected = (rows, columns, whole)
    specs = tuple(P(*(axes[0] if isinstance(axes, tuple) else axes for axes in place.spec)) for place in state[1:])
    assert specs == expected


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((128, 128), ("embed", "mlp")),
        ((128, 256), ("embed", "mlp")),
        ((4, 32, 128), ("heads", "kv", "embed")),
    ],
)
def test_a_factor_keeps_the_dimension_that_is_said_of_it(shape, names):
    """The first rows of the gradient are larger, so only the factor that keeps that dimension is uneven."""
    gradient = jnp.ones(shape, jnp.float32).at[0].set(2.0)
    factors = optax.scale_by_factored_rms(min_dim_size_to_factor=LEAST_FACTORED)
    inner = per_matrix(factors, {"w": names})
    _, state = jax.jit(lambda tree: inner.update(tree, inner.init(tree), tree))({"w": gradient})
    for field in ("v_row", "v_col"):
        values = getattr(state["w"], field)
        dimensions, sizes = kept_dimensions(field, shape, names)
        assert sizes == values.shape
        assert (dimensions == (0,)) == bool(np.ptp(values) > 0.1)


@pytest.mark.parametrize("name", list(RATES))
@pytest.mark.parametrize("family", ["t5", "pairs"])
def test_no_large_leaf_is_whole_where_its_parameter_is_split(name, family):
    """Moments are split among as many devices as their parameters; a factor keeps one of two dimensions."""
    training = training_of(name, family)
    params = flatten_dict(training.abstract.params, sep="/")
    large = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(training.abstract.opt_state):
        owner = "/".join(key.key for key in path if isinstance(key, jax.tree_util.DictKey))
        if owner in params and leaf.size >= 128 and parts_of(params[owner]) > 1:
            param = params[owner]
            least = parts_of(param) if leaf.size == param.size else 2 if parts_of(param) == 4 else 1
            assert parts_of(leaf) >= least, jax.tree_util.keystr(path)
            large += 1
    assert large > 10


def parts_of(leaf: jax.ShapeDtypeStruct) -> int:
    """Among how many devices a leaf is split."""
    assert leaf.sharding is not None
    return leaf.size // math.prod(leaf.sharding.shard_shape(leaf.shape))


def test_a_leaf_that_fits_no_rule_is_an_error():
    class Momentum(NamedTuple):
        trace: Any

    mesh = make_mesh(MESH)
    params = {"mlp": {"up": jax.ShapeDtypeStruct((4, 8), jnp.float32)}}
    places = {"mlp": {"up": jax.NamedSharding(mesh, P("fsdp", "tensor"))}}
    axes = {"mlp/up": ("embed", "mlp")}
    state = Momentum({"mlp": {"up": jax.ShapeDtypeStruct((8, 4), jnp.float32)}})
    with pytest.raises(ValueError, match=r"'trace/mlp/up' has shape \(8, 4\), not \(4, 8\)"):
        optimizer_shardings(state, params, places, axes)
    with pytest.raises(ValueError, match=r"'trace' of shape \(4096,\) belongs to no parameter"):
        optimizer_shardings(Momentum(jax.ShapeDtypeStruct((4096,), jnp.float32)), params, places, axes)


class Course(NamedTuple):
    """A compiled step, the state after its first call, and the losses of all calls on one batch."""

    compiled: Any
    training: Training
    first: State
    losses: list[float]


def train(settings: config.Config, devices: int, steps: int) -> Course:
    mesh = make_mesh(settings.mesh, jax.devices()[:devices])
    with jax.set_mesh(mesh):
        training, batch = make_training(settings, mesh), random_batch(settings)
        params = random_params(training.network.net, batch)
        state = jax.device_put(
            State(jnp.int32(0), params, jax.jit(training.optimizer.init)(params)), training.shardings
        )
        batch = jax.device_put(batch, batch_sharding(settings.rules, mesh))
        step = functools.partial(train_step, config=settings, net=training.network.net, optimizer=training.optimizer)
        compiled = (
            jax.jit(step, out_shardings=(training.shardings, None), donate_argnums=0).lower(state, batch).compile()
        )
        state, metrics = compiled(state, batch)
        first, losses = jax.device_get(state), [float(metrics.sums["loss"].total)]
        for _ in range(steps - 1):
            state, metrics = compiled(state, batch)
            losses.append(float(metrics.sums["loss"].total))
    return Course(compiled, training, first, losses)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RATES))
def test_a_split_step_is_in_place_learns_and_equals_that_of_one_device(name):
    """In place: what the program returns in the memory of its input is at least 0.95 of the state on a device. Lion's
    batch is computed in two parts. Only Adafactor and Muon look at more than one number at a time."""
    sizes = SQUARE if name == "adafactor" else {}
    settings = functools.partial(
        small_config, "gpt", optimizer__name=name, optimizer__learning_rate=RATES[name], data__length=16, **sizes
    )
    split = train(settings(**AXES, train__accumulate=2 if name == "lion" else 1), 8, 8)
    leaves = jax.tree.leaves(split.training.abstract)
    state = sum(leaf.size // parts_of(leaf) * leaf.dtype.itemsize for leaf in leaves)
    assert split.compiled.memory_analysis().alias_size_in_bytes >= 0.95 * state
    assert split.losses[-1] < 0.8 * split.losses[0]
    if name in ("adafactor", "muon"):
        single = train(settings(mesh__fsdp=1), 1, 1)
        assert_trees_close(split.first.opt_state, single.first.opt_state, rtol=2e-3, atol=1e-6)
        assert_trees_close(split.first.params, single.first.params, rtol=1e-3, atol=0.02 * RATES[name])
