"""The FLOPs formulas against what is traced, exactly, and against what XLA counts."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from products import count_products
from small import labelled_config, parameter_shapes, random_batch, replace, small_config

from t5like.config import Config
from t5like.config.objective import SPECS
from t5like.cost.devices import DEVICES, device_of, mfu
from t5like.cost.flops import batch_flops, step_flops
from t5like.model.transformer import Transformer
from t5like.train.step import batch_sums

GROUPED = dict(model__heads=4, model__kv_heads=2)
CASES = {
    "t5": ("t5", dict(model__gated=True)),
    "t5 without gates": ("t5", dict(model__gated=False, model__tied=True)),
    "gpt": ("gpt", {}),
    "gpt with grouped queries": ("gpt", GROUPED),
    "bert": ("bert", {}),
    "pairs": ("pairs", dict(model__output_transform=True)),
    "pooled by the mean": ("pairs", dict(model__pooling="mean")),
    "choice": ("multiple_choice", dict(model__pooling="mean", model__pooler=True)),
    "labels of tokens": ("token_classification", dict(stack="decoder")),
}
PLAIN = dict(model__attention="plain")


def built(settings: Config) -> tuple[Transformer, Any, dict[str, jax.Array]]:
    """A network, the shapes of its parameters, and a batch."""
    net, batch = Transformer(settings.model, settings.rules), random_batch(settings)
    return net, parameter_shapes(net, batch), batch


def per_rows(count: Callable[[Config], int], settings: Config) -> int:
    """What a count of a step's products grows by with a batch's rows: T5's bias is made once, for all of them."""
    double = replace(settings, train=replace(settings.train, batch=2 * settings.train.batch))
    return count(double) - count(settings)


@pytest.mark.parametrize("case", CASES)
def test_the_formula_of_the_forward_pass_is_what_is_traced(case, one_device):
    family, changes = CASES[case]

    def forward(settings: Config) -> int:
        net, params, batch = built(settings)
        return count_products(functools.partial(net.apply, method=Transformer.scores), {"params": params}, batch)

    settings = (labelled_config if family in SPECS else small_config)(family, **PLAIN, **changes)
    assert per_rows(forward, settings) == step_flops(settings).forward_unhalved


@pytest.mark.parametrize("head", ["sequence", "token", "span", "none"])
def test_heads_have_their_products(head, one_device):
    settings = small_config("bert", **PLAIN)
    labels = 3 if head in ("sequence", "token") else 0
    model = replace(settings.model, head=head, labels=labels)
    net, batch = Transformer(model, settings.rules), random_batch(settings)
    params = {"params": parameter_shapes(net, batch)}
    traced = count_products(functools.partial(net.apply, method=Transformer.scores), params, batch)
    assert traced == batch_flops(model, settings.data.lengths, settings.train.batch).forward_unhalved


@pytest.mark.parametrize("family", [pytest.param("t5", marks=pytest.mark.slow), "gpt", "bert"])
def test_training_is_three_times_the_forward_pass(family, one_device):
    def training(settings: Config) -> int:
        net, params, batch = built(settings)
        loss = lambda params: batch_sums(params, batch, net, settings.train, {})["objective"].total  # noqa: E731
        return count_products(jax.grad(loss), params)

    settings = small_config(family, **PLAIN)
    assert per_rows(training, settings) == step_flops(settings).training_unhalved


@pytest.mark.parametrize("family", ["t5", "gpt", "bert"])
def test_the_formula_is_within_two_percent_of_the_compilers_count(family, one_device):
    """XLA counts a loop's body once and elementwise work too: one layer, wide enough that this is little."""
    layers: dict[str, Any] = {"t5": dict(encoder_layers=1, decoder_layers=1), "gpt": dict(decoder_layers=1)}
    sizes = {f"model__{name}": 1 for name in layers.get(family, dict(encoder_layers=1))}
    wide = dict(model__embed=1024, model__mlp=2048, model__kv=64, model__vocab=512, train__batch=2)
    settings = small_config(family, **PLAIN, **sizes, **wide)
    net, params, batch = built(settings)
    forward = jax.jit(lambda params, batch: net.apply({"params": params}, batch))
    compiled = forward.lower(params, batch).compile()
    counted: Any = compiled.cost_analysis()
    assert counted["flops"] == pytest.approx(step_flops(settings).forward_unhalved, rel=0.02)


def test_causal_scores_count_half_and_others_whole():
    gpt, bert = step_flops(small_config("gpt")), step_flops(small_config("bert"))
    assert gpt.scores_unhalved == 2 * gpt.scores
    assert bert.scores_unhalved == bert.scores


def test_keys_of_cross_attention_act_on_the_encoders_length():
    model = small_config("t5").model
    short, long = (batch_flops(model, {"encoder": n, "decoder": 8}, 1) for n in (16, 32))
    alone = replace(model, encoder_layers=0)
    decoder = batch_flops(alone, {"decoder": 8}, 1)
    encoder = [batch_flops(replace(model, decoder_layers=0), {"encoder": n}, 1) for n in (16, 32)]
    queries = 3 * 2 * 2 * 8 * 32 * 4 * 8
    for whole, stack, length in zip((short, long), encoder, (16, 32), strict=True):
        keys = 3 * 2 * 2 * length * 32 * 4 * 8
        assert whole.projections - stack.projections - decoder.projections == queries + keys


def test_mfu_is_of_known_devices_alone():
    assert device_of("NVIDIA H100 80GB HBM3") == DEVICES["h100"]
    assert device_of("cpu") is None
    assert mfu(1e15, 1.0, 2, DEVICES["h100"]) == pytest.approx(1e15 / 2 / 989e12)
    assert mfu(1e15, 1.0, 2, None) is None


def test_strict_types_are_no_part_of_a_count():
    assert count_products(lambda x: jnp.einsum("ij,jk->ik", x, x), jnp.ones((2, 2))) == 16
