"""Each model is exported as what can say it and refused by all else: random models over all fields of `Model`.

The judge is the network itself: a model type that fits gives back a model of the same parameters and the same numbers.
"""

import copy
import dataclasses
import random
import typing
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from settings import sentence
from small import random_params, small_config

from t5like.config import CLS, MASK, SEP, Lora, Model, Rules
from t5like.convert.cases import cases_of, features_of, outcome_of
from t5like.convert.families import FAMILIES, MODULES
from t5like.convert.kinds import FREE, HEADS, decisive, differences, kind_of, misfit, read_back
from t5like.convert.settings import Settings
from t5like.data.vocabulary import Bytes, Frame, Vocabulary
from t5like.errors import UserError
from t5like.model.transformer import Transformer

BERT = dict(scale_attention=True, token_types=2, output_transform=True, output_bias=True)

OTHERS: dict[str, tuple[Any, ...]] = dict(
    encoder_layers=(0, 1, 3),
    decoder_layers=(0, 1, 3),
    embed=(12, 20),
    heads=(2, 3),
    kv_heads=(None, 1, 2, 4),
    kv=(5, 6),
    initializer_factor=(0.5,),
    lora=(Lora(),),
    mlp=(24,),
    vocab=(264, 200_000),
    max_positions=(None, 32, 96),
    relative_buckets=(8,),
    relative_distance=(40,),
    rotary_base=(5e5,),
    rotary_factor=(2.0,),
    rotary_low=(2.0,),
    rotary_high=(8.0,),
    rotary_length=(16,),
    norm_epsilon=(1e-6, 1e-5, 1e-3),
    embedding_deviation=(0.5,),
    token_types=(0, 1, 3),
    labels=(1, 3),
    dropout=(0.25,),
    windows=((4,), (4, None)),
)
"""Values to try of fields whose type does not list them."""


SAME_NUMBERS = ("kv_heads", "bias", "qkv_bias", "out_bias", "mlp_bias", "max_positions")
SAME_NUMBERS += ("tied", "scale_logits", "pooling", "problem_type")
"""Fields that may come back otherwise: they stand for others or have no effect. See the test of the numbers."""
BIASES = ("qkv_bias", "out_bias", "mlp_bias")
RELATED = dict.fromkeys(("bias", *BIASES), BIASES) | dict.fromkeys(("encoder_layers", "decoder_layers"), ("family",))
RELATED |= dict(
    head=("head", "family", "pooler"),
    embed=("kv", "hidden_size", "n_embd", "d_model"),
    heads=("kv", "hidden_size", "n_embd", "d_model"),
)
"""Fields that may be named where another one was changed."""


def values(name: str) -> tuple[Any, ...]:
    """Values of a field: those to try, or all that its type has."""
    hint = typing.get_type_hints(Model)[name]
    if name in OTHERS:
        return OTHERS[name]
    if hint is bool:
        return False, True
    choices = typing.get_args(hint)
    if type(None) in choices:
        inner = choices[0]
        return None, *((False, True) if inner is bool else typing.get_args(inner))
    return choices


def start(kind: str, head: str) -> Model:
    """A small model that a model type reads."""
    name = FAMILIES[kind].CLASSES[kind][head]
    fields = {"model_type": kind, "architectures": [name], "max_position_embeddings": 64}
    model = FAMILIES[kind].model_of(Settings(fields, "config.json"), {"lm_head.weight"})
    sizes = dict(encoder_layers=2 * bool(model.encoder_layers), decoder_layers=2 * bool(model.decoder_layers))
    sizes |= dict(embed=16, heads=4, kv=4, mlp=20, vocab=256, kv_heads=None)
    return dataclasses.replace(model, **sizes)


STARTS = {(kind, head): start(kind, head) for kind in FAMILIES for head in FAMILIES[kind].CLASSES[kind]}


def changed(model: Model, **fields: Any) -> list[Model]:
    """The model with other values, if it may have them."""
    try:
        return [dataclasses.replace(model, **fields)]
    except UserError:
        return []


def random_models(seed: int, count: int) -> Iterator[Model]:
    """Models that differ in up to five fields from one of `STARTS`."""
    draw, known = random.Random(seed), [*STARTS.values()]
    names = [field.name for field in dataclasses.fields(Model)]
    while count > 0:
        chosen = draw.sample(names, draw.randrange(6))
        for model in changed(draw.choice(known), **{name: draw.choice(values(name)) for name in chosen}):
            count -= 1
            yield model


def fitting(model: Model) -> list[str]:
    return [kind for kind in FAMILIES if not misfit(model, kind)]


@pytest.mark.parametrize(("kind", "head"), STARTS)
def test_attention_windows_are_refused_by_every_type_that_would_drop_them(kind, head):
    windowed = dataclasses.replace(STARTS[kind, head], windows=(4, None))
    assert fitting(windowed) == []
    assert "windows=() (here (4, None))" in sentence(kind_of, windowed, kind)


@pytest.mark.slow
def test_a_random_model_is_exported_as_a_type_that_gives_it_back_or_refused():
    fit = 0
    for model in random_models(0, 120):
        kinds = fitting(model)
        for kind in kinds:
            theirs, family = read_back(model, kind), FAMILIES[kind]
            changed_fields = {name for name, value in vars(model).items() if getattr(theirs, name) != value}
            assert changed_fields <= {*FREE, *SAME_NUMBERS}, (kind, model)
            assert family.tensor_mappings(theirs) == family.tensor_mappings(model), (kind, model)
            assert family.settings_of(theirs, kind).keys() == family.settings_of(model, kind).keys()
            assert family.CLASSES[kind][theirs.head] == family.CLASSES[kind][model.head]
        if kinds:
            assert kind_of(model) in kinds
            assert [kind_of(model, asked=kind) for kind in kinds] == kinds
            assert [kind_of(model, before=kind) for kind in kinds] == kinds
        else:
            assert sentence(kind_of, model).startswith("No model of transformers has this architecture: the nearest, ")
        fit += bool(kinds)
    assert 12 < fit < 108


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "head", "changes"),
    [
        ("llama", "vocabulary", dict(kv_heads=None, max_positions=None)),
        ("llama", "vocabulary", dict(qkv_bias=True, out_bias=True, mlp_bias=True)),
        ("gpt2", "none", dict(tied=True, scale_logits=True, pooling="first")),
        ("t5", "none", dict(pooling="last")),
        ("bert", "sequence", dict(problem_type="single_label_classification")),
    ],
)
def test_a_model_that_comes_back_with_other_fields_gives_the_same_numbers(kind, head, changes, one_device):
    model = dataclasses.replace(STARTS[kind, head], **changes)
    assert kind in fitting(model)
    theirs = read_back(model, kind)
    assert all(getattr(theirs, name) != value for name, value in changes.items())
    assert_same_numbers(model, theirs)


def assert_same_numbers(ours: Model, theirs: Model) -> None:
    vocabulary, plain = Vocabulary(Bytes(), (CLS, SEP, MASK), 11), dict(dtype="float32", dropout=0.0, remat="none")
    nets = [Transformer(dataclasses.replace(model, **plain, attention="plain"), Rules()) for model in (ours, theirs)]
    case = cases_of(ours, vocabulary, Frame(), (), 12)[1]
    params = random_params(nets[0], features_of(ours, case.rows, 1))
    first, second = (outcome_of(params, net, case, 1) for net in nets)
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_field_that_a_family_cannot_say_is_named(kind):
    """One field after the other of a model that fits: it comes back as it is, has no effect, or is told."""
    model, refused = STARTS[kind, "vocabulary"], set()
    assert kind in fitting(model)
    for name in vars(model):
        for value in values(name):
            for other in changed(model, **{name: value}):
                found = misfit(other, kind)
                if found is None:
                    theirs = getattr(read_back(other, kind), name)
                    assert theirs == value or not differences(other, model) or decisive(other)[name] == theirs
                else:
                    refused.add(name)
                    named = RELATED.get(name, (name,))
                    assert any(f"{field}=" in found.reason for field in named), (name, value, found)
    assert refused >= {"norm", "norm_position", "embedding_norm", "scale_attention"}


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_new_field_of_model_is_refused_until_a_family_can_say_it(kind, monkeypatch):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Newer(Model):
        query_norm: bool = False

    for module in MODULES:
        monkeypatch.setattr(module, "Model", Newer)
    model = Newer(**vars(STARTS[kind, "vocabulary"]))
    assert misfit(model, kind) is None
    told = sentence(kind_of, dataclasses.replace(model, query_norm=True), kind)
    assert "it has query_norm=False (here True); the model can be none." in told


@pytest.mark.parametrize(("kind", "head"), STARTS)
def test_a_new_value_of_a_field_is_refused_until_a_family_can_say_it(kind, head):
    hints = typing.get_type_hints(Model)
    names = [name for name, hint in hints.items() if typing.get_origin(hint) is typing.Literal and name not in FREE]
    assert {"positions", "norm", "activation", "head"} <= {*names}
    for name in names:
        model = copy.copy(STARTS[kind, head])
        object.__setattr__(model, name, "newer")  # past the check of values
        assert misfit(model, kind) or (name == "pooling" and head == "none" and not model.pooler), name


@pytest.mark.parametrize(
    ("family", "changes", "nearest"),
    [
        ("t5", dict(bias=True), "t5, has qkv_bias=False (here True), out_bias=False (here True) and mlp_bias=False"),
        ("t5", dict(head="sequence", labels=2), "t5, has head='vocabulary' or 'none' (here 'sequence')"),
        ("t5", dict(qkv_bias=True), "t5, has qkv_bias=False (here True)"),
        ("gpt", dict(qkv_bias=True, mlp_bias=True), "llama, has out_bias=True (here False)"),
        ("gpt", dict(head="sequence", labels=2, pooling="last"), "llama, has head_bias=False (here True)"),
        ("gpt", dict(positions="relative"), "llama, has positions='rotary' (here 'relative')"),
        ("gpt", dict(norm_position="post"), "llama, has norm_position='pre' (here 'post')"),
        ("gpt", dict(head="token", labels=2), "llama, has head='vocabulary' or 'sequence' or 'none' (here 'token')"),
        ("bert", dict(BERT, scale_attention=False), "bert, has scale_attention=True (here False)"),
        ("bert", dict(BERT, output_transform=False), "bert, has output_transform=True (here False)"),
        ("bert", dict(BERT, token_types=0), "bert, has token_types=2 (here 0)"),
        ("pairs", dict(BERT, pooler=False), "bert, has pooler=True (here False)"),
        ("bert", dict(BERT, heads=3), "bert, cannot have it (the config.json of bert: hidden_size=32 is no multiple"),
    ],
)
def test_an_architecture_that_transformers_lacks_is_refused_with_what_the_nearest_has(family, changes, nearest):
    model = small_config(family, **{f"model__{name}": value for name, value in changes.items()}).model
    assert sentence(kind_of, model).startswith(
        f"No model of transformers has this architecture: the nearest, {nearest}"
    )
    of_head = nearest.startswith("llama, has head=")
    assert sentence(kind_of, model).endswith(HEADS if of_head else "Take one of `t5like architectures` to export it.")


@pytest.mark.parametrize("types", [1, 2, 3])
def test_rows_for_a_comparison_have_token_types_that_the_model_has(types):
    model = dataclasses.replace(STARTS["bert", "token"], token_types=types)
    cases = cases_of(model, Vocabulary(Bytes(), (CLS, SEP, MASK), 11), Frame(), (), 12)
    assert {kind for case in cases for one in case.examples for kind in one.types} == {*range(min(types, 2))}
