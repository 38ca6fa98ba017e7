"""The network: the same numbers however it is run, and nothing seen that must not be."""

import functools
from typing import Any, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from small import (
    assert_decoding_equals_the_full_forward,
    assert_trees_close,
    mesh_of,
    random_batch,
    random_params,
    replace,
    small_config,
)

from t5like.config import Config, Model
from t5like.errors import UserError
from t5like.model.transformer import Transformer

FAMILIES = ["t5", "gpt", "bert"]


def build(settings: Config) -> tuple[Transformer, Any, dict[str, jax.Array]]:
    """A network, parameters and a batch."""
    net, batch = Transformer(settings.model, settings.rules), random_batch(settings)
    return net, random_params(net, batch), batch


@functools.partial(jax.jit, static_argnums=0)  # equal networks share a program
def scores(net: Transformer, params: Any, batch: Any) -> Any:
    return net.apply({"params": params}, batch)


def logits(net: Transformer, params: Any, batch: Any) -> np.ndarray:
    return np.asarray(scores(net, params, batch))


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_float32_and_as_large_as_the_vocabulary(family, one_device):
    settings = small_config(family, model__dtype="bfloat16")
    out = logits(*build(settings))
    assert out.dtype == np.float32
    assert out.shape == (8, list(settings.data.lengths.values())[-1], 256)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("positions", ["relative", "learned", "sinusoidal", "rotary"])
@pytest.mark.parametrize("family", ["t5", "gpt"])
def test_the_decoder_sees_no_later_token(family, positions, one_device):
    net, params, batch = build(small_config(family, model__positions=positions, model__max_positions=64))
    changed = dict(batch, decoder_input_tokens=batch["decoder_input_tokens"].at[:, 3].add(1))
    moved = np.abs(logits(net, params, batch) - logits(net, params, changed)).max((0, 2))
    assert (moved[:3] == 0).all()
    assert (moved[3:] > 1e-6).all()


def test_an_encoder_sees_every_token(one_device):
    net, params, batch = build(small_config("bert"))
    changed = dict(batch, encoder_input_tokens=batch["encoder_input_tokens"].at[:, 20].add(1))
    assert (np.abs(logits(net, params, batch) - logits(net, params, changed)).max((0, 2)) > 1e-6).all()


@pytest.mark.parametrize("positions", ["relative", "learned", "sinusoidal", "rotary"])
def test_the_order_of_tokens_matters(positions, one_device):
    net, params, batch = build(small_config("bert", model__positions=positions))
    swapped = dict(batch, encoder_input_tokens=batch["encoder_input_tokens"][:, ::-1])
    assert np.abs(logits(net, params, batch) - logits(net, params, swapped)[:, ::-1]).max() > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_documents_are_as_if_alone(family, one_device):
    """A row of two documents gives each the logits that it has in a row of its own."""
    settings = small_config(family)
    net, params, batch = build(settings)
    alone, packed = {}, {}
    for name, x in batch.items():
        half = x.shape[1] // 2
        first, second = x[:4, :half], x[4:, :half]
        if name.endswith("_segment_ids"):
            second = second * 2
        packed[name] = jnp.concatenate([first, second], axis=1)
        alone[name] = x[:, :half]
    together, apart = logits(net, params, packed), logits(net, params, alone)
    half = apart.shape[1]
    np.testing.assert_allclose(together[:, :half], apart[:4], atol=2e-5)
    np.testing.assert_allclose(together[:, half:], apart[4:], atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing(family, one_device):
    net, params, batch = build(small_config(family))
    longer = {
        name: jnp.pad(x, ((0, 0), (0, 5)), constant_values=0 if name.endswith(("_ids", "_weights")) else 7)
        for name, x in batch.items()
    }
    short = logits(net, params, batch)
    np.testing.assert_allclose(logits(net, params, longer)[:, : short.shape[1]], short, atol=2e-5)


@pytest.mark.parametrize(
    ("family", "positions"),
    [
        ("t5", "relative"),
        ("gpt", "rotary"),
        *(pytest.param("t5", kind, marks=pytest.mark.slow) for kind in ("learned", "sinusoidal", "rotary")),
        *(pytest.param("gpt", kind, marks=pytest.mark.slow) for kind in ("relative", "learned", "sinusoidal")),
    ],
)
def test_decoding_with_a_cache_equals_the_full_forward(family, positions, one_device):
    net, params, batch = build(small_config(family, model__positions=positions, model__max_positions=64))
    assert_decoding_equals_the_full_forward(net, params, batch, logits(net, params, batch))


@pytest.mark.slow
def test_every_remat_policy_gives_the_same_gradient_and_the_thriftier_takes_less_memory(one_device):
    settings = small_config("gpt", model__decoder_layers=6, data__length=64)
    _, params, batch = build(settings)
    found, memory = {}, {}
    for policy in get_args(get_type_hints(Model)["remat"]):
        net = Transformer(replace(settings.model, remat=policy), settings.rules)
        loss = lambda p: jnp.square(net.apply({"params": p}, batch, method=Transformer.hidden)).mean()  # noqa: B023, E731
        compiled = jax.jit(jax.value_and_grad(loss)).lower(params).compile()
        found[policy], memory[policy] = compiled(params), compiled.memory_analysis().temp_size_in_bytes
    for value in found.values():
        assert_trees_close(value, found["none"], rtol=1e-4, atol=1e-6)
    assert memory["none"] > 1.5 * memory["dots"], memory
    assert memory["dots"] > memory["minimal"] > memory["full"], memory
    # A CPU is its own host: what is offloaded lies in the same memory.
    assert memory["offload"] <= memory["dots"], memory


def test_offloading_from_a_device_without_host_memory_is_a_sentence():
    settings = small_config("gpt", model__remat="offload")
    with mesh_of("metal"), pytest.raises(UserError) as raised:
        jax.eval_shape(lambda: build(settings))
    assert str(raised.value) == (
        "model.remat='offload' keeps arrays in the host's memory, which JAX does from cpu, gpu, tpu and not from "
        "metal: choose 'minimal' or 'full'."
    )


def test_dropout_acts_only_with_a_key_and_differs_between_layers(one_device):
    net, params, batch = build(small_config("t5", model__dropout=0.2))
    apply = jax.jit(lambda key: net.apply({"params": params}, batch, rngs={"dropout": key}))
    first, second = apply(jax.random.key(0)), apply(jax.random.key(1))
    still = logits(net, params, batch)
    assert np.array_equal(still, logits(net, params, batch))
    assert np.abs(first - second).mean() > 1e-2
    assert np.abs(first - still).mean() > 1e-2


def test_a_post_norm_stack_ends_in_its_norm(one_device):
    """The residual stream of a post-norm encoder leaves every layer with mean 0 and variance 1."""
    net, params, batch = build(small_config("bert"))
    norm = params["encoder"]["blocks"]["norm_mlp"]
    norm["scale"], norm["bias"] = jnp.ones_like(norm["scale"]), jnp.zeros_like(norm["bias"])
    encode = jax.jit(functools.partial(net.apply, method=Transformer.encode))
    hidden = np.asarray(encode({"params": params}, batch))
    np.testing.assert_allclose(hidden.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(hidden.std(-1), 1, rtol=1e-3)
    assert "norm" not in params["encoder"]


def test_options_own_the_parameters_they_need(one_device):
    def names(**changes: Any) -> set[str]:
        settings = small_config("gpt", **changes)
        shapes = jax.eval_shape(
            Transformer(settings.model, settings.rules).init, jax.random.key(0), random_batch(settings)
        )
        leaves = jax.tree_util.tree_leaves_with_path(nn.unbox(shapes)["params"])
        return {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves}

    plain = names()
    assert plain - names(model__tied=True) == {"output"}
    assert plain - names(model__gated=False) == {"decoder/blocks/mlp/gate"}
    assert names(model__positions="relative") - plain == {"decoder/relative"}
    assert names(model__positions="learned", model__max_positions=64) - plain == {"positions"}
    biases = {f"self/{n}_bias" for n in ("query", "key", "value", "out")} | {
        f"mlp/{n}_bias" for n in ("gate", "up", "down")
    }
    assert names(model__bias=True) - plain == {f"decoder/blocks/{name}" for name in biases}
