"""Masks filled by an encoder: what `t5like fill` does."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from t5like.data.features import token_features
from t5like.data.vocabulary import Frame, Vocabulary
from t5like.errors import UserError
from t5like.infer.generate import check_length, require_pieces
from t5like.model.sharding import row_parts, shard
from t5like.model.transformer import Transformer


class Candidate(NamedTuple):
    """A piece that may stand for a mask."""

    piece: int
    text: str
    probability: float


def fill(
    params: Any, net: Transformer, vocabulary: Vocabulary, frame: Frame, text: str, top: int
) -> list[list[Candidate]]:
    """For each mask of the text in its frame, the likeliest pieces with their probabilities, best first.

    Raises:
      UserError: no mask in the text or in the vocabulary, a text longer than the model allows, or a model that is no
        encoder or predicts no pieces.
    """
    if net.model.family != "encoder":
        raise UserError(
            f"`t5like fill` is for encoders; this run has the family {net.model.family}: use `t5like generate`."
        )
    require_pieces(net.model)
    mask = vocabulary.written("mask")
    if vocabulary.role("mask") is None:
        raise UserError(
            f"The vocabulary of this run has no {mask}: `t5like fill` is for runs that were trained with it."
        )
    if mask not in text:
        raise UserError(f'The text has no {mask}: write one where a piece is wanted, as in "The {mask} sat".')
    ids = frame.around(vocabulary.encode(text))
    check_length(net.model, len(ids))
    return fill_tokens(params, net, vocabulary, ids, top)


def fill_tokens(
    params: Any, net: Transformer, vocabulary: Vocabulary, ids: Sequence[int], top: int
) -> list[list[Candidate]]:
    """The same for a text in numbers, of one segment."""
    places = np.flatnonzero(np.array(ids) == vocabulary.require("mask"))
    logits = jax.device_get(_logits(params, _features(ids, row_parts(net.rules)), net))[0, places]
    logits[:, vocabulary.size :] = -np.inf
    logits[:, np.flatnonzero(vocabulary.is_special)] = -np.inf
    probabilities = np.asarray(jax.nn.softmax(jnp.asarray(logits), axis=-1))
    best = np.argsort(-probabilities, axis=-1)[:, :top]
    return [
        [Candidate(int(piece), vocabulary.name(int(piece)), float(row[piece])) for piece in pieces]
        for row, pieces in zip(probabilities, best, strict=True)
    ]


@functools.partial(jax.jit, static_argnames="net")
def _logits(params: Any, features: dict[str, Array], net: Transformer) -> Float[Array, "batch length vocab"]:
    logits: Any = net.apply({"params": params}, features)
    return shard(logits, net.rules, None, None, None)  # whole on every process


def _features(ids: Sequence[int], rows: int) -> dict[str, Array]:
    return {name: jnp.asarray(x) for name, x in token_features("encoder", [[ids]] * rows).items()}
