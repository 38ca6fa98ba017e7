"""The likeliest tokens of masked positions, by an encoder: what `t5like fill` does."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from t5like.data.features import token_features
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.infer.generate import check_length, require_pieces
from t5like.model.network import Network
from t5like.model.sharding import Params, row_parts, shard
from t5like.model.transformer import Logits, Transformer
from t5like.runs.opened import Restored


class Candidate(NamedTuple):
    """A token that may stand for a mask: its id, its text and its probability."""

    piece: int
    text: str
    probability: float


def fill(restored: Restored, text: str, top: int) -> list[list[Candidate]]:
    """The `top` likeliest tokens for each mask of the text in the run's frame, best first.

    Raises:
      UserError: no mask in the text or in the vocabulary, a text longer than the model allows, or a model that is no
        encoder or predicts no pieces.
    """
    model, vocabulary = restored.config.model, restored.vocabulary
    if model.family != "encoder":
        raise UserError(
            f"`t5like fill` is for encoders; this run has the family {model.family}: use `t5like generate`."
        )
    require_pieces(model)
    mask = vocabulary.written("mask")
    if vocabulary.role("mask") is None:
        raise UserError(
            f"The vocabulary of this run has no {mask}: `t5like fill` is for runs that were trained with it."
        )
    if mask not in text:
        raise UserError(f'The text has no {mask}: write one where a piece is wanted, as in "The {mask} sat".')
    ids = restored.frame.around(vocabulary.encode(text))
    check_length(model, len(ids))
    return fill_tokens(restored.params, restored.network, vocabulary, ids, top)


def fill_tokens(
    params: Params, network: Network, vocabulary: Vocabulary, ids: Sequence[int], top: int
) -> list[list[Candidate]]:
    """The same for the token ids of one segment.

    The likeliest are chosen among tokens that may stand in a text: no special ones, and no rows without a piece.
    """
    net = network.inference_net
    positions = np.flatnonzero(np.array(ids) == vocabulary.require("mask"))
    # One row computes, but the rows of a batch are split over devices: as many copies as it takes.
    features = token_features("encoder", [[ids]] * row_parts(net.rules))
    logits = jax.device_get(_logits(params, {n: jnp.asarray(x) for n, x in features.items()}, net))[0, positions]
    logits[:, vocabulary.size :] = -np.inf
    logits[:, np.flatnonzero(vocabulary.is_special)] = -np.inf
    probabilities = np.asarray(jax.nn.softmax(jnp.asarray(logits), axis=-1))
    best = np.argsort(-probabilities, axis=-1)[:, :top]
    return [
        [Candidate(int(piece), vocabulary.name(int(piece)), float(row[piece])) for piece in pieces]
        for row, pieces in zip(probabilities, best, strict=True)
    ]


@functools.partial(jax.jit, static_argnames="net")
def _logits(params: Params, features: dict[str, Array], net: Transformer) -> Logits:
    logits: Logits = net.apply({"params": params}, features)  # pyright: ignore[reportAssignmentType]
    return shard(logits, net.rules, None, None, None)  # whole on every process
