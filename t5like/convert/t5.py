"""T5 1.0 and 1.1, mT5, umT5, ByT5 and UL2, and their encoders alone, as transformers names and stores them."""

from collections.abc import Collection
from typing import Any

from t5like.config import Model
from t5like.convert.layout import Place, Places
from t5like.convert.settings import THEIR_ACTIVATION, Settings

CLASSES = {
    "t5": {"vocabulary": "T5ForConditionalGeneration", "none": "T5EncoderModel"},
    "mt5": {"vocabulary": "MT5ForConditionalGeneration", "none": "MT5EncoderModel"},
    "umt5": {"vocabulary": "UMT5ForConditionalGeneration", "none": "UMT5EncoderModel"},
}
"""Class of each model type and head; those without a head are encoders."""
FIRST_CLASS = "T5WithLMHeadModel"
"""What transformers 2 called T5ForConditionalGeneration."""
MULTILINGUAL_ROWS = 200_000
"""Rows of the vocabulary from which on a model is one of mT5's."""


def model_of(settings: Settings, names: Collection[str]) -> Model:
    """The model that a config.json and the names of the tensors beside it describe."""
    kind, gated, activation = settings.get("model_type", ""), *_feed_forward(settings)
    known = [name for classes in CLASSES.values() for name in classes.values()]
    settings.require("architectures", *([name] for name in (*known, FIRST_CLASS)))
    encoder_only = settings.architecture in [classes["none"] for classes in CLASSES.values()]
    layers = settings.size("num_layers", 6)
    tied, scaled = _output(settings, kind, "lm_head.weight" in names)
    return Model(
        encoder_layers=layers,
        decoder_layers=0 if encoder_only else settings.size("num_decoder_layers", layers),
        embed=settings.size("d_model", 512),
        heads=settings.size("num_heads", 8),
        kv=settings.size("d_kv", 64),
        mlp=settings.size("d_ff", 2048),
        vocab=settings.size("vocab_size"),
        relative_buckets=settings.size("relative_attention_num_buckets", 32),
        relative_distance=settings.size("relative_attention_max_distance", 128),
        relative_per_layer=kind == "umt5",
        norm_epsilon=settings.get("layer_norm_epsilon", 1e-6),
        activation=activation,
        gated=gated,
        tied=tied and not encoder_only,
        scale_logits=scaled and not encoder_only,
        head="none" if encoder_only else "vocabulary",
        pooling="mean" if encoder_only else "first",
        dropout=settings.get("dropout_rate", 0.1),
        dtype=settings.dtype,
    )


def places(model: Model) -> Places:
    """Where each parameter lies."""
    found = {"embedding": Place("shared.weight", 1)}
    if model.predicts_pieces and not model.tied:
        found["output"] = Place("lm_head.weight", 1, True)
    for stack in ["encoder"] * bool(model.encoder_layers) + ["decoder"] * bool(model.decoder_layers):
        found[f"{stack}/norm/scale"] = Place(f"{stack}.final_layer_norm.weight")
        table = "SelfAttention.relative_attention_bias.weight"
        if model.relative_per_layer:
            found[f"{stack}/blocks/relative"] = Place(f"{stack}.block.{{layer}}.layer.0.{table}", 1)
        else:
            found[f"{stack}/relative"] = Place(f"{stack}.block.0.layer.0.{table}", 1)
        for number, part in enumerate(["self", "cross", "mlp"] if stack == "decoder" else ["self", "mlp"]):
            found |= _sublayer(stack, part, f"{stack}.block.{{layer}}.layer.{number}", model.gated)
    return found


def settings_of(model: Model, kind: str) -> dict[str, Any]:
    """The fields of config.json for the model; `kind` is its model type."""
    feed_forward = {"gelu_tanh": "gelu"}.get(model.activation, model.activation) if model.gated else model.activation
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
        "feed_forward_proj": f"gated-{feed_forward}" if model.gated else THEIR_ACTIVATION[model.activation],
        "dropout_rate": model.dropout,
        "is_encoder_decoder": bool(model.decoder_layers),
        "tie_word_embeddings": model.tied,
        "scale_decoder_outputs": model.scale_logits,
    }


def kinds(model: Model) -> list[str]:
    """The model types that have this architecture, the likeliest first."""
    fits = (
        model.family in ("encoder-decoder", "encoder")
        and model.positions == "relative"
        and model.head == ("vocabulary" if model.decoder_layers else "none")
        and model.norm == "rms"
        and model.norm_position == "pre"
        and model.key_heads == model.heads
        and model.activation != ("gelu" if model.gated else "")
        and not any((model.bias, model.scale_attention, model.scale_embedding, model.embedding_norm))
        and not any((model.token_types, model.output_transform, model.output_bias, model.pooler))
    )
    if not fits:
        return []
    if model.relative_per_layer:
        return ["umt5"]
    return ["mt5", "t5"] if model.vocab >= MULTILINGUAL_ROWS and not model.scale_logits else ["t5", "mt5"]


def canonical(name: str, model: Model) -> str:
    """A tensor's present name, which is the only one it had."""
    return name


def copies(model: Model) -> dict[str, str]:
    """Tensors that older versions store twice -> what they are copies of."""
    found = {f"{stack}.embed_tokens.weight": "shared.weight" for stack in ("encoder", "decoder")}
    return found | ({"lm_head.weight": "shared.weight"} if model.tied else {})


def unused(name: str, model: Model) -> str | None:
    """Why a tensor has no place in the model, if that is known."""
    if name.endswith("EncDecAttention.relative_attention_bias.weight"):
        return "cross-attention has no positions; old checkpoints hold the table all the same"
    if model.head == "none" and name.startswith(("decoder.", "lm_head.")):
        return "the model is an encoder alone"
    return None


def _output(settings: Settings, kind: str, has_own: bool) -> tuple[bool, bool]:
    """Whether the output shares the embedding, and whether the last states are scaled.

    transformers 4 says both in tie_word_embeddings, which is true by default for T5 1.0 alone. 5 always writes true
    there and the second in scale_decoder_outputs, so that only the tensors show the first.
    """
    says = settings.get("tie_word_embeddings", kind == "t5")
    if kind == "t5" and "scale_decoder_outputs" not in settings.fields:
        return says, says
    return says and not has_own, settings.get("scale_decoder_outputs", False)


def _feed_forward(settings: Settings) -> tuple[bool, Any]:
    supported = ["relu", "gelu", "silu", "gated-gelu", "gated-silu", "gated-relu"]
    settings.require("feed_forward_proj", *supported, "gelu_new")
    name = settings.get("feed_forward_proj", "relu")
    if name == "gated-gelu":  # transformers takes the approximation here, as the released code does
        return True, "gelu_tanh"
    gated, plain = name.startswith("gated-"), name.removeprefix("gated-")
    return gated, "gelu_tanh" if plain == "gelu_new" else plain


def _sublayer(stack: str, part: str, where: str, gated: bool) -> dict[str, Place]:
    ours, found = f"{stack}/blocks", {}
    found[f"{ours}/norm_{part}/scale"] = Place(f"{where}.layer_norm.weight")
    if part == "mlp":
        kernels = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if gated else {"up": "wi", "down": "wo"}
        kernels = {name: f"DenseReluDense.{theirs}" for name, theirs in kernels.items()}
    else:
        attention = "SelfAttention" if part == "self" else "EncDecAttention"
        kernels = {"query": "q", "key": "k", "value": "v", "out": "o"}
        kernels = {name: f"{attention}.{theirs}" for name, theirs in kernels.items()}
    for name, theirs in kernels.items():
        found[f"{ours}/{part}/{name}"] = Place(f"{where}.{theirs}.weight", 2 if name == "out" else 1, True)
    return found
