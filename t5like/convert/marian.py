"""The encoder-decoder of 2017 (Vaswani et al.) as transformers keeps it, in its Marian models for translation.

Post-norm, sinusoidal positions, one embedding for encoder, decoder and output.
"""

from collections.abc import Collection
from typing import Any

from t5like.config import Model
from t5like.convert.layout import TensorMapping, TensorMappings, layer_norm, linear
from t5like.convert.settings import THEIR_ACTIVATION, Head, Settings
from t5like.errors import UserError

CLASSES: dict[str, dict[Head, str]] = {"marian": {"vocabulary": "MarianMTModel"}}
"""Class of each head."""
ALIASES = {
    "num_attention_heads": "encoder_attention_heads",
    "hidden_size": "d_model",
    "num_hidden_layers": "encoder_layers",
}
"""Second names of fields, as transformers' MarianConfig takes them."""
TIES: dict[str, str] = {}
TOKENIZERS: dict[str, str] = {}
DROPOUTS: dict[str, float | None] = {"dropout": 0.1, "attention_dropout": 0.0, "activation_dropout": 0.0}


def model_of(settings: Settings, names: Collection[str]) -> Model:
    """The model that a config.json and the names of the tensors beside it describe."""
    settings = settings.over({}, ALIASES)
    settings.head(CLASSES["marian"])
    for name in ("share_encoder_decoder_embeddings", "tie_word_embeddings", "static_position_embeddings"):
        settings.require(name, True)
    for name in ("normalize_before", "normalize_embedding", "add_final_layer_norm"):
        settings.require(name, False)
    embed, heads = settings.size("d_model", 1024), settings.size("encoder_attention_heads", 16)
    mlp = settings.size("encoder_ffn_dim", 4096)
    for name, default, same in (("decoder_attention_heads", 16, heads), ("decoder_ffn_dim", 4096, mlp)):
        settings.over({name: default}).require(name, same)
    if embed % heads:
        raise UserError(f"{settings.file}: d_model={embed} is no multiple of encoder_attention_heads={heads}.")
    return Model(
        encoder_layers=settings.size("encoder_layers", 12),
        decoder_layers=settings.size("decoder_layers", 12),
        embed=embed,
        heads=heads,
        kv=embed // heads,
        mlp=mlp,
        vocab=settings.size("vocab_size", 58_101),
        positions="sinusoidal",
        max_positions=settings.size("max_position_embeddings", 1024),
        norm="layer",
        norm_position="post",
        norm_epsilon=1e-5,
        activation=settings.activation("activation_function", "gelu"),
        gated=False,
        bias=True,
        tied=True,
        scale_attention=True,
        scale_embedding=settings.get("scale_embedding", False),
        embedding_deviation=settings.get("init_std", 0.02),
        output_bias=True,
        dropout=settings.get("dropout", 0.1),
        dtype=settings.dtype,
    )


def tensor_mappings(model: Model) -> TensorMappings:
    """The tensor of each parameter, or its tensors, one of each layer."""
    found: dict[str, TensorMapping] = {"embedding": TensorMapping("model.shared.weight", 1)}
    found["output_bias"] = TensorMapping("final_logits_bias", leading=1)
    for stack in ("encoder", "decoder"):
        blocks, layer = f"{stack}/blocks", f"model.{stack}.layers.{{layer}}"
        for part, theirs in {"self": "self_attn", "cross": "encoder_attn"}.items():
            if stack == "encoder" and part == "cross":
                continue
            found |= layer_norm(f"{blocks}/norm_{part}", f"{layer}.{theirs}_layer_norm")
            for name, kernel in {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}.items():
                found |= linear(f"{blocks}/{part}/{name}", f"{layer}.{theirs}.{kernel}", 2 if name == "out" else 1)
        found |= layer_norm(f"{blocks}/norm_mlp", f"{layer}.final_layer_norm")
        found |= linear(f"{blocks}/mlp/up", f"{layer}.fc1") | linear(f"{blocks}/mlp/down", f"{layer}.fc2")
    return found


def settings_of(model: Model, kind: str) -> dict[str, Any]:
    """The fields of config.json for the model."""
    both = {"attention_heads": model.heads, "ffn_dim": model.mlp}
    return {
        "d_model": model.embed,
        **{f"{stack}_{name}": value for stack in ("encoder", "decoder") for name, value in both.items()},
        "encoder_layers": model.encoder_layers,
        "decoder_layers": model.decoder_layers,
        "max_position_embeddings": model.max_positions or 1024,
        "activation_function": THEIR_ACTIVATION.get(model.activation),
        "scale_embedding": model.scale_embedding,
        "init_std": model.embedding_deviation,
        "dropout": model.dropout,
        "attention_dropout": model.dropout,
        "activation_dropout": model.dropout,
        "vocab_size": model.vocab,
        "decoder_vocab_size": model.vocab,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
        "is_encoder_decoder": True,
    }


def canonical(name: str, model: Model) -> str:
    """A tensor's present name, which is the only one it had."""
    return name


def copies(model: Model) -> dict[str, str]:
    """Tensors that older versions store twice -> the originals."""
    names = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
    return dict.fromkeys(names, "model.shared.weight")


def repeated(model: Model) -> dict[str, str]:
    """Tensors that an export stores a second time: none."""
    return {}


def unused(name: str, model: Model) -> str | None:
    """The reason for which a tensor fills no parameter, if it is known."""
    return "sines, which follow from config.json" if name.endswith("embed_positions.weight") else None
