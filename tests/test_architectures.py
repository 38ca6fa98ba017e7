"""The published sizes: their parameters are the published ones, counted and built."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from command_line import CONFIGS
from settings import sentence
from small import small_config

from t5like.config import Rules, presets
from t5like.model.architectures import ARCHITECTURES, architecture, parameter_count
from t5like.model.transformer import Transformer

PUBLISHED = {
    "t5_1_0_small": 60_506_624,
    "t5_1_0_base": 222_903_552,
    "t5_1_0_large": 737_668_096,
    "t5_1_0_3b": 2_851_598_336,
    "t5_1_0_11b": 11_307_321_344,
    "t5_1_1_small": 76_961_152,
    "t5_1_1_base": 247_577_856,
    "t5_1_1_large": 783_150_080,
    "t5_1_1_xl": 2_849_757_184,
    "t5_1_1_xxl": 11_135_332_352,
    "mt5_small": 300_176_768,
    "mt5_base": 582_401_280,
    "mt5_large": 1_229_581_312,
    "mt5_xl": 3_742_619_648,
    "mt5_xxl": 12_921_057_280,
    "byt5_small": 299_637_760,
    "byt5_base": 581_653_248,
    "bert_base": 110_106_428,
    "bert_large": 336_226_108,
    "gpt2_small": 124_439_808,
    "gpt2_medium": 354_823_168,
    "gpt2_large": 774_030_080,
    "gpt2_xl": 1_557_611_200,
    "llama_2_7b": 6_738_415_616,
    "llama_3_8b": 8_030_261_248,
    "llama_3_2_1b": 1_235_814_400,
    "tinyllama_1b": 1_100_048_384,
}
"""What transformers counts in the released checkpoints."""
ROUNDED = {
    "byt5_large": 1.23e9,
    "byt5_xl": 3.74e9,
    "byt5_xxl": 12.9e9,
    "umt5_small": 0.3e9,
    "ul2_20b": 19.5e9,
    "transformer_2017_base": 65e6,
    "transformer_2017_big": 213e6,
}
"""What the papers say."""
BUILT = ("t5_1_0_small", "t5_1_1_base", "umt5_small", "byt5_base", "bert_large", "gpt2_xl", "llama_3_2_1b")


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_architecture_has_the_published_number_of_parameters(name):
    assert parameter_count(ARCHITECTURES[name]) == PUBLISHED[name]


@pytest.mark.parametrize("name", ROUNDED)
def test_an_architecture_has_about_the_parameters_of_its_paper(name):
    assert parameter_count(ARCHITECTURES[name]) == pytest.approx(ROUNDED[name], rel=0.04)


def built(model) -> int:
    """The parameters of the network itself."""
    stacks = [stack for stack in ("encoder", "decoder") if getattr(model, f"{stack}_layers")]
    names = ("input_tokens", "segment_ids", "positions")
    batch = {f"{stack}_{name}": jnp.zeros((1, 8), jnp.int32) for stack in stacks for name in names}
    net = Transformer(model, Rules())
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), batch, method=Transformer.scores))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize("name", [*BUILT, "transformer_2017_base"])
def test_the_network_has_as_many_parameters_as_are_counted(name, one_device):
    assert built(ARCHITECTURES[name]) == parameter_count(ARCHITECTURES[name])


@pytest.mark.parametrize(
    "changes",
    [
        dict(head="sequence", labels=3, pooler=True),
        dict(head="token", labels=5),
        dict(head="span"),
        dict(head="none", pooling="mean"),
        dict(head="vocabulary", output_transform=True, output_bias=True),
    ],
)
def test_heads_are_counted(changes, one_device):
    model = dataclasses.replace(small_config("bert").model, **changes)
    assert built(model) == parameter_count(model)


def test_an_unknown_architecture_is_told_the_closest():
    assert sentence(architecture, "t5_1_1_bas") == "There is no architecture 't5_1_1_bas'; did you mean 't5_1_1_base'?"


def test_architectures_are_listed_with_their_parameters(say):
    listed = {line.split()[0]: line.split()[1] for line in say("architectures").splitlines()}
    assert listed == {name: f"{parameter_count(model):,}" for name, model in ARCHITECTURES.items()}
    assert [line.split()[0] for line in say("architectures", "gpt2").splitlines()] == [
        "gpt2_small",
        "gpt2_medium",
        "gpt2_large",
        "gpt2_xl",
    ]


@pytest.mark.parametrize("preset", sorted(CONFIGS.glob("*.py")), ids=lambda preset: preset.stem)
def test_every_preset_is_a_complete_config(preset):
    config = presets.load(str(preset))
    assert config.train.directory == f"runs/{preset.stem.removeprefix('finetune_')}"
