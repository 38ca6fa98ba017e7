"""The chunked loss: the plain one's values and gradients, on any mesh, without the scores of the whole batch."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import assert_trees_close

from t5like import config
from t5like.model.heads import LMHeadInputs
from t5like.model.sharding import make_mesh
from t5like.train.chunked import Targets, chunked_sums
from t5like.train.losses import UNSMOOTHED, Smoothing, Sums, weighted_sums

BATCH, LENGTH, EMBED, VOCAB = 8, 6, 16, 40
RULES = config.Rules()
MESHES = {
    "rows": config.Mesh(data=2, fsdp=4),
    "vocabulary": config.Mesh(fsdp=2, tensor=4),
    "places": config.Mesh(slice=2, fsdp=2, sequence=2),
}


def example(dtype: Any = jnp.float32) -> tuple[LMHeadInputs, Targets]:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(BATCH, LENGTH, EMBED)), dtype)
    matrix, bias = rng.normal(size=(EMBED, VOCAB)), rng.normal(size=VOCAB)
    tokens, weights = rng.integers(0, VOCAB, (BATCH, LENGTH)), rng.random((BATCH, LENGTH)) < 0.7
    inputs = LMHeadInputs(x, jnp.asarray(matrix, jnp.float32), jnp.asarray(bias, jnp.float32))
    return inputs, Targets(jnp.asarray(tokens, jnp.int32), jnp.asarray(weights, jnp.float32))


def plain(inputs: LMHeadInputs, targets: Targets, smoothing: Smoothing = UNSMOOTHED) -> Sums:
    matrix = inputs.matrix.astype(inputs.x.dtype)
    scores = jnp.einsum("bld,dv->blv", inputs.x, matrix, preferred_element_type=jnp.float32)
    return weighted_sums(scores + inputs.bias[None, None], *targets, 0.01, smoothing)


def chunked(inputs: LMHeadInputs, targets: Targets, chunk_bytes: int, smoothing: Smoothing = UNSMOOTHED) -> Sums:
    return chunked_sums(inputs, targets, 0.01, RULES, chunk_bytes, smoothing)


def with_gradient(function: Any, inputs: LMHeadInputs, targets: Targets) -> Any:
    """The sums, and the gradient of a multiple of their objective."""

    def objective(inputs: LMHeadInputs) -> tuple[jax.Array, Sums]:
        sums = function(inputs, targets)
        return 0.25 * sums["objective"].total, sums

    (_, sums), gradient = jax.jit(jax.value_and_grad(objective, has_aux=True))(inputs)
    return sums, gradient


@pytest.mark.parametrize("chunk_bytes", [2**20, 5 * VOCAB * 4, 1], ids=["one", "uneven", "a token each"])
def test_chunks_give_the_plain_values_and_gradients(chunk_bytes, one_device):
    given = example()
    expected = with_gradient(plain, *given)
    actual = with_gradient(functools.partial(chunked, chunk_bytes=chunk_bytes), *given)
    assert_trees_close(actual, expected, rtol=2e-5, atol=1e-6)
    assert actual[1].matrix.dtype == jnp.float32


def test_smoothed_targets_give_the_plain_values_and_gradients_on_a_mesh():
    given, smoothing = example(), Smoothing(0.1, VOCAB - 3)
    expected = with_gradient(functools.partial(plain, smoothing=smoothing), *given)
    with jax.set_mesh(make_mesh(MESHES["vocabulary"])):
        actual = with_gradient(functools.partial(chunked, chunk_bytes=3 * VOCAB * 4, smoothing=smoothing), *given)
    assert_trees_close(actual, expected, rtol=2e-5, atol=1e-6)
    assert abs(expected[0]["objective"].total - with_gradient(plain, *given)[0]["objective"].total) > 1


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_every_mesh_gives_the_plain_values_and_gradients(mesh):
    given = example()
    expected = with_gradient(plain, *given)
    with jax.set_mesh(make_mesh(mesh)):
        actual = with_gradient(functools.partial(chunked, chunk_bytes=3 * VOCAB * 4), *given)
    assert_trees_close(actual, expected, rtol=2e-5, atol=1e-6)


def test_narrow_hidden_states_give_nearly_the_plain_gradients(one_device):
    given = example(jnp.bfloat16)
    expected = with_gradient(plain, *given)
    actual = with_gradient(functools.partial(chunked, chunk_bytes=5 * VOCAB * 4), *given)
    assert_trees_close(actual[0], expected[0], rtol=1e-4, atol=1e-6)
    assert_trees_close(
        jax.tree.map(jnp.float32, actual[1]), jax.tree.map(jnp.float32, expected[1]), rtol=0.03, atol=0.03
    )
    assert actual[1].x.dtype == jnp.bfloat16


def test_the_scores_of_a_batch_are_never_held_at_once(one_device):
    """A batch whose scores take 32 MiB is computed with less than an eighth of that."""
    x = jax.ShapeDtypeStruct((32, 64, EMBED), jnp.float32)
    inputs = LMHeadInputs(
        x, jax.ShapeDtypeStruct((EMBED, 4096), jnp.float32), jax.ShapeDtypeStruct((4096,), jnp.float32)
    )
    targets = Targets(*(jax.ShapeDtypeStruct((32, 64), dtype) for dtype in (jnp.int32, jnp.float32)))

    def temporary(function: Any) -> int:
        compiled = jax.jit(jax.grad(lambda r, t: function(r, t)["objective"].total)).lower(inputs, targets).compile()
        memory: Any = compiled.memory_analysis()
        return memory.temp_size_in_bytes

    whole = 32 * 64 * 4096 * 4
    assert temporary(plain) > whole
    assert temporary(functools.partial(chunked, chunk_bytes=2**20)) < whole / 8
