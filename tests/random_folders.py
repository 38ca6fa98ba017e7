"""Folders of transformers with random configurations and weights, by model type and seed.

Sizes, activations, biases, positions, heads and ties are drawn, and so is the age of config.json: as transformers 5
writes it, or without the fields that it added and those that have their default.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from golden.weights import randomise, untie

Draw = np.random.Generator
ROWS = 264
"""Least rows of the vocabulary: the bytes', which all folders are imported with."""
LLAMA3 = dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0)
NEW = ("dense_act_fn", "is_gated_act", "transformers_version", "layer_types", "rope_parameters")
"""Fields that transformers 5 writes and older versions did not."""


def write_folder(kind: str, seed: int, folder: pathlib.Path) -> str:
    """Writes a model of the type and returns what was drawn in words."""
    import transformers

    draw = np.random.default_rng([seed, *kind.encode()])
    name, fields, untied = CONFIGS[kind](draw)
    model_class = getattr(transformers, name)
    model = model_class(model_class.config_class(**fields)).eval()
    if untied and name.endswith("ForConditionalGeneration"):
        untie(model)
    randomise(model, draw)
    model.save_pretrained(folder)
    old = draw.random() < 0.5
    if old:
        _make_old(folder / "config.json", untied)
    said = {**fields, "old": True} if old else fields
    return f"{name} {', '.join(f'{key}={value}' for key, value in said.items())}"


def _make_old(file: pathlib.Path, untied: bool) -> None:
    """Rewrites a config.json as transformers 4 would have: with rope_theta and rope_scaling, without newer fields."""
    fields = json.loads(file.read_text("utf-8"))
    rope = fields.get("rope_parameters")
    fields = {name: value for name, value in fields.items() if name not in NEW}
    if rope:
        fields["rope_theta"] = rope.pop("rope_theta")
        fields["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    if fields.pop("scale_decoder_outputs", None) is not None:
        fields["tie_word_embeddings"] = not untied
    file.write_text(json.dumps(fields), "utf-8")


def one_of(draw: Draw, *values: Any) -> Any:
    return values[draw.integers(len(values))]


def _t5(kind: str) -> Callable[[Draw], tuple[str, dict[str, Any], bool]]:
    def config(draw: Draw) -> tuple[str, dict[str, Any], bool]:
        untied, encoder = bool(draw.integers(2)), draw.random() < 0.25
        fields = dict(
            vocab_size=ROWS + int(draw.integers(40)),
            d_model=one_of(draw, 12, 16, 20),
            num_heads=one_of(draw, 2, 3, 4),
            d_kv=one_of(draw, 4, 6, 8),
            d_ff=one_of(draw, 20, 28, 36),
            num_layers=one_of(draw, 1, 2, 3),
            feed_forward_proj=one_of(draw, "relu", "gated-gelu", "gated-silu", "gelu", "gated-relu"),
            relative_attention_num_buckets=one_of(draw, 8, 16, 32),
            relative_attention_max_distance=one_of(draw, 40, 128),
            layer_norm_epsilon=one_of(draw, 1e-6, 1e-3),
            decoder_start_token_id=0,
            tie_word_embeddings=not untied,
        )
        fields |= {"num_decoder_layers": one_of(draw, 1, 2, 3)} if draw.integers(2) else {}
        name = {"t5": "T5", "mt5": "MT5", "umt5": "UMT5"}[kind]
        return f"{name}{'EncoderModel' if encoder else 'ForConditionalGeneration'}", fields, untied and not encoder

    return config


def _bert(draw: Draw) -> tuple[str, dict[str, Any], bool]:
    ending = one_of(
        draw, "Masked", "Masked", "PreTraining", "Sequence", "Sequence", "Token", "QuestionAnswering", "Model"
    )
    names = {"Masked": "ForMaskedLM", "Sequence": "ForSequenceClassification", "Token": "ForTokenClassification"}
    name = "Bert" + names.get(ending, ending if ending == "Model" else f"For{ending}")
    heads = one_of(draw, 2, 4)
    fields = dict(
        vocab_size=ROWS + int(draw.integers(40)),
        hidden_size=4 * heads,
        num_attention_heads=heads,
        num_hidden_layers=one_of(draw, 1, 2, 3),
        intermediate_size=one_of(draw, 20, 28),
        hidden_act=one_of(draw, "gelu", "relu", "gelu_new", "silu"),
        max_position_embeddings=one_of(draw, 32, 48),
        type_vocab_size=2 if ending == "PreTraining" else one_of(draw, 2, 3),
        layer_norm_eps=one_of(draw, 1e-12, 1e-5),
        attention_probs_dropout_prob=one_of(draw, 0.1, 0.2),
        classifier_dropout=one_of(draw, None, 0.3),
    )
    fields |= {"tie_word_embeddings": False} if draw.integers(2) else {}
    return name, fields | (_labels(draw) if ending in ("Sequence", "Token") else {}), False


def _labels(draw: Draw) -> dict[str, Any]:
    count = one_of(draw, 1, 2, 3)
    names = [f"label {chr(97 + number)}" for number in range(count)]
    kinds = ["regression", "multi_label_classification", None] + ["single_label_classification"] * (count > 1)
    labels = dict(id2label=dict(enumerate(names)), label2id={name: number for number, name in enumerate(names)})
    return labels | {"problem_type": one_of(draw, *kinds)}


def _decoder_class(draw: Draw, name: str, language: str) -> tuple[str, dict[str, Any]]:
    ending = one_of(draw, language, language, "ForSequenceClassification", "Model")
    return name + ending, _labels(draw) if ending.startswith("ForSeq") else {}


def _gpt2(draw: Draw) -> tuple[str, dict[str, Any], bool]:
    name, labels = _decoder_class(draw, "GPT2", "LMHeadModel")
    heads = one_of(draw, 2, 4)
    fields = dict(
        vocab_size=ROWS + int(draw.integers(40)),
        n_embd=4 * heads,
        n_head=heads,
        n_layer=one_of(draw, 1, 2, 3),
        n_inner=one_of(draw, None, 28),
        n_positions=one_of(draw, 32, 48),
        activation_function=one_of(draw, "gelu_new", "gelu", "relu"),
        layer_norm_epsilon=one_of(draw, 1e-5, 1e-3),
        attn_pdrop=one_of(draw, 0.1, 0.3),
        tie_word_embeddings=bool(draw.integers(2)),
        bos_token_id=1,
        eos_token_id=1,
    )
    return name, fields | labels, False


def _llama(kind: str) -> Callable[[Draw], tuple[str, dict[str, Any], bool]]:
    def config(draw: Draw) -> tuple[str, dict[str, Any], bool]:
        name, labels = _decoder_class(
            draw, {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}[kind], "ForCausalLM"
        )
        longest = one_of(draw, 64, 128)
        base = dict(rope_theta=one_of(draw, 10_000.0, 500_000.0))
        ropes = (dict(rope_type="default"), dict(rope_type="linear", factor=2.0), {**LLAMA3}, {**LLAMA3})
        rope: dict[str, Any] = base | one_of(draw, *ropes)
        if rope["rope_type"] == "llama3":
            rope["original_max_position_embeddings"] = one_of(draw, 16, 32)
        fields = dict(
            vocab_size=ROWS + int(draw.integers(40)),
            hidden_size=16,
            num_attention_heads=4,
            num_key_value_heads=one_of(draw, 1, 2, 4),
            num_hidden_layers=one_of(draw, 1, 2, 3),
            intermediate_size=one_of(draw, 20, 28),
            hidden_act=one_of(draw, "silu", "gelu_new"),
            max_position_embeddings=longest,
            rms_norm_eps=one_of(draw, 1e-6, 1e-3),
            rope_parameters=rope,
            tie_word_embeddings=bool(draw.integers(2)),
        )
        fields |= {"head_dim": one_of(draw, 4, 6, 8)} if draw.integers(2) else {}
        if kind == "llama":
            fields |= dict(attention_bias=bool(draw.integers(2)), mlp_bias=bool(draw.integers(2)))
        if kind == "mistral":
            fields["sliding_window"] = one_of(draw, None, longest)
        return name, fields | labels, False

    return config


def _marian(draw: Draw) -> tuple[str, dict[str, Any], bool]:
    heads, mlp = one_of(draw, 2, 4), one_of(draw, 20, 28)
    fields = dict(
        vocab_size=ROWS + int(draw.integers(40)),
        d_model=4 * heads,
        encoder_layers=one_of(draw, 1, 2),
        decoder_layers=one_of(draw, 1, 3),
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=mlp,
        decoder_ffn_dim=mlp,
        max_position_embeddings=one_of(draw, 32, 48),
        activation_function=one_of(draw, "relu", "gelu", "swish"),
        scale_embedding=bool(draw.integers(2)),
        attention_dropout=one_of(draw, 0.0, 0.2),
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return "MarianMTModel", fields, False


CONFIGS = {kind: _t5(kind) for kind in ("t5", "mt5", "umt5")}
CONFIGS |= {kind: _llama(kind) for kind in ("llama", "mistral", "qwen2")}
CONFIGS |= {"bert": _bert, "gpt2": _gpt2, "marian": _marian}
"""Model type -> what draws a class, its configuration, and whether the output is untied by hand."""
