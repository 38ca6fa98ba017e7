"""Options that published models need: grouped queries, a bias for each layer, stretched rotary positions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from settings import sentence
from small import assert_decoding_equals_the_full_forward, random_batch, random_params, replace, small_config
from test_transformer import build, logits

from t5like import config
from t5like.model import layers
from t5like.model.sharding import make_mesh
from t5like.model.transformer import Transformer

OPTIONS = {
    "grouped": ("gpt", dict(model__kv_heads=2)),
    "one_key_head": ("gpt", dict(model__kv_heads=1, model__positions="learned", model__max_positions=64)),
    "bias_per_layer": ("t5", dict(model__relative_per_layer=True)),
    "stretched": ("gpt", dict(model__rotary_scaling="llama3", model__rotary_factor=4.0, model__rotary_length=16)),
    "windows": ("t5", dict(model__windows=(3, None), model__remat="minimal")),
    "window": ("gpt", dict(model__windows=(4,))),
    "bert_head": ("bert", dict(model__output_transform=True, model__output_bias=True, model__token_types=2)),
}


def test_grouped_queries_equal_full_attention_with_each_key_head_repeated(one_device):
    settings = small_config("gpt", model__kv_heads=2)
    net, params, batch = build(settings)
    own = params["decoder"]["blocks"]["self"]
    repeated = {name: jnp.repeat(own[name], 2, axis=2) for name in ("key", "value")}
    full = {"decoder": {**params["decoder"], "blocks": {**params["decoder"]["blocks"], "self": own | repeated}}}
    whole = Transformer(replace(settings.model, kv_heads=None), settings.rules)
    np.testing.assert_allclose(logits(net, params, batch), logits(whole, params | full, batch), atol=1e-5)


def test_a_bias_for_each_layer_is_as_a_shared_one_where_all_are_equal(one_device):
    net, params, batch = build(small_config("t5"))
    apart: dict[str, Any] = dict(params)
    for stack, depth in (("encoder", 2), ("decoder", 3)):
        rest = {name: value for name, value in params[stack].items() if name != "relative"}
        tables = jnp.stack([params[stack]["relative"]] * depth)
        apart[stack] = rest | {"blocks": rest["blocks"] | {"relative": tables}}
    own = Transformer(replace(net.model, relative_per_layer=True), net.rules)
    np.testing.assert_allclose(logits(own, apart, batch), logits(net, params, batch), atol=1e-5)
    other = jax.tree.map(lambda x: x, apart)
    other["decoder"]["blocks"]["relative"] = apart["decoder"]["blocks"]["relative"].at[1, 0].add(2.0)
    assert np.abs(logits(own, other, batch) - logits(net, params, batch)).max() > 1e-3


@pytest.mark.parametrize("name", OPTIONS)
def test_a_sharded_model_gives_the_logits_of_a_single_device(name, mesh):
    family, changes = OPTIONS[name]
    changes = changes | ({} if changes.get("model__kv_heads", 2) > 1 else {"model__kv_heads": 2})
    settings = small_config(family, **changes)
    net = Transformer(settings.model, settings.rules)
    batch = random_batch(settings)
    params, batch = jax.device_get((random_params(net, batch), batch))
    found = []
    for devices in (mesh, make_mesh(config.Mesh(fsdp=1), jax.devices()[:1])):
        with jax.set_mesh(devices):
            found.append(logits(net, params, batch))
    np.testing.assert_allclose(found[0], found[1], atol=2e-5)


@pytest.mark.parametrize(
    "name",
    [
        "grouped",
        "one_key_head",
        "bias_per_layer",
        "stretched",
        pytest.param("windows", marks=pytest.mark.slow),
        "window",
    ],
)
def test_decoding_with_a_cache_equals_the_full_forward(name, one_device):
    family, changes = OPTIONS[name]
    net, params, batch = build(small_config(family, **changes))
    assert_decoding_equals_the_full_forward(net, params, batch, logits(net, params, batch))


@pytest.mark.parametrize("family", ["gpt", "t5"])
def test_decoding_in_bfloat16_keeps_in_float32_what_the_full_forward_does(family, one_device):
    """Biases, norms and T5's bias, which are far from what bfloat16 can say."""
    settings = small_config(family, model__dtype="bfloat16", model__bias=True, model__norm="layer", model__gated=False)
    net, params, batch = build(settings)
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf + 3.003 if path[-1].key in ("value_bias", "relative") else leaf, params
    )
    full = logits(net, params, batch)
    assert_decoding_equals_the_full_forward(net, params, batch, full, 0.02 * float(jnp.abs(full).max()))


def test_only_long_waves_are_slowed_down():
    speeds = np.asarray(layers.rope_frequencies(64, 500_000.0))
    slowed = np.asarray(layers.llama3_rope_scaling(jnp.asarray(speeds), 8.0, 1.0, 4.0, 8192))
    waves = 2 * np.pi / speeds
    np.testing.assert_array_equal(slowed[waves < 8192 / 4], speeds[waves < 8192 / 4])
    np.testing.assert_allclose(slowed[waves > 8192], speeds[waves > 8192] / 8, rtol=1e-6)
    between = (waves > 8192 / 4) & (waves < 8192)
    assert between.any()
    assert ((slowed < speeds) & (slowed > speeds / 8))[between].all()


def test_linear_scaling_is_as_if_positions_were_closer_together(one_device):
    net, params, batch = build(small_config("gpt", model__rotary_scaling="linear", model__rotary_factor=2.0))
    plain = Transformer(replace(net.model, rotary_scaling="none", rotary_factor=1.0), net.rules)
    apart = dict(batch, decoder_positions=batch["decoder_positions"] * 2)
    np.testing.assert_allclose(logits(net, params, apart), logits(plain, params, batch), atol=1e-5)


@pytest.mark.parametrize(
    ("family", "changes", "expected"),
    [
        ("gpt", dict(windows=(4, 0)), "model.windows=(4, 0) must be None or at least 1 each."),
        ("gpt", dict(kv_heads=3), "model.kv_heads=3 must divide model.heads=4."),
        (
            "gpt",
            dict(token_types=2),
            "model.token_types=2 has no effect with model.family='decoder', only with 'encoder'",
        ),
        (
            "bert",
            dict(head="next_sentence"),
            "model.head='next_sentence' needs an encoder alone, with model.token_types=2.",
        ),
        ("bert", dict(head="sequence"), "model.head='sequence' needs model.labels above 0."),
        (
            "bert",
            dict(labels=3),
            "model.labels=3 has no effect with model.head='vocabulary', only with 'sequence' or 'token'",
        ),
        ("bert", dict(pooler=True), "model.pooler=True has no effect with model.head='vocabulary', only with "),
        (
            "bert",
            dict(head="span", output_bias=True),
            "model.output_bias=True has no effect with model.head='span', only with 'vocabulary' or 'next_sentence'",
        ),
        (
            "gpt",
            dict(relative_per_layer=True),
            "model.relative_per_layer=True has no effect with model.positions='rotary'",
        ),
        ("gpt", dict(rotary_low=5.0, rotary_scaling="llama3"), "model.rotary_low=5.0 must lie above 0 and below "),
    ],
)
def test_fields_that_do_not_fit_together_are_a_sentence(family, changes, expected):
    assert sentence(replace, small_config(family).model, **changes).startswith(expected)
