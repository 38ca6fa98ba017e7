"""GPT-2, as transformers names and stores it: kernels `[in, out]`, with queries, keys and values side by side."""

from collections.abc import Collection
from typing import Any

from t5like.config import Model
from t5like.convert.decoders import of_another_head, prefixed
from t5like.convert.layout import TensorMapping, TensorMappings, layer_norm
from t5like.convert.settings import THEIR_ACTIVATION, Head, Settings, label_fields
from t5like.errors import UserError

CLASSES: dict[str, dict[Head, str]] = {
    "gpt2": {"vocabulary": "GPT2LMHeadModel", "sequence": "GPT2ForSequenceClassification", "none": "GPT2Model"}
}
"""Class of each head."""
BODY, SCORE = "transformer.", "score.weight"
ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
"""Second names of fields, as transformers' GPT2Config takes them."""
TIES: dict[str, str] = {}
TOKENIZERS: dict[str, str] = {}
DROPOUTS: dict[str, float | None] = {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}


def model_of(settings: Settings, names: Collection[str]) -> Model:
    """The model that a config.json and the names of the tensors beside it describe."""
    settings = settings.over({}, ALIASES)
    for name in ("scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        settings.require(name, False)
    settings.require("scale_attn_weights", True)
    head = settings.head(CLASSES["gpt2"])
    embed, heads = settings.size("n_embd", 768), settings.size("n_head", 12)
    if embed % heads:
        raise UserError(f"{settings.file}: n_embd={embed} is no multiple of n_head={heads}.")
    return Model(
        decoder_layers=settings.size("n_layer", 12),
        embed=embed,
        heads=heads,
        kv=embed // heads,
        mlp=settings.size("n_inner", 4 * embed),
        vocab=settings.size("vocab_size", 50_257),
        positions="learned",
        max_positions=settings.size("n_positions", 1024),
        norm="layer",
        norm_epsilon=settings.get("layer_norm_epsilon", 1e-5),
        activation=settings.activation("activation_function", "gelu_new"),
        gated=False,
        bias=True,
        tied=settings.get("tie_word_embeddings", True) and head == "vocabulary",
        scale_attention=True,
        embedding_deviation=settings.get("initializer_range", 0.02),
        head=head,
        head_bias=head != "sequence",
        **settings.labelled(head),
        pooling="first" if head == "vocabulary" else "last",
        dropout=settings.get("resid_pdrop", 0.1),
        dtype=settings.dtype,
    )


def tensor_mappings(model: Model) -> TensorMappings:
    """The tensor of each parameter. A bare GPT2Model is stored without the prefix of the one with a head."""
    body = "" if model.head == "none" else BODY
    layer, blocks = f"{body}h.{{layer}}", "decoder/blocks"
    found = {"embedding": TensorMapping(f"{body}wte.weight", 1), "positions": TensorMapping(f"{body}wpe.weight", 1)}
    found |= layer_norm("decoder/norm", f"{body}ln_f")
    found |= layer_norm(f"{blocks}/norm_self", f"{layer}.ln_1") | layer_norm(f"{blocks}/norm_mlp", f"{layer}.ln_2")
    for part, name in enumerate(("query", "key", "value")):
        found[f"{blocks}/self/{name}"] = TensorMapping(f"{layer}.attn.c_attn.weight", 1, part=part, parts=3)
        found[f"{blocks}/self/{name}_bias"] = TensorMapping(f"{layer}.attn.c_attn.bias", part=part, parts=3)
    for path, rows, theirs in (
        ("self/out", 2, "attn.c_proj"),
        ("mlp/up", 1, "mlp.c_fc"),
        ("mlp/down", 1, "mlp.c_proj"),
    ):
        found[f"{blocks}/{path}"] = TensorMapping(f"{layer}.{theirs}.weight", rows)
        found[f"{blocks}/{path}_bias"] = TensorMapping(f"{layer}.{theirs}.bias")
    if model.predicts_pieces and not model.tied:
        found["output"] = TensorMapping("lm_head.weight", 1, True)
    if model.head == "sequence":
        found["head/kernel"] = TensorMapping(SCORE, 1, True)
    return found


def settings_of(model: Model, kind: str) -> dict[str, Any]:
    """The fields of config.json for the model."""
    return {
        "n_embd": model.embed,
        "n_layer": model.decoder_layers,
        "n_head": model.heads,
        "n_inner": model.mlp,
        "n_positions": model.max_positions,
        "activation_function": THEIR_ACTIVATION.get(model.activation),
        "layer_norm_epsilon": model.norm_epsilon,
        "initializer_range": model.embedding_deviation,
        "resid_pdrop": model.dropout,
        "embd_pdrop": model.dropout,
        "attn_pdrop": model.dropout,
        "vocab_size": model.vocab,
        "tie_word_embeddings": model.tied or not model.predicts_pieces,
        **label_fields(model),
    }


def canonical(name: str, model: Model) -> str:
    """A tensor's present name: the released checkpoints lack the prefix."""
    return prefixed(name, BODY, model)


def copies(model: Model) -> dict[str, str]:
    """Tensors that older versions store twice -> the originals."""
    return {"lm_head.weight": f"{BODY}wte.weight"} if model.tied else {}


def repeated(model: Model) -> dict[str, str]:
    """Tensors that an export stores a second time: none."""
    return {}


def unused(name: str, model: Model) -> str | None:
    """The reason for which a tensor fills no parameter, if it is known."""
    if name.endswith((".attn.bias", ".attn.masked_bias")):
        return "the causal mask, a constant of the code"
    return of_another_head(name, model)
