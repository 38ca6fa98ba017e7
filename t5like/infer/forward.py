"""Vectors and scores of texts: passes of a network over texts of any number and any lengths.

Texts of about one length share a batch, which has 32, 64, 128, ... tokens and 1, 2, 4, ... rows: few programs serve all
calls, and what a text gets depends on no other text, but for rounding.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from t5like.config import Model
from t5like.data.features import token_features
from t5like.errors import UserError
from t5like.infer.batches import rounded, row_length
from t5like.model.heads import pool
from t5like.model.sharding import Params, row_parts, shard
from t5like.model.transformer import Transformer
from t5like.runs.opened import Restored

Stacks = Mapping[str, Sequence[int]]
"""The token ids that each stack is given for a text, in their frame."""
Pooling = Literal["first", "mean", "last"]
Output = Pooling | Literal["logits", "labels", "vector"]
"""Scores of the vocabulary, scores of labels, the vector that the head reads, or one pooled of the last states: of an
encoder where there is one."""


def outputs_of(
    restored: Restored, texts: Sequence[Stacks], output: Output, batch: int
) -> list[Float[np.ndarray, "*tokens scores"]]:
    """The output for each text, float32; what has a row for each token has those of the last stack's tokens.

    Raises:
      UserError: a text without tokens, or one longer than the model allows.
    """
    _check_lengths(restored.network.config.model, texts)
    net = restored.network.inference_net
    found = dict[int, np.ndarray]()
    for numbers in _batches(texts, batch):
        rows = rounded(len(numbers), batch)
        rows += -rows % row_parts(net.rules)
        full = [texts[n] for n in [*numbers, *[numbers[-1]] * (rows - len(numbers))]]
        outputs = np.asarray(jax.device_get(_outputs(restored.params, _features(full), net=net, output=output)))
        for number, row in zip(numbers, outputs, strict=False):
            found[number] = row[: len(list(texts[number].values())[-1])] if row.ndim == 2 else row
    return [found[number] for number in range(len(texts))]


def default_pooling(model: Model) -> Output:
    """The vector that the head reads, if it reads one of each text; else the last token's state of a decoder, which
    alone has seen the whole text, or the mean of an encoder's states, which serves better than that of its first token
    where nobody has trained this (Reimers & Gurevych 2019; Ni et al. 2021 for T5)."""
    if model.pools:
        return "vector"
    return "last" if model.family == "decoder" else "mean"


def _batches(texts: Sequence[Stacks], batch: int) -> Iterator[list[int]]:
    """The numbers of texts whose rows have the same lengths, at most `batch` together."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    for number, text in enumerate(texts):
        by_size.setdefault(tuple(row_length(len(ids)) for ids in text.values()), []).append(number)
    for _, numbers in sorted(by_size.items()):
        yield from (numbers[start : start + batch] for start in range(0, len(numbers), batch))


def _features(texts: Sequence[Stacks]) -> dict[str, Array]:
    """The features of a batch of texts whose rows have the same lengths."""
    features = dict[str, np.ndarray]()
    for stack, ids in texts[0].items():
        features |= token_features(stack, [[text[stack]] for text in texts], multiple=row_length(len(ids)))
    return {name: jnp.asarray(values) for name, values in features.items()}


def _check_lengths(model: Model, texts: Sequence[Stacks]) -> None:
    for number, text in enumerate(texts):
        lengths = [len(ids) for ids in text.values()]
        if not min(lengths):
            raise UserError(f"Text {number} (counted from 0) is empty: leave it out.")
        if model.max_positions is not None and max(lengths) > model.max_positions:
            raise UserError(
                f"Text {number} (counted from 0) has {max(lengths):,} tokens, but model.max_positions="
                f"{model.max_positions}: shorten it."
            )


@functools.partial(jax.jit, static_argnames=("net", "output"))
def _outputs(
    params: Params, features: dict[str, Array], *, net: Transformer, output: Output
) -> Float[Array, "rows *tokens scores"]:
    found = cast(Array, net.apply({"params": params}, features, output, method=_output)).astype(jnp.float32)
    return shard(found, net.rules, *[None] * found.ndim)  # whole on every process


def _output(net: Transformer, batch: dict[str, Array], output: Output) -> Array:
    match output:
        case "logits":
            return net(batch)
        case "labels":
            return cast(Array, net.scores(batch).labels)
        case "vector":
            vectors = net.embed(batch)
            return vectors.reshape(vectors.shape[0], -1)  # a text is one candidate where the head chooses among several
    stack = "encoder" if net.model.encoder_layers else "decoder"
    states = net.encode(batch) if stack == "encoder" else net.hidden(batch)
    return pool(states, batch[f"{stack}_segment_ids"], output)
