"""T5X's own checkpoints: the model that one is of, and the tensors that hold our parameters.

Unrolled models (T5X's examples/t5: T5, mT5, ByT5) have tensors for each layer, heads joined, and a relative bias that a
stack shares. Scanned ones (examples/scalable_t5, umT5) have all layers in one tensor, along axis 1, heads apart, and a
relative bias in each layer, which `model.relative_per_layer` is. The tokenizer is not in a checkpoint.

Names, shapes and files follow the sources of t5x and of transformers' converters. None of Google's checkpoints was at
hand: what was tried is written by the tests, after those sources, and by Orbax 0.12.8. T5X's mixtures of experts,
LongT5 and decoder-only models are refused, by the names of their tensors.
"""

import ast
import dataclasses
import re
from pathlib import Path
from typing import Any, TypeVar

from t5like.config import Model
from t5like.convert.layout import TensorMapping, TensorMappings
from t5like.convert.t5x_files import T5XTensors, is_t5x, open_t5x
from t5like.errors import UserError

__all__ = ["T5XTensors", "is_t5x", "open_t5x", "t5x_mappings", "t5x_model"]

EMBEDDING, LOGITS = "token_embedder/embedding", "decoder/logits_dense/kernel"
STACKS = ("encoder", "decoder")
ACTIVATIONS = {"relu": "relu", "gelu": "gelu_tanh", "silu": "silu", "swish": "silu"}
"""Flax's names, which T5X took, and ours; Flax's gelu is the approximation."""
UNKNOWN = "a reference"
"""Value of a gin setting that is no literal."""
Value = TypeVar("Value")


def t5x_model(tensors: T5XTensors, gin: Path | None = None) -> Model:
    """The model by the names and shapes of its tensors, with the activation and the rate of dropout of `gin`, T5X's
    config of the run, whose sizes are compared with the checkpoint's.

    Without it the activation is T5's own: gelu where gated (T5 1.1, mT5, ByT5), else relu (T5 1.0).

    Raises:
      UserError: the tensors are not those of T5's encoder and decoder, or contradict each other or `gin`.
    """
    names = set(tensors.names())
    vocab, embed = _need(tensors, EMBEDDING, 2)
    depths = {stack: _depth(tensors, stack, embed) for stack in STACKS}
    heads, kv, buckets = _same(tensors, "heads, kv and buckets", {stack: _heads(tensors, stack) for stack in STACKS})
    own_bias = {stack: _layer(stack, "relpos_bias/rel_embedding", names) in names for stack in STACKS}
    gated = _layer("encoder", "mlp/wi_0/kernel", names) in names
    tied = LOGITS not in names
    model = Model(
        encoder_layers=depths["encoder"],
        decoder_layers=depths["decoder"],
        embed=embed,
        heads=heads,
        kv=kv,
        mlp=_need(tensors, _layer("encoder", "mlp/wo/kernel", names))[0],
        vocab=vocab,
        relative_buckets=buckets,
        relative_per_layer=_same(tensors, "relative biases in each layer", own_bias),
        activation="gelu_tanh" if gated else "relu",
        gated=gated,
        tied=tied,
        scale_logits=tied,
    )
    return model if gin is None else _with_gin(model, gin)


def t5x_mappings(model: Model, tensors: T5XTensors) -> TensorMappings:
    """The tensor of each parameter of a T5: one of each layer or, in a scanned checkpoint, one of all layers.

    Raises:
      UserError: the checkpoint has tensors that none of our parameters is filled from.
    """
    names = set(tensors.names())
    mappings = {"embedding": TensorMapping(EMBEDDING, rows=1)}
    if not model.tied:
        mappings["output"] = TensorMapping(LOGITS, rows=1)
    depths = {"encoder": model.encoder_layers, "decoder": model.decoder_layers}
    used = {mapping.name for mapping in mappings.values()}
    for stack, depth in depths.items():
        own = _stack_mappings(stack, model, names)
        mappings |= own
        used |= {mapping.name.format(layer=layer) for mapping in own.values() for layer in range(depth)}
    if unknown := sorted(names - used):
        raise UserError(
            f"{tensors.folder} has {len(unknown)} tensors that a T5 has no place for: {', '.join(unknown[:5])}"
            f"{' and so on' if len(unknown) > 5 else ''}."
        )
    return mappings


def _stack_mappings(stack: str, model: Model, names: set[str]) -> dict[str, TensorMapping]:
    """Maps a stack to `encoder/layers_{layer}/attention/query/kernel` and so on, one of each layer, or to scanned ones,
    `encoder/encoder/attention/query/kernel`, with all layers along axis 1."""
    prefix, blocks = _prefix(stack, names), f"{stack}/blocks"
    axis = 1 if prefix == f"{stack}/{stack}" else None
    attention, norms = {"self": "attention"}, {"self": "attention", "mlp": "mlp"}
    if stack == "decoder":
        attention = {"self": "self_attention", "cross": "encoder_decoder_attention"}
        norms = {"self": "self_attention", "cross": "cross_attention", "mlp": "mlp"}
    mlp = {"gate": "wi_0", "up": "wi_1", "down": "wo"} if model.gated else {"up": "wi", "down": "wo"}

    mappings = {f"{stack}/norm/scale": TensorMapping(f"{stack}/{stack}_norm/scale")}
    for ours, theirs in attention.items():
        for name, rows in {"query": 1, "key": 1, "value": 1, "out": 2}.items():
            kernel = f"{prefix}/{theirs}/{name}/kernel"
            mappings[f"{blocks}/{ours}/{name}"] = TensorMapping(kernel, rows=rows, layer_axis=axis)
    for ours, theirs in mlp.items():
        mappings[f"{blocks}/mlp/{ours}"] = TensorMapping(f"{prefix}/mlp/{theirs}/kernel", rows=1, layer_axis=axis)
    for ours, theirs in norms.items():
        mappings[f"{blocks}/norm_{ours}/scale"] = TensorMapping(
            f"{prefix}/pre_{theirs}_layer_norm/scale", layer_axis=axis
        )
    if model.relative_per_layer:
        table = f"{prefix}/relpos_bias/rel_embedding"
        mappings[f"{blocks}/relative"] = TensorMapping(table, rows=1, transposed=True, layer_axis=axis)
    else:
        mappings[f"{stack}/relative"] = TensorMapping(f"{stack}/relpos_bias/rel_embedding", rows=1, transposed=True)
    return mappings


def _prefix(stack: str, names: set[str]) -> str:
    """The beginning of the names in a stack's layers; `{layer}` in it where each layer has its own tensors."""
    scanned = any(name.startswith(f"{stack}/{stack}/") for name in names)
    return f"{stack}/{stack}" if scanned else f"{stack}/layers_{{layer}}"


def _layer(stack: str, name: str, names: set[str]) -> str:
    """The name of a tensor in the first layer, or in all."""
    return f"{_prefix(stack, names)}/{name}".format(layer=0)


def _need(tensors: T5XTensors, name: str, rank: int | None = None) -> tuple[int, ...]:
    """The shape of a tensor that every T5 has."""
    if name not in tensors.names():
        raise UserError(f"{tensors.folder} has no tensor {name!r}: it is not a checkpoint of T5's encoder and decoder.")
    shape = tensors.shape(name)
    if rank is not None and len(shape) != rank:
        raise UserError(f"The tensor {name!r} of {tensors.folder} has the shape {shape}, not {rank} dimensions.")
    return shape


def _depth(tensors: T5XTensors, stack: str, embed: int) -> int:
    """The number of layers of a stack."""
    names = set(tensors.names())
    norm = _layer(stack, "pre_mlp_layer_norm/scale", names)
    shape = _need(tensors, norm)
    if "{layer}" in _prefix(stack, names):
        return 1 + max(int(found[1]) for name in names if (found := re.match(rf"{stack}/layers_(\d+)/", name)))
    if len(shape) != 2 or shape[0] != embed:
        raise UserError(
            f"The tensor {norm!r} of {tensors.folder} has the shape {shape}, not {(embed, 'layers')}: only models that "
            "T5X scanned with param_scan_axis=1, its default, are read."
        )
    return shape[1]


def _heads(tensors: T5XTensors, stack: str) -> tuple[int, int, int]:
    """Heads, width of a head, and buckets of the relative bias of a stack."""
    names = set(tensors.names())
    attention = "attention" if stack == "encoder" else "self_attention"
    query = _layer(stack, f"{attention}/query/kernel", names)
    own, shared = _layer(stack, "relpos_bias/rel_embedding", names), f"{stack}/relpos_bias/rel_embedding"
    heads, *_, buckets = _need(tensors, own if own in names else shared)
    joined, stored = _need(tensors, query)[-1], tensors.stored_shape(query)
    apart = stored[-1] != joined
    if joined % heads or (apart and stored[-2] != heads):
        raise UserError(
            f"The tensor {query!r} of {tensors.folder} has the shape {stored}, but the relative bias is one of {heads} "
            "heads: they do not belong together."
        )
    return heads, joined // heads, buckets


def _same(tensors: T5XTensors, what: str, found: dict[str, Value]) -> Value:
    """The value that both stacks have.

    Raises:
      UserError: they differ.
    """
    encoder, decoder = found.values()
    if encoder != decoder:
        raise UserError(
            f"{tensors.folder} has {encoder} {what} in its encoder and {decoder} in its decoder: T5 has the same in "
            "both."
        )
    return encoder


def _with_gin(model: Model, gin: Path) -> Model:
    """The model with the activation and the dropout of a config, whose sizes must be the model's."""
    settings = _gin_settings(gin)
    known = {
        "vocab_size": model.vocab,
        "emb_dim": model.embed,
        "num_heads": model.heads,
        "num_encoder_layers": model.encoder_layers,
        "num_decoder_layers": model.decoder_layers,
        "head_dim": model.kv,
        "mlp_dim": model.mlp,
        "logits_via_embedding": model.tied,
    }
    for name, value in known.items():
        if settings.get(name, value) not in (value, UNKNOWN):
            raise UserError(
                f"{gin} sets T5Config.{name} = {settings[name]!r}, but the checkpoint has {value!r}: they do not "
                "belong together."
            )
    changes: dict[str, Any] = {}
    if settings.get("dropout_rate", UNKNOWN) != UNKNOWN:
        rate = settings["dropout_rate"]
        if not isinstance(rate, int | float):
            raise UserError(f"{gin} sets T5Config.dropout_rate = {rate!r}, which is no number: give T5X's config.gin.")
        changes["dropout"] = float(rate)
    if "mlp_activations" in settings:
        named = settings["mlp_activations"]
        first, *rest = named if isinstance(named, tuple | list) and named else [""]
        if not isinstance(first, str) or first not in ACTIVATIONS or rest != ["linear"] * model.gated:
            raise UserError(
                f"{gin} sets T5Config.mlp_activations = {named!r}, but one of "
                f"{', '.join(ACTIVATIONS)} is possible, {'with' if model.gated else 'without'} 'linear' after it."
            )
        changes["activation"] = ACTIVATIONS[first]
    return dataclasses.replace(model, **changes)


def _gin_settings(gin: Path) -> dict[str, Any]:
    """The settings of T5X's T5Config in a gin file, by name; a %MACRO of the file itself is looked up.

    network.T5Config.emb_dim = 512        one a line
    network.T5Config:                     or a block
      mlp_dim = %WIDTH                    with WIDTH = 2048 anywhere
      dropout_rate = @rate()              a reference: UNKNOWN
    """
    if not gin.is_file():
        raise UserError(f"{gin} is not a file: give T5X's config.gin.")
    texts, macros, in_block = dict[str, str](), dict[str, str](), False
    try:
        content = gin.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{gin} is not valid UTF-8 at byte {error.start}: give T5X's config.gin.") from None
    for line in content.splitlines():
        line = line.split("#")[0].rstrip()
        if line and not line.startswith(" "):
            in_block = re.fullmatch(r"(?:[\w./]*\.)?T5Config:", line) is not None
        if found := re.fullmatch(r" +(\w+) *= *(.+)" if in_block else r"(?:[\w./]*\.)?T5Config\.(\w+) *= *(.+)", line):
            texts[found[1]] = found[2]
        elif found := re.fullmatch(r"(\w+) *= *(.+)", line):
            macros[found[1]] = found[2]
    return {name: _value(macros.get(text[1:], text) if text.startswith("%") else text) for name, text in texts.items()}


def _value(text: str) -> Any:
    """A literal, or UNKNOWN for a reference that only gin could follow."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return UNKNOWN
