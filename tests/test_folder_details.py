"""Details of Hugging Face folders that change numbers: ties, biases, heads, positions and windows."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from damage import WEIGHTS, damaged, fields, put, weights
from golden_runs import assert_same_tensors, float32, on_one_device, tensors_of
from settings import sentence
from small import small_config

from t5like.config import Model
from t5like.convert.exporting import export_run
from t5like.convert.families import FAMILIES, model_in
from t5like.convert.files import open_weights
from t5like.convert.importing import import_run
from t5like.convert.kinds import kind_of
from t5like.convert.options import ExportOptions, ImportOptions
from t5like.convert.settings import Settings, read_settings
from t5like.model.architectures import parameter_count
from t5like.model.sharding import make_mesh
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import open_run
from t5like.train.state import make_training


@pytest.fixture(scope="module", autouse=True)
def single() -> Iterator[None]:
    with on_one_device():
        yield


def model_of(kind: str, names: set[str] | None = None, **changes: Any) -> Model:
    return FAMILIES[kind].model_of(Settings({"model_type": kind, **changes}, "config.json"), names or set())


def again(folder: pathlib.Path, run: pathlib.Path, *options: Any) -> dict[str, np.ndarray]:
    """The tensors of the export of a folder's import."""
    import_run(folder, run, ImportOptions(*options))
    with open_run(float32(RunDirectory(run).config())) as restored:
        export_run(restored, run.with_name("out"), ExportOptions())
    return tensors_of(run.with_name("out"))


BERT_BIAS, DECODER_BIAS = "cls.predictions.bias", "cls.predictions.decoder.bias"


def untied(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    words = tensors["bert.embeddings.word_embeddings.weight"]
    tensors["cls.predictions.decoder.weight"] = random.normal(size=words.shape).astype(np.float32)
    tensors[DECODER_BIAS] = random.normal(size=len(words)).astype(np.float32)
    return tensors


@pytest.mark.parametrize("left", ["both", DECODER_BIAS, BERT_BIAS])
def test_an_untied_bert_has_the_bias_of_its_output_layer_under_both_names(left, tmp_path):
    """transformers 5 reads one name of an untied model, 4 the other; of two biases the output layer's counts."""
    other = {BERT_BIAS: DECODER_BIAS, DECODER_BIAS: BERT_BIAS}
    harms = [fields(tie_word_embeddings=False), weights(untied)]
    harms += [] if left == "both" else [weights(lambda tensors: tensors.pop(other[left]))]
    source = damaged(tmp_path, "bert_masked", *harms)
    given = tensors_of(source)
    found = again(source, tmp_path / "run")
    expected = given[BERT_BIAS if left == BERT_BIAS else DECODER_BIAS]
    assert_same_tensors(found, given | {BERT_BIAS: expected, DECODER_BIAS: expected})


@pytest.mark.parametrize("kind", ["t5", "umt5", "mt5"])
def test_last_states_are_scaled_as_transformers_5_derives_it(kind):
    scales = kind != "mt5"
    assert model_of(kind).scale_logits == scales
    assert model_of(kind, tie_word_embeddings=True).scale_logits == scales
    assert model_of(kind, tie_word_embeddings=None).scale_logits == scales
    assert not model_of(kind, tie_word_embeddings=False).scale_logits
    assert not model_of(kind, tie_word_embeddings=True, scale_decoder_outputs=False).scale_logits
    assert model_of(kind, tie_word_embeddings=False, scale_decoder_outputs=True).scale_logits == scales
    assert not model_of(kind, architectures=[FAMILIES[kind].CLASSES[kind]["none"]]).scale_logits
    scaled = model_of("t5", vocab_size=250_112)
    assert kind_of(scaled) == "t5"
    assert sentence(kind_of, scaled, "mt5").startswith("--type 'mt5' has another architecture than this model")


@pytest.mark.parametrize("name", ["t5_1_0", "t5_1_1"])
def test_a_t5_is_tied_if_its_two_tables_are_equal_whatever_its_config_says(name, tmp_path):
    for flag in (True, False):
        for number, change in enumerate(
            (lambda tensors: tensors["shared.weight"], lambda tensors: tensors["shared.weight"] + 1)
        ):
            source = damaged(
                tmp_path / f"{flag}{number}", name, fields(tie_word_embeddings=flag), put("lm_head.weight", change)
            )
            assert model_in(read_settings(source), open_weights(source)).tied == (number == 0)
    source = damaged(
        tmp_path / "none", name, fields(tie_word_embeddings=False), weights(lambda t: t.pop("lm_head.weight", None))
    )
    assert model_in(read_settings(source), open_weights(source)).tied


def test_second_names_of_fields_win_as_in_transformers():
    assert model_of("t5", hidden_size=24, num_hidden_layers=3, d_model=16).embed == 24
    three = model_of("t5", num_hidden_layers=3)
    assert (three.encoder_layers, three.decoder_layers) == (3, 6)
    assert model_of("gpt2", hidden_size=24, num_attention_heads=2, num_hidden_layers=1).mlp == 96
    given = model_of("t5", feed_forward_proj="gated-gelu", dense_act_fn="gelu", is_gated_act=False)
    assert (given.activation, given.gated) == ("gelu", False)


ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MISSING = {
    "factor, low_freq_factor, high_freq_factor, original_max_position_embeddings": {"rope_type": "llama3"},
    "low_freq_factor": {**ROPE, "low_freq_factor": None, "original_max_position_embeddings": 64},
    "factor": {"rope_type": "linear", "rope_theta": 10_000.0},
}


@pytest.mark.parametrize("names", MISSING)
@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2"])
def test_a_position_scaling_without_its_numbers_is_refused_by_their_names(names, kind):
    for field in ("rope_parameters", "rope_scaling"):
        said = sentence(model_of, kind, max_position_embeddings=128, **{field: MISSING[names]})
        kind_of_rope = MISSING[names]["rope_type"]
        assert said.startswith(f"config.json, rope_parameters: rope_type={kind_of_rope!r} needs {names}, which "), said


def test_the_original_length_of_positions_is_where_transformers_looks_for_it():
    inside = {**ROPE, "original_max_position_embeddings": 64}
    assert model_of("llama", rope_parameters=inside).rotary_length == 64
    assert model_of("llama", rope_parameters=inside, original_max_position_embeddings=32).rotary_length == 32
    assert model_of("llama", rope_parameters=ROPE, original_max_position_embeddings=32).rotary_length == 32
    assert model_of("llama", rope_parameters=ROPE, max_position_embeddings=512).rotary_length == 512
    both = model_of("llama", rope_parameters=inside, rope_scaling={"type": "linear", "factor": 2}, rope_theta=5e5)
    assert (both.rotary_scaling, both.rotary_base) == ("linear", 5e5)


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "partial_rotary_factor=0.5 is not supported": ("llama", {"partial_rotary_factor": 0.5}),
    "positions that differ by the kind of layer": ("qwen2", {"rope_parameters": {"full_attention": ROPE}}),
    "quantization_config={'bits': 4} is not supported": ("llama", {"quantization_config": {"bits": 4}}),
    "per_layer_config={'0': {'num_heads': 2}} is not supported": ("t5", {"per_layer_config": {"0": {"num_heads": 2}}}),
    "sliding_window=4096 is less than max_position_embeddings=131072": ("mistral", {}),
    "sliding_window=64 is less than max_position_embeddings=128": (
        "mistral",
        {"sliding_window": 64, "max_position_embeddings": 128},
    ),
    "sliding_window=32 is less than max_position_embeddings=64": (
        "qwen2",
        {
            "use_sliding_window": True,
            "sliding_window": 32,
            "max_position_embeddings": 64,
            "max_window_layers": 1,
            "num_hidden_layers": 2,
        },
    ),
    "problem_type='ranking' is not supported": (
        "gpt2",
        {"architectures": ["GPT2ForSequenceClassification"], "problem_type": "ranking"},
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_change_the_numbers_is_refused_by_name(what):
    kind, given = REFUSED[what]
    assert what in sentence(model_of, kind, **given)


def test_a_window_that_no_row_is_longer_than_is_none():
    assert model_of("mistral", sliding_window=None).max_positions == 131_072
    assert model_of("mistral", max_position_embeddings=4096).key_heads == 8
    assert model_of("qwen2", sliding_window=8).max_positions == 32_768
    above = dict(use_sliding_window=True, sliding_window=8, max_window_layers=32)
    assert model_of("qwen2", **above).decoder_layers == 32


BIASES = {
    (False, False): {},
    (True, True): {"bias": True},
    (True, False): {"qkv_bias": True, "out_bias": True},
    (False, True): {"mlp_bias": True},
}


@pytest.mark.parametrize("given", BIASES)
def test_llamas_biases_of_attention_and_feed_forward_are_two_settings(given, tmp_path):
    attention, mlp = given
    settings = dict(attention_bias=attention, mlp_bias=mlp)

    def biased(tensors: dict[str, np.ndarray]) -> None:
        random = np.random.default_rng(0)
        for name in [name for name in tensors if name.endswith("_proj.weight")]:
            if (attention and "self_attn" in name) or (mlp and ".mlp." in name):
                bias = random.normal(size=len(tensors[name])).astype(np.float32)
                tensors[name.replace(".weight", ".bias")] = bias

    source = damaged(tmp_path, "llama", fields(**settings), weights(biased))
    assert_same_tensors(again(source, tmp_path / "run"), tensors_of(source))
    after = json.loads((tmp_path / "out" / "config.json").read_text())
    assert {name: after[name] for name in settings} == settings
    model = RunDirectory(tmp_path / "run").config().model
    assert {
        name: value for name in ("bias", "qkv_bias", "out_bias", "mlp_bias") if (value := getattr(model, name))
    } == BIASES[given]


@pytest.mark.parametrize("family", ["gpt", "t5", "bert"])
def test_parameters_are_counted_with_the_biases_of_each_part(family):
    mesh = make_mesh(small_config(family).mesh, jax.devices()[:1])
    for change in (dict(qkv_bias=True), dict(out_bias=True), dict(mlp_bias=True), dict(bias=True, mlp_bias=False)):
        config = small_config(family, **{f"model__{name}": value for name, value in change.items()})
        with jax.set_mesh(mesh):
            abstract = make_training(config, mesh).abstract.params
        assert sum(leaf.size for leaf in jax.tree.leaves(abstract)) == parameter_count(config.model)


def test_heads_of_decoders_have_no_bias_and_take_the_last_token(tmp_path):
    names = ["anger", "joy", "fear"]
    own = fields(
        architectures=["GPT2ForSequenceClassification"],
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    score = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    source = damaged(tmp_path, "gpt2", own, put("score.weight", lambda tensors: score))
    assert_same_tensors(again(source, tmp_path / "run"), tensors_of(source))
    model = RunDirectory(tmp_path / "run").config().model
    assert (model.head, model.labels, model.pooling, model.head_bias) == ("sequence", 3, "last", False)
    after = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (after["architectures"], after["id2label"]["2"]) == (["GPT2ForSequenceClassification"], "fear")
    assert (tmp_path / "out" / WEIGHTS).is_file()
    assert not (tmp_path / "out" / "generation_config.json").exists()
