"""Llama and what is built like it, as transformers names and stores it: rotary positions, grouped queries, SwiGLU."""

from collections.abc import Collection
from typing import Any

from t5like.config import Model
from t5like.convert.layout import Place, Places
from t5like.convert.settings import THEIR_ACTIVATION, Settings
from t5like.errors import UserError

CLASSES = {"llama": {"vocabulary": "LlamaForCausalLM", "none": "LlamaModel"}}
"""Class of each head."""
BODY = "model."
SCALINGS = {"default": "none", "linear": "linear", "llama3": "llama3"}
"""transformers' `rope_type` -> `model.rotary_scaling`."""


def model_of(settings: Settings, names: Collection[str]) -> Model:
    """The model that a config.json and the names of the tensors beside it describe."""
    settings.require("architectures", *([name] for name in CLASSES["llama"].values()))
    bare, bias = settings.architecture == CLASSES["llama"]["none"], settings.get("attention_bias", False)
    settings.require("mlp_bias", *((True,) if bias else (False,)))
    embed, heads = settings.size("hidden_size", 4096), settings.size("num_attention_heads", 32)
    return Model(
        decoder_layers=settings.size("num_hidden_layers", 32),
        embed=embed,
        heads=heads,
        kv_heads=settings.size("num_key_value_heads", heads),
        kv=settings.size("head_dim", embed // heads),
        mlp=settings.size("intermediate_size", 11_008),
        vocab=settings.size("vocab_size", 32_000),
        positions="rotary",
        max_positions=settings.size("max_position_embeddings", 2048),
        **_rotary(settings),
        norm_epsilon=settings.get("rms_norm_eps", 1e-6),
        activation=settings.activation("hidden_act", "silu"),
        bias=bias,
        tied=settings.get("tie_word_embeddings", False) and not bare,
        scale_attention=True,
        embedding_deviation=settings.get("initializer_range", 0.02),
        head="none" if bare else "vocabulary",
        pooling="last" if bare else "first",
        dtype=settings.dtype,
    )


def places(model: Model) -> Places:
    """Where each parameter lies. A bare LlamaModel is stored without the prefix of the one with a head."""
    body = "" if model.head == "none" else BODY
    layer, blocks = f"{body}layers.{{layer}}", "decoder/blocks"
    found = {
        "embedding": Place(f"{body}embed_tokens.weight", 1),
        "decoder/norm/scale": Place(f"{body}norm.weight"),
        f"{blocks}/norm_self/scale": Place(f"{layer}.input_layernorm.weight"),
        f"{blocks}/norm_mlp/scale": Place(f"{layer}.post_attention_layernorm.weight"),
    }
    attention = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "o_proj"}
    kernels = {f"self/{ours}": f"self_attn.{theirs}" for ours, theirs in attention.items()}
    kernels |= {f"mlp/{name}": f"mlp.{name}_proj" for name in ("gate", "up", "down")}
    for ours, theirs in kernels.items():
        found[f"{blocks}/{ours}"] = Place(f"{layer}.{theirs}.weight", 2 if ours == "self/out" else 1, True)
        if model.bias:
            found[f"{blocks}/{ours}_bias"] = Place(f"{layer}.{theirs}.bias")
    if model.predicts_pieces and not model.tied:
        found["output"] = Place("lm_head.weight", 1, True)
    return found


def settings_of(model: Model, kind: str) -> dict[str, Any]:
    """The fields of config.json for the model; positions as transformers 5 and as 4 write them."""
    scaling: dict[str, Any] = {"rope_type": {ours: theirs for theirs, ours in SCALINGS.items()}[model.rotary_scaling]}
    if model.rotary_scaling != "none":
        scaling["factor"] = model.rotary_factor
    if model.rotary_scaling == "llama3":
        scaling |= {"low_freq_factor": model.rotary_low, "high_freq_factor": model.rotary_high}
        scaling["original_max_position_embeddings"] = model.rotary_length
    return {
        "hidden_size": model.embed,
        "num_hidden_layers": model.decoder_layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.key_heads,
        "head_dim": model.kv,
        "intermediate_size": model.mlp,
        "hidden_act": THEIR_ACTIVATION[model.activation],
        "max_position_embeddings": model.max_positions or 2048,
        "rms_norm_eps": model.norm_epsilon,
        "initializer_range": model.embedding_deviation,
        "rope_parameters": {"rope_theta": model.rotary_base, **scaling},
        "rope_theta": model.rotary_base,
        "rope_scaling": None if model.rotary_scaling == "none" else scaling,
        "attention_bias": model.bias,
        "mlp_bias": model.bias,
        "vocab_size": model.vocab,
        "tie_word_embeddings": model.tied,
    }


def kinds(model: Model) -> list[str]:
    """The model types that have this architecture."""
    fits = (
        model.family == "decoder"
        and model.positions == "rotary"
        and model.norm == "rms"
        and model.norm_position == "pre"
        and model.head in CLASSES["llama"]
        and all((model.gated, model.scale_attention))
        and not any((model.scale_logits, model.scale_embedding, model.embedding_norm, model.pooler))
        and not any((model.output_transform, model.output_bias))
    )
    return ["llama"] if fits else []


def canonical(name: str, model: Model) -> str:
    """A tensor's name with or without the prefix, as the model's own class has it."""
    bare = name.removeprefix(BODY)
    return bare if model.head == "none" or bare.startswith("lm_head.") else BODY + bare


def copies(model: Model) -> dict[str, str]:
    """Tensors that older versions store twice -> what they are copies of."""
    return {"lm_head.weight": f"{BODY}embed_tokens.weight"} if model.tied else {}


def unused(name: str, model: Model) -> str | None:
    """Why a tensor has no place in the model, if that is known."""
    if name.endswith("rotary_emb.inv_freq"):
        return "follows from config.json"
    return "LlamaModel, which config.json names, has no head" if name.startswith("lm_head.") else None


def _rotary(settings: Settings) -> dict[str, Any]:
    """The `rotary_*` fields, from transformers 5's rope_parameters or 4's rope_theta and rope_scaling."""
    given = settings.get("rope_parameters", {}) or settings.get("rope_scaling", {})
    rope = Settings(given, f"{settings.file}, rope_parameters")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in SCALINGS:
        raise UserError(f"{settings.file}: rope_type={kind!r} is not supported, only {', '.join(SCALINGS)}.")
    rope.require("partial_rotary_factor", 1.0)
    base = float(rope.get("rope_theta", settings.get("rope_theta", 10_000.0)))
    fields: dict[str, Any] = {"rotary_base": base, "rotary_scaling": SCALINGS[kind]}
    if kind != "default":
        fields["rotary_factor"] = float(rope.get("factor", 1.0))
    if kind == "llama3":
        fields["rotary_low"] = float(rope.get("low_freq_factor", 1.0))
        fields["rotary_high"] = float(rope.get("high_freq_factor", 4.0))
        fields["rotary_length"] = rope.size("original_max_position_embeddings", 8192)
    return fields
