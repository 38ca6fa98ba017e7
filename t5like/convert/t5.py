"""T5 1.0 and 1.1, mT5, umT5, ByT5 and UL2, and their encoders alone, as transformers names and stores them."""

from collections.abc import Collection
from typing import Any

from t5like.config import Model
from t5like.convert.layout import TensorMapping, TensorMappings
from t5like.convert.settings import ACTIVATIONS, THEIR_ACTIVATION, Activation, Head, Settings

CLASSES: dict[str, dict[Head, str]] = {
    "t5": {"vocabulary": "T5ForConditionalGeneration", "none": "T5EncoderModel"},
    "mt5": {"vocabulary": "MT5ForConditionalGeneration", "none": "MT5EncoderModel"},
    "umt5": {"vocabulary": "UMT5ForConditionalGeneration", "none": "UMT5EncoderModel"},
}
"""Class of each model type and head; those without a head are encoders."""
FIRST_CLASS = "T5WithLMHeadModel"
"""The name of T5ForConditionalGeneration in transformers 2."""
ALIASES = {
    "hidden_size": "d_model",
    "num_attention_heads": "num_heads",
    "num_hidden_layers": "num_layers",
    "head_dim": "d_kv",
}
"""Second names of fields, as transformers' configs of the family take them."""
FIRST = {"vocab_size": 32_128, "d_ff": 2048, "num_layers": 6, "num_heads": 8, "feed_forward_proj": "relu"}
LATER = {"vocab_size": 250_112, "d_ff": 1024, "num_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu"}
DEFAULTS: dict[str, dict[str, Any]] = {"t5": FIRST, "mt5": LATER, "umt5": LATER}
"""Values of fields that a config.json may leave out, where they differ by model type."""
TIES = {"lm_head.weight": "shared.weight"}
"""Tensors that are tied if they are equal, whatever config.json says: transformers 5 always writes that they are."""
ENCODER_END, DECODER_END = "encoder.final_layer_norm.weight", "decoder.final_layer_norm.weight"
TOKENIZERS = {"t5": "T5Tokenizer", "mt5": "T5Tokenizer", "umt5": ""}
"""Class of the tokenizer where a folder names none; umt5 has the generic one, whatever its folder names."""
DROPOUTS: dict[str, float | None] = {"dropout_rate": 0.1}


def model_of(settings: Settings, names: Collection[str]) -> Model:
    """The model that a config.json and the names of the tensors beside it describe."""
    kind = settings.get("model_type", "")
    settings, before = settings.over(DEFAULTS[kind], ALIASES), settings.over(DEFAULTS[kind])
    gated, activation = _feed_forward(settings)
    known = [name for classes in CLASSES.values() for name in classes.values()]
    settings.require("architectures", *([name] for name in (*known, FIRST_CLASS)))
    encoder_only = settings.architecture in [classes["none"] for classes in CLASSES.values()]
    encoder_only |= not settings.architecture and {ENCODER_END, DECODER_END} & {*names} == {ENCODER_END}
    # Where it is left out, transformers takes the number of encoder layers by their own name, never by the alias.
    decoder_layers = 0 if encoder_only else settings.size("num_decoder_layers", before.size("num_layers"))
    return Model(
        encoder_layers=settings.size("num_layers"),
        decoder_layers=decoder_layers,
        embed=settings.size("d_model", 512),
        heads=settings.size("num_heads"),
        kv=settings.size("d_kv", 64),
        mlp=settings.size("d_ff"),
        vocab=settings.size("vocab_size"),
        relative_buckets=settings.size("relative_attention_num_buckets", 32),
        relative_distance=settings.size("relative_attention_max_distance", 128),
        relative_per_layer=kind == "umt5",
        norm_epsilon=settings.get("layer_norm_epsilon", 1e-6),
        activation=activation,
        gated=gated,
        tied="lm_head.weight" not in names and not encoder_only,
        scale_logits=_scaled(settings, kind) and not encoder_only,
        head="none" if encoder_only else "vocabulary",
        pooling="mean" if encoder_only else "first",
        dropout=settings.get("dropout_rate", 0.1),
        dtype=settings.dtype,
    )


def tensor_mappings(model: Model) -> TensorMappings:
    """The tensor of each parameter, or its tensors, one of each layer."""
    found = {"embedding": TensorMapping("shared.weight", 1)}
    if model.predicts_pieces and not model.tied:
        found["output"] = TensorMapping("lm_head.weight", 1, True)
    for stack in ["encoder"] * bool(model.encoder_layers) + ["decoder"] * bool(model.decoder_layers):
        found[f"{stack}/norm/scale"] = TensorMapping(f"{stack}.final_layer_norm.weight")
        table = "SelfAttention.relative_attention_bias.weight"
        if model.relative_per_layer:
            found[f"{stack}/blocks/relative"] = TensorMapping(f"{stack}.block.{{layer}}.layer.0.{table}", 1)
        else:
            found[f"{stack}/relative"] = TensorMapping(f"{stack}.block.0.layer.0.{table}", 1)
        for number, part in enumerate(["self", "cross", "mlp"] if stack == "decoder" else ["self", "mlp"]):
            found |= _sublayer(stack, part, f"{stack}.block.{{layer}}.layer.{number}", model.gated)
    return found


def settings_of(model: Model, kind: str) -> dict[str, Any]:
    """The fields of config.json for the model; `kind` is its model type."""
    activation = THEIR_ACTIVATION.get(model.activation)
    plain = "gelu" if model.gated and model.activation == "gelu_tanh" else activation
    return {
        "d_model": model.embed,
        "num_heads": model.heads,
        "d_kv": model.kv,
        "d_ff": model.mlp,
        "num_layers": model.encoder_layers,
        "num_decoder_layers": model.decoder_layers or model.encoder_layers,
        "vocab_size": model.vocab,
        "relative_attention_num_buckets": model.relative_buckets,
        "relative_attention_max_distance": model.relative_distance,
        "layer_norm_epsilon": model.norm_epsilon,
        "feed_forward_proj": f"gated-{plain}" if model.gated else plain,
        "dense_act_fn": activation,
        "is_gated_act": model.gated,
        "dropout_rate": model.dropout,
        "is_encoder_decoder": bool(model.decoder_layers),
        "tie_word_embeddings": model.tied,
        "scale_decoder_outputs": model.scale_logits,
    }


def canonical(name: str, model: Model) -> str:
    """A tensor's present name, which is the only one it had."""
    return name


def copies(model: Model) -> dict[str, str]:
    """Tensors that older versions store twice -> the originals."""
    found = {f"{stack}.embed_tokens.weight": "shared.weight" for stack in ("encoder", "decoder")}
    return found | ({"lm_head.weight": "shared.weight"} if model.tied else {})


def repeated(model: Model) -> dict[str, str]:
    """Tensors that an export stores a second time: none."""
    return {}


def unused(name: str, model: Model) -> str | None:
    """The reason for which a tensor fills no parameter, if it is known."""
    if name.endswith("EncDecAttention.relative_attention_bias.weight"):
        return "cross-attention has no positions; old checkpoints hold the table all the same"
    if model.head == "none" and name.startswith(("decoder.", "lm_head.")):
        return "the model is an encoder alone"
    return None


def _scaled(settings: Settings, kind: str) -> bool:
    """True if the last states are scaled before the output, as transformers 5 derives it.

    transformers 4 says so by tie_word_embeddings; 5 always writes true there, and scale_decoder_outputs beside it. Its
    mT5 never scales.
    """
    if kind == "mt5":
        return False
    settings.get("tie_word_embeddings", True)
    if "scale_decoder_outputs" in settings.fields:
        return settings.get("scale_decoder_outputs", False)
    return settings.fields.get("tie_word_embeddings") is not False


def _feed_forward(settings: Settings) -> tuple[bool, Activation]:
    """True for a gated feed-forward layer, and its activation; dense_act_fn and is_gated_act win where they are given,
    as in transformers."""
    name = settings.get("feed_forward_proj", "relu")
    first, last = name.split("-")[0], name.split("-")[-1]
    if name not in (last, f"gated-{last}") or last not in ACTIVATIONS:
        supported = [*ACTIVATIONS, *(f"gated-{name}" for name in ACTIVATIONS)]
        settings.require("feed_forward_proj", *supported)
    # For gated-gelu transformers takes the approximation, as the released code does.
    activation = settings.activation("dense_act_fn", "gelu_new" if name == "gated-gelu" else last)
    return settings.get("is_gated_act", first == "gated"), activation


def _sublayer(stack: str, part: str, prefix: str, gated: bool) -> dict[str, TensorMapping]:
    """Maps the norm and the kernels of attention or of the feed-forward layer; `prefix` begins their tensors' names."""
    ours, found = f"{stack}/blocks", {}
    found[f"{ours}/norm_{part}/scale"] = TensorMapping(f"{prefix}.layer_norm.weight")
    if part == "mlp":
        kernels = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
        kernels = {name: f"DenseReluDense.{theirs}" for name, theirs in kernels.items()}
    else:
        attention = "SelfAttention" if part == "self" else "EncDecAttention"
        kernels = {"query": "q", "key": "k", "value": "v", "out": "o"}
        kernels = {name: f"{attention}.{theirs}" for name, theirs in kernels.items()}
    for name, theirs in kernels.items():
        found[f"{ours}/{part}/{name}"] = TensorMapping(f"{prefix}.{theirs}.weight", 2 if name == "out" else 1, True)
    return found
