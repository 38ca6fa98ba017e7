"""Every implementation of attention gives what plain attention gives, forward and backward, on one device and eight."""

import functools
import importlib.util
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from small import mesh_of, random_batch, random_params, replace, small_config

from t5like.config import Mesh, Objective, Rules
from t5like.errors import UserError
from t5like.model.attention import attend as attention
from t5like.model.attention import flash, kernels
from t5like.model.attention.masks import AttentionMask, Relative
from t5like.model.layers import dropout
from t5like.model.network import abstract_batch
from t5like.model.sharding import make_mesh, spec
from t5like.model.transformer import Transformer
from t5like.plan.topology import topology
from t5like.train.state import make_training
from t5like.train.step import accumulated_gradient

RULES = Rules()
TOLERANCES = {"float32": 2e-5, "bfloat16": 2e-2}
"""Of the largest value of each output or gradient."""


def inputs(
    queries: int, keys: int, dtype: str, *, heads: int = 4, kv_heads: int = 4, kv: int = 8, batch: int = 4
) -> dict[str, Any]:
    """Random queries, keys, values and table of a bias, and segments of packed rows that end in padding; the first row
    has no key of its second segment."""
    rng = np.random.default_rng(0)
    shapes = {"query": (queries, heads), "keys": (keys, kv_heads), "values": (keys, kv_heads)}
    arrays = {name: jnp.asarray(rng.normal(size=(batch, *shape, kv)), dtype) for name, shape in shapes.items()}
    arrays["table"] = jnp.asarray(rng.normal(size=(8, heads)), dtype)

    def segments(length: int) -> np.ndarray:
        ends = np.array([length // 3, length - 3])
        return np.broadcast_to((np.arange(length)[:, None] < ends).sum(1), (batch, length)).astype(np.int32)

    own, others = segments(queries), segments(keys).copy()
    others[0] = np.where(others[0] == 1, 2, others[0])
    return arrays | {"own": jnp.asarray(own), "others": jnp.asarray(own if queries == keys else others)}


def results(kind: Any, given: dict[str, Any], causal: bool, biased: bool) -> dict[str, np.ndarray]:
    """The output, and the gradients of a random weighing of it."""
    names = ["query", "keys", "values"] + ["table"] * biased
    weights = jnp.asarray(np.random.default_rng(1).normal(size=given["query"].shape), jnp.float32)

    def loss(arrays: dict[str, Any]) -> tuple[Any, Any]:
        relative = Relative(arrays["table"], 16) if biased else None
        mask = AttentionMask(jnp.asarray(given["own"]), jnp.asarray(given["others"]), causal)
        y = kind(*(arrays[name] for name in ("query", "keys", "values")), mask, relative)
        return jnp.sum(y.astype(jnp.float32) * weights), y

    gradient, y = jax.jit(jax.grad(loss, has_aux=True))({name: given[name] for name in names})
    return {name: np.asarray(x, np.float32) for name, x in jax.device_get({"output": y, **gradient}).items()}


def assert_as_plain(kind: Any, given: dict[str, Any], causal: bool, biased: bool) -> None:
    expected = results(attention.plain, given, causal, biased)
    for name, found in results(kind, given, causal, biased).items():
        tolerance = TOLERANCES[str(given["query"].dtype)] * np.abs(expected[name]).max()
        np.testing.assert_allclose(found, expected[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(
    ("causal", "biased", "queries", "keys", "kv_heads"),
    [(False, True, 40, 40, 4), (True, True, 40, 40, 2), (False, False, 24, 40, 1), (True, False, 32, 32, 4)],
    ids=["encoder", "decoder", "cross", "whole_blocks"],
)
def test_linear_attention_equals_plain(causal, biased, queries, keys, kv_heads, dtype, one_device):
    """Lengths that are no multiple of the block, several segments, padding, and queries that see nothing."""
    given = inputs(queries, keys, dtype, kv_heads=kv_heads)
    assert_as_plain(functools.partial(flash.linear, rules=RULES, block=16), given, causal, biased)


def test_softmax_has_the_gradient_of_jaxs_own_and_keeps_one_copy_of_its_weights():
    scores, weighing = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1, 2, 8, 16)), jnp.float32)
    (found,), (expected,) = (
        jax.vjp(function, scores)[1](weighing)
        for function in (lambda x: attention.softmax(x, jnp.dtype("float32")), jax.nn.softmax)
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    _, backward = jax.vjp(lambda x: attention.softmax(x, jnp.dtype("bfloat16")), scores)
    assert [(kept.shape, kept.dtype) for kept in jax.tree.leaves(backward)] == [(scores.shape, jnp.bfloat16)]


@pytest.mark.parametrize("remat", ["none", pytest.param("full", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("family", "objective"),
    [
        pytest.param("t5", {"kind": "span_corruption", "mean_span": 120.0}, marks=pytest.mark.slow),
        ("gpt", {"kind": "causal"}),
    ],
)
def test_no_array_of_a_models_gradient_grows_with_the_square_of_the_length(family, objective, remat, one_device):
    """What all layers share is made once, before their loop: never the bias or the mask of all blocks at once."""

    def largest(length: int) -> int:
        settings = small_config(
            family,
            data__length=length,
            data__objective=Objective(**objective),
            mesh__fsdp=1,
            model__attention="linear",
            model__remat=remat,
            train__batch=1,
        )
        training = make_training(settings, make_mesh(settings.mesh, jax.devices()[:1]))
        step = functools.partial(accumulated_gradient, config=settings, net=training.network.net)
        return max(shapes(jax.make_jaxpr(step)(training.abstract, abstract_batch(settings, 1)).jaxpr))

    def shapes(jaxpr: Any) -> Iterator[int]:
        for equation in jaxpr.eqns:
            yield from (math.prod(value.aval.shape) for value in equation.outvars if hasattr(value.aval, "shape"))
            for inner in jaxprs_in_params(equation.params):
                yield from shapes(inner)

    assert largest(8 * flash.BLOCK) < 2.2 * largest(4 * flash.BLOCK)


@pytest.mark.parametrize("sequence", [1, 2])
def test_split_over_devices_attention_equals_plain_on_one(sequence):
    """Rows, heads and the length are split; the heads of keys not, where they are too few."""
    mesh = make_mesh(Mesh(fsdp=2, sequence=sequence, tensor=4 // sequence))
    for kv_heads, rules in ((4, RULES), (2, Rules(kv_heads=(), act_kv_heads=()))):
        given = inputs(48, 48, "float32", kv_heads=kv_heads)
        with jax.set_mesh(make_mesh(Mesh(fsdp=1), jax.devices()[:1])):
            expected = results(attention.plain, given, True, True)
        given = jax.device_get(given)
        with jax.set_mesh(mesh):
            found = results(functools.partial(flash.linear, rules=rules, block=16), given, True, True)
        for name, x in expected.items():
            np.testing.assert_allclose(found[name], x, rtol=0, atol=2e-5 * np.abs(x).max(), err_msg=name)


@pytest.mark.parametrize("causal", [False, True])
def test_splash_attention_equals_plain(causal, one_device):
    """In interpret mode, since the kernel is for TPUs."""
    given = inputs(128, 128, "float32", heads=2, kv_heads=1, batch=1, kv=16)
    run = lambda *a: kernels.splash(*a[:4], RULES, interpret=True)  # noqa: E731
    assert_as_plain(run, given, causal, biased=False)


@pytest.mark.parametrize(("causal", "biased", "kv_heads"), [(False, True, 4), (True, False, 2)])
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_the_call_of_cudnn_means_what_plain_computes(causal, biased, kv_heads, dtype, one_device):
    """By the implementation that runs on every platform, with the same arguments."""
    run = functools.partial(kernels.cudnn, rules=RULES, implementation="xla")
    with jax.numpy_dtype_promotion("standard"):
        assert_as_plain(run, inputs(24, 24, dtype, kv_heads=kv_heads), causal, biased)


HERE = attention.by_rows, attention.plain


@pytest.mark.parametrize(("kv_heads", "causal", "window"), [(4, False, None), (2, True, None), (1, True, 40)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_row_by_row_is_plain_forward_and_backward(kv_heads, causal, window, dtype):
    """Also for packed rows with padding."""
    keys = jax.random.split(jax.random.key(0), 4)
    query = jax.random.normal(keys[0], (3, 96, 4, 16)).astype(dtype)
    key, value = (jax.random.normal(k, (3, 96, kv_heads, 16)).astype(dtype) for k in keys[1:3])
    segments = jnp.tile(jnp.repeat(jnp.array([1, 2, 0], jnp.int32), jnp.array([40, 30, 26]))[None], (3, 1))
    mask, table = AttentionMask(segments, segments, causal, window=window), jax.random.normal(keys[3], (32, 4))

    def loss(attend, *arrays):
        out = attend(*arrays[:3], mask, Relative(arrays[3], 64))
        return jnp.square(out.astype(jnp.float32)).sum(), out

    both = (jax.value_and_grad(functools.partial(loss, f), (0, 1, 2, 3), has_aux=True) for f in HERE)
    found, expected = (jax.jit(each)(query, key, value, table) for each in both)
    tolerance = 2 * TOLERANCES[dtype]  # both round
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        x, y = np.asarray(x, np.float32), np.asarray(y, np.float32)
        np.testing.assert_allclose(x, y, atol=tolerance * max(1.0, float(np.abs(y).max())))


def test_auto_takes_row_by_row_on_one_cpu_device_where_rows_are_long():
    assert chosen_on("cpu", 1, 8) == "rows"
    assert chosen_on("cpu", 8, 8) == "plain" and chosen_on("cpu", 1, 1) == "plain"
    assert chosen_on("tpu", 1, 8) != "rows"


def chosen_on(platform: str, devices: int, batch: int) -> str:
    """The kind that "auto" is for rows of 256 tokens and T5's bias."""
    query = jax.ShapeDtypeStruct((batch, 256, 4, 32), "float32")
    ids, table = jax.ShapeDtypeStruct((batch, 256), "int32"), jax.ShapeDtypeStruct((8, 4), "float32")
    found: list[str] = []

    def choose(query: jax.Array, ids: jax.Array, table: jax.Array) -> None:
        mask = AttentionMask(ids, ids, False)
        found.append(attention.choose("auto", query, query, mask, Relative(table, 16), RULES))

    with mesh_of(platform, devices):
        jax.eval_shape(choose, query, ids, table)
    return found[0]


def traced(kind: str, platform: str, *, length: int = 128, kv: int = 64, dtype: str = "bfloat16", **more: Any) -> str:
    """The kind that is chosen for self-attention of some shape on some platform."""
    query = jax.ShapeDtypeStruct((1, length, 2, kv), dtype)
    ids, table = jax.ShapeDtypeStruct((1, length), "int32"), jax.ShapeDtypeStruct((8, 2), dtype)

    def chosen(query: jax.Array, ids: jax.Array, table: jax.Array) -> None:
        mask = AttentionMask(ids, ids, True)
        relative = Relative(table, 16) if more.get("biased") else None
        found.append(attention.choose(kind, query, query, mask, relative, RULES))

    found: list[str] = []
    with mesh_of(platform):
        jax.eval_shape(chosen, query, ids, table)
    return found[0]


def test_auto_takes_the_kernel_of_the_platform_that_is_compiled_for_where_it_can():
    assert traced("auto", "tpu") == "splash"
    assert traced("auto", "tpu", length=100) == "plain"
    assert traced("auto", "tpu", biased=True) == "plain"
    assert traced("auto", "tpu", biased=True, length=4096) == "linear"
    assert traced("auto", "cpu") == "plain"
    assert traced("auto", "cpu", length=4096) == "linear"
    assert traced("auto", "gpu", length=4096) == "linear", "there is no NVIDIA GPU to ask for what it can"


@pytest.mark.parametrize(
    ("kind", "platform", "changes", "reason"),
    [
        ("splash", "cpu", {}, "it runs on TPUs, not on a cpu"),
        ("splash", "tpu", dict(biased=True), "it takes no relative position bias"),
        ("splash", "tpu", dict(length=100), "100 queries and 100 keys must be multiples of 128"),
        ("cudnn", "cpu", {}, "it runs on NVIDIA's GPUs from Ampere on, not on cpu or for a cpu"),
    ],
)
def test_attention_that_cannot_be_used_is_a_sentence_with_what_can(kind, platform, changes, reason):
    with pytest.raises(UserError) as raised:
        traced(kind, platform, **changes)
    expected = f"model.attention={kind!r} cannot be used here, as {reason}: choose 'auto' or one of 'plain', 'linear'."
    assert str(raised.value) == expected


def test_dropping_values_is_dropping_the_weights_of_their_keys(one_device):
    given, key = inputs(24, 24, "float32", kv_heads=2), jax.random.key(3)
    mask, relative = AttentionMask(given["own"], given["others"], True), Relative(given["table"], 16)
    arrays = given["query"], given["keys"], given["values"]
    found = attention.attend(*arrays, mask, relative, RULES, "linear", (0.5, key))
    # Values that name their keys turn the output into the weights.
    names = jnp.broadcast_to(jnp.eye(24)[None, :, None], (4, 24, 2, 24))
    query, keys = (jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 16))) for x in arrays[:2])
    weights = attention.plain(query, keys, names, mask, relative).swapaxes(1, 2)
    expected = jnp.einsum("bhqk,bkhd->bqhd", dropout(weights, 0.5, key), jnp.repeat(arrays[2], 2, axis=2))
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("kind", ["linear", "auto"])
def test_a_model_split_along_its_length_gives_the_logits_of_a_single_device(kind):
    settings = small_config("t5", data__length=32, model__attention=kind, model__kv_heads=2)
    net, batch = Transformer(settings.model, settings.rules), random_batch(settings)
    batch = {name: x[:, : x.shape[1] // 2 * 2] for name, x in batch.items()}
    with jax.set_mesh(make_mesh(Mesh(fsdp=1), jax.devices()[:1])):
        params, batch = jax.device_get((random_params(net, batch), batch))
    alone = Transformer(replace(settings.model, attention="plain"), settings.rules)
    found = []
    for sizes, devices, model in ((Mesh(fsdp=2, sequence=2, tensor=2), 8, net), (Mesh(fsdp=1), 1, alone)):
        with jax.set_mesh(make_mesh(sizes, jax.devices()[:devices])):
            found.append(np.asarray(jax.jit(lambda p, b: model.apply({"params": p}, b))(params, batch)))  # noqa: B023
    np.testing.assert_allclose(found[0], found[1], atol=2e-5)


@pytest.fixture(scope="module")
def tpus() -> list[Any]:
    """Four TPU chips that only the compiler knows."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu, the TPU compiler, is not installed")
    return topology("v5e:2x2").devices()


def compiled_memory(
    devices: list[Any], kind: str, sizes: Mesh, shape: tuple[int, int, int, int], kv_heads: int, biased: bool
) -> tuple[int, str]:
    """Bytes of temporaries of a gradient on each device, and the program's text."""
    mesh = make_mesh(sizes, devices)

    def abstract(shape: tuple[int, ...], dtype: str, *axes: str | None) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=jax.NamedSharding(mesh, spec(RULES, axes)))

    def loss(query: Any, keys: Any, values: Any, table: Any, ids: Any) -> Any:
        relative = Relative(table, 128) if biased else None
        y = attention.attend(query, keys, values, AttentionMask(ids, ids, not biased), relative, RULES, kind)
        return y.astype(jnp.float32).sum()

    with jax.set_mesh(mesh):
        batch, length, heads, kv = shape
        query = abstract(shape, "bfloat16", "batch", "length", "act_heads", None)
        keys = abstract((batch, length, kv_heads, kv), "bfloat16", "batch", "length", "act_kv_heads", None)
        table, ids = abstract((32, heads), "bfloat16", None, "heads"), abstract((batch, length), "int32", "batch", None)
        done = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3))).lower(query, keys, keys, table, ids).compile()
    return done.memory_analysis().temp_size_in_bytes, done.as_text()


@pytest.mark.slow
def test_splash_attention_compiles_for_tpus_split_over_heads_and_length(tpus):
    sizes = Mesh(fsdp=1, sequence=2, tensor=2)
    _, text = compiled_memory(tpus, "auto", sizes, (1, 512, 4, 64), kv_heads=2, biased=False)
    assert text.count('custom_call_target="tpu_custom_call"') == 3, "one kernel forward and two backward"


def test_t5_at_16384_tokens_takes_little_memory_with_linear_attention_and_too_much_with_plain():
    """One row of T5 base, as the CPU's compiler counts it; the scores alone would take 12.9 GB in float32."""
    given = jax.devices()[:1], Mesh(fsdp=1), (1, 16_384, 12, 64), 12, True
    used = {kind: compiled_memory(given[0], kind, *given[1:])[0] for kind in ("auto", "plain")}
    assert used["auto"] < 0.5e9 < 16e9 < used["plain"], used
