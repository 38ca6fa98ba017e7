"""Llama, Mistral and Qwen2, as transformers names and stores them: rotary positions, grouped queries, SwiGLU.

The three differ in their biases and in what their configs leave out. A window over the last tokens, which Mistral and
Qwen2 can have, is none as long as no row is longer than it.
"""

from collections.abc import Collection
from typing import Any, Literal

from t5like.config import Model
from t5like.convert.decoders import of_another_head, prefixed
from t5like.convert.layout import TensorMapping, TensorMappings
from t5like.convert.rotary import rotary_fields, rotary_settings
from t5like.convert.settings import THEIR_ACTIVATION, Head, Settings, label_fields
from t5like.errors import UserError

NAMES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2"}
ENDINGS: dict[Head, str] = {"vocabulary": "ForCausalLM", "sequence": "ForSequenceClassification", "none": "Model"}
CLASSES: dict[str, dict[Head, str]] = {
    kind: {head: name + ending for head, ending in ENDINGS.items()} for kind, name in NAMES.items()
}
"""Class of each model type and head."""
BODY, SCORE = "model.", "score.weight"
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"intermediate_size": 11_008, "max_position_embeddings": 2048, "vocab_size": 32_000},
    "mistral": {
        "intermediate_size": 14_336,
        "max_position_embeddings": 131_072,
        "vocab_size": 32_000,
        "num_key_value_heads": 8,
        "sliding_window": 4096,
    },
    "qwen2": {
        "intermediate_size": 22_016,
        "max_position_embeddings": 32_768,
        "vocab_size": 151_936,
        "num_key_value_heads": 32,
        "sliding_window": 4096,
        "max_window_layers": 28,
    },
}
"""Values of fields that a config.json may leave out, where they differ by model type."""
Part = Literal["qkv", "out", "mlp"]
PARTS: tuple[Part, ...] = ("qkv", "out", "mlp")
ALIASES: dict[str, str] = {}
TIES: dict[str, str] = {}
TOKENIZERS: dict[str, str] = {}
DROPOUTS: dict[str, float | None] = {"attention_dropout": 0.0}


def model_of(settings: Settings, names: Collection[str]) -> Model:
    """The model that a config.json and the names of the tensors beside it describe."""
    kind = settings.get("model_type", "")
    settings = settings.over(DEFAULTS[kind])
    head = settings.head(CLASSES[kind])
    embed, heads = settings.size("hidden_size", 4096), settings.size("num_attention_heads", 32)
    layers, longest = settings.size("num_hidden_layers", 32), settings.size("max_position_embeddings")
    _require_no_window(settings, kind, layers, longest)
    return Model(
        decoder_layers=layers,
        embed=embed,
        heads=heads,
        kv_heads=settings.size("num_key_value_heads", heads),
        kv=settings.size("head_dim", embed // heads),
        mlp=settings.size("intermediate_size"),
        vocab=settings.size("vocab_size"),
        positions="rotary",
        max_positions=longest,
        **rotary_fields(settings, longest),
        norm_epsilon=settings.get("rms_norm_eps", 1e-6),
        activation=settings.activation("hidden_act", "silu"),
        **_biases(settings, kind),
        tied=settings.get("tie_word_embeddings", False) and head == "vocabulary",
        scale_attention=True,
        embedding_deviation=settings.get("initializer_range", 0.02),
        head=head,
        head_bias=head != "sequence",
        **settings.labelled(head),
        pooling="first" if head == "vocabulary" else "last",
        dtype=settings.dtype,
    )


def tensor_mappings(model: Model) -> TensorMappings:
    """The tensor of each parameter. A bare LlamaModel is stored without the prefix of the one with a head."""
    body = "" if model.head == "none" else BODY
    layer, blocks = f"{body}layers.{{layer}}", "decoder/blocks"
    found = {
        "embedding": TensorMapping(f"{body}embed_tokens.weight", 1),
        "decoder/norm/scale": TensorMapping(f"{body}norm.weight"),
        f"{blocks}/norm_self/scale": TensorMapping(f"{layer}.input_layernorm.weight"),
        f"{blocks}/norm_mlp/scale": TensorMapping(f"{layer}.post_attention_layernorm.weight"),
    }
    kernels: dict[tuple[Part, str], str] = {
        ("qkv", f"self/{name}"): f"self_attn.{name[0]}_proj" for name in ("query", "key", "value")
    }
    kernels["out", "self/out"] = "self_attn.o_proj"
    for name in ("gate", "up", "down"):
        kernels["mlp", f"mlp/{name}"] = f"mlp.{name}_proj"
    for (part, ours), theirs in kernels.items():
        found[f"{blocks}/{ours}"] = TensorMapping(f"{layer}.{theirs}.weight", 2 if ours == "self/out" else 1, True)
        if model.biased(part):
            found[f"{blocks}/{ours}_bias"] = TensorMapping(f"{layer}.{theirs}.bias")
    if model.predicts_pieces and not model.tied:
        found["output"] = TensorMapping("lm_head.weight", 1, True)
    if model.head == "sequence":
        found["head/kernel"] = TensorMapping(SCORE, 1, True)
    return found


def settings_of(model: Model, kind: str) -> dict[str, Any]:
    """The fields of config.json for the model; positions as transformers 5 and as 4 write them."""
    own = {"attention_bias": model.biased("qkv"), "mlp_bias": model.biased("mlp")} if kind == "llama" else {}
    own |= {"sliding_window": None} if kind == "mistral" else {}
    own |= {"use_sliding_window": False} if kind == "qwen2" else {}
    return {
        "hidden_size": model.embed,
        "num_hidden_layers": model.decoder_layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.key_heads,
        "head_dim": model.kv,
        "intermediate_size": model.mlp,
        "hidden_act": THEIR_ACTIVATION.get(model.activation),
        "max_position_embeddings": model.max_positions or DEFAULTS[kind]["max_position_embeddings"],
        "rms_norm_eps": model.norm_epsilon,
        "initializer_range": model.embedding_deviation,
        "attention_dropout": model.dropout,
        **rotary_settings(model),
        **own,
        "vocab_size": model.vocab,
        "tie_word_embeddings": model.tied,
        **label_fields(model),
    }


def canonical(name: str, model: Model) -> str:
    """A tensor's name with or without the prefix, as the model's own class has it."""
    return prefixed(name, BODY, model)


def copies(model: Model) -> dict[str, str]:
    """Tensors that older versions store twice -> the originals."""
    return {"lm_head.weight": f"{BODY}embed_tokens.weight"} if model.tied else {}


def repeated(model: Model) -> dict[str, str]:
    """Tensors that an export stores a second time: none."""
    return {}


def unused(name: str, model: Model) -> str | None:
    """The reason for which a tensor fills no parameter, if it is known."""
    if name.endswith("rotary_emb.inv_freq"):
        return "follows from config.json"
    return of_another_head(name, model)


def _biases(settings: Settings, kind: str) -> dict[str, bool]:
    """The fields of `Model` for the projections that have biases; Mistral and Qwen2 do not ask config.json."""
    if kind == "llama":
        attention, mlp = settings.get("attention_bias", False), settings.get("mlp_bias", False)
        if attention == mlp:
            return {"bias": attention}
        return {"qkv_bias": True, "out_bias": True} if attention else {"mlp_bias": True}
    return {"qkv_bias": True} if kind == "qwen2" else {}


def _require_no_window(settings: Settings, kind: str, layers: int, longest: int) -> None:
    """Raises `UserError` if some layer attends to fewer tokens than the longest row has."""
    if kind == "llama" or settings.fields.get("sliding_window") is None:
        return
    window, full = settings.size("sliding_window"), 0
    if kind == "qwen2":
        full = settings.size("max_window_layers") if settings.get("use_sliding_window", False) else layers
        kinds = settings.get("layer_types", [])
        full = 0 if "sliding_attention" in kinds else layers if kinds else full
    if full < layers and window < longest:
        raise UserError(
            f"{settings.file}: sliding_window={window} is less than max_position_embeddings={longest}, and models here "
            f"see whole rows: set max_position_embeddings to at most {window} there to import it for rows that short."
        )
