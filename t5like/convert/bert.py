"""BERT with each of its heads, as transformers names and stores it."""

from collections.abc import Collection
from typing import Any

from t5like.config import Model
from t5like.convert.layout import TensorMapping, TensorMappings, layer_norm, linear
from t5like.convert.settings import THEIR_ACTIVATION, Head, Settings, label_fields
from t5like.errors import UserError

CLASSES: dict[str, dict[Head, str]] = {
    "bert": {
        "next_sentence": "BertForPreTraining",
        "vocabulary": "BertForMaskedLM",
        "sequence": "BertForSequenceClassification",
        "token": "BertForTokenClassification",
        "span": "BertForQuestionAnswering",
        "choice": "BertForMultipleChoice",
        "none": "BertModel",
    }
}
"""Class of each head."""
POOLED = ("next_sentence", "sequence", "choice", "none")
PREDICTIONS, BODY = "cls.predictions", "bert."
ALIASES: dict[str, str] = {}
TIES: dict[str, str] = {}
TOKENIZERS = {"bert": "BertTokenizer"}
"""Class of the tokenizer where a folder names none."""
DROPOUTS: dict[str, float | None] = {
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,
}


def model_of(settings: Settings, names: Collection[str]) -> Model:
    """The model that a config.json and the names of the tensors beside it describe."""
    settings = settings.over({})
    settings.require("position_embedding_type", "absolute")
    settings.require("is_decoder", False)
    settings.require("add_cross_attention", False)
    head = _head(settings, names)
    embed, heads = settings.size("hidden_size", 768), settings.size("num_attention_heads", 12)
    if embed % heads:
        raise UserError(f"{settings.file}: hidden_size={embed} is no multiple of num_attention_heads={heads}.")
    pieces = head in ("vocabulary", "next_sentence")
    return Model(
        encoder_layers=settings.size("num_hidden_layers", 12),
        embed=embed,
        heads=heads,
        kv=embed // heads,
        mlp=settings.size("intermediate_size", 3072),
        vocab=settings.size("vocab_size", 30_522),
        positions="learned",
        max_positions=settings.size("max_position_embeddings", 512),
        norm="layer",
        norm_position="post",
        norm_epsilon=settings.get("layer_norm_eps", 1e-12),
        embedding_norm=True,
        activation=settings.activation("hidden_act", "gelu"),
        gated=False,
        bias=True,
        tied=pieces and settings.get("tie_word_embeddings", True),
        scale_attention=True,
        embedding_deviation=settings.get("initializer_range", 0.02),
        token_types=settings.size("type_vocab_size", 2),
        head=head,
        **settings.labelled(head),
        pooler=head in POOLED,
        output_transform=pieces,
        output_bias=pieces,
        dropout=settings.get("hidden_dropout_prob", 0.1),
        dtype=settings.dtype,
    )


def tensor_mappings(model: Model) -> TensorMappings:
    """The tensor of each parameter. A bare BertModel is stored without the prefix of those with heads."""
    body = "" if model.head == "none" else BODY
    embeddings, layer, blocks = f"{body}embeddings", f"{body}encoder.layer.{{layer}}", "encoder/blocks"
    found = {
        "embedding": TensorMapping(f"{embeddings}.word_embeddings.weight", 1),
        "positions": TensorMapping(f"{embeddings}.position_embeddings.weight", 1),
        "token_types": TensorMapping(f"{embeddings}.token_type_embeddings.weight", 1),
    }
    found |= layer_norm("embedding_norm", f"{embeddings}.LayerNorm")
    for name in ("query", "key", "value"):
        found |= linear(f"{blocks}/self/{name}", f"{layer}.attention.self.{name}")
    found |= linear(f"{blocks}/self/out", f"{layer}.attention.output.dense", rows=2)
    found |= layer_norm(f"{blocks}/norm_self", f"{layer}.attention.output.LayerNorm")
    found |= linear(f"{blocks}/mlp/up", f"{layer}.intermediate.dense")
    found |= linear(f"{blocks}/mlp/down", f"{layer}.output.dense")
    found |= layer_norm(f"{blocks}/norm_mlp", f"{layer}.output.LayerNorm")
    return found | _head_mappings(model, body)


def settings_of(model: Model, kind: str) -> dict[str, Any]:
    """The fields of config.json for the model."""
    return {
        "hidden_size": model.embed,
        "num_hidden_layers": model.encoder_layers,
        "num_attention_heads": model.heads,
        "intermediate_size": model.mlp,
        "hidden_act": THEIR_ACTIVATION.get(model.activation),
        "hidden_dropout_prob": model.dropout,
        "attention_probs_dropout_prob": model.dropout,
        "max_position_embeddings": model.max_positions,
        "type_vocab_size": model.token_types,
        "initializer_range": model.embedding_deviation,
        "layer_norm_eps": model.norm_epsilon,
        "position_embedding_type": "absolute",
        "vocab_size": model.vocab,
        "tie_word_embeddings": model.tied or not model.predicts_pieces,
        **label_fields(model),
    }


def canonical(name: str, model: Model) -> str:
    """A tensor's present name: TensorFlow's gamma and beta are old, and the prefix comes and goes."""
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    if model.head == "none":
        return name.removeprefix(BODY)
    bare = name.startswith(("embeddings.", "encoder.", "pooler."))
    return BODY + name if bare else name


def copies(model: Model) -> dict[str, str]:
    """Tensors that older versions store twice -> the originals.

    An untied model takes the bias of its output layer, which older versions store under the other name alone.
    """
    if not model.predicts_pieces:
        return {}
    bias, own = f"{PREDICTIONS}.bias", f"{PREDICTIONS}.decoder.bias"
    if not model.tied:
        return {bias: own}
    return {own: bias, f"{PREDICTIONS}.decoder.weight": f"{BODY}embeddings.word_embeddings.weight"}


def repeated(model: Model) -> dict[str, str]:
    """Tensors that an export stores a second time, under the name that other versions read -> the first."""
    return {} if model.tied else copies(model)


def unused(name: str, model: Model) -> str | None:
    """The reason for which a tensor fills no parameter, if it is known."""
    if name.endswith(("embeddings.position_ids", "embeddings.token_type_ids")):
        return "a constant of the code, not a weight"
    if model.predicts_pieces and not model.tied and name == f"{PREDICTIONS}.bias":
        return "an untied model has its bias in cls.predictions.decoder.bias"
    others = ("cls.", f"{BODY}pooler.", "classifier.", "qa_outputs.")
    if name.startswith(others):
        return f"{CLASSES['bert'][model.head]}, which config.json names, has no such head"
    return None


def _head(settings: Settings, names: Collection[str]) -> Head:
    """The head of the class that config.json names, or else the one that the tensors are of."""
    if settings.architecture:
        return settings.head(CLASSES["bert"])
    if "cls.seq_relationship.weight" in names:
        return "next_sentence"
    return "vocabulary" if f"{PREDICTIONS}.bias" in names else "none"


def _head_mappings(model: Model, body: str) -> dict[str, TensorMapping]:
    found: dict[str, TensorMapping] = {}
    if model.pooler:
        found |= _dense("pooler", f"{body}pooler.dense")
    if model.predicts_pieces:
        found |= _dense("transform", f"{PREDICTIONS}.transform.dense")
        found["transform/scale"] = TensorMapping(f"{PREDICTIONS}.transform.LayerNorm.weight")
        found["transform/norm_bias"] = TensorMapping(f"{PREDICTIONS}.transform.LayerNorm.bias")
        found["output_bias"] = TensorMapping(f"{PREDICTIONS}.bias" if model.tied else f"{PREDICTIONS}.decoder.bias")
        if not model.tied:
            found["output"] = TensorMapping(f"{PREDICTIONS}.decoder.weight", 1, True)
    labels = {"next_sentence": "cls.seq_relationship", "sequence": "classifier", "token": "classifier"}
    labels |= {"span": "qa_outputs", "choice": "classifier"}
    return found | (_dense("head", labels[model.head]) if model.head in labels else {})


def _dense(path: str, theirs: str) -> dict[str, TensorMapping]:
    return {
        f"{path}/kernel": TensorMapping(f"{theirs}.weight", 1, True),
        f"{path}/bias": TensorMapping(f"{theirs}.bias"),
    }
