"""Heads on the stacks: BERT's transform before the output, its pooler, and scores of rows, tokens or candidates.

A head belongs to a model by `model.head`; the scores of the vocabulary themselves are in `transformer.py`, since they
may share the embedding. Labels of a pair of sentences are, as in BERT: the second follows the first, or it does not.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from t5like.config import Model, Rules
from t5like.model import layers
from t5like.model.blocks import ONES, ZEROS, maybe_drop
from t5like.model.layers import Hidden
from t5like.model.projection import projection
from t5like.model.sharding import param

ABSENT = -1e10
"""The score of a candidate that a row lacks, or of a token of padding in a span, of which the softmax is 0."""


class Scores(NamedTuple):
    """Scores of the vocabulary and of labels, float32; None where the head has no such thing.

    `logits` are `[batch, length, vocab]`. `labels` are `[batch, labels]` or, of the heads token and span, `[batch,
    length, labels]`, of the head choice `[batch, candidates]`, where those that a row lacks have `ABSENT`; a model
    without a head has its pooled embedding there, `[batch, embed]`.
    """

    logits: Array | None
    labels: Array | None


class LMHeadInputs(NamedTuple):
    """The parts of logits, `x @ matrix + bias`: hidden states, `[embed, vocab]` and `[vocab]`, the latter float32."""

    x: Any
    matrix: Any
    bias: Any


def pool(x: Hidden, segments: Int[Array, "batch length"], pooling: str) -> Float[Array, "batch embed"]:
    """One vector for each row: the first token's, the last real one's, or the mean of the real ones.

    Tokens of segment 0 are padding. A row has one segment; of several, see `pool_segments`.
    """
    real = segments > 0
    if pooling == "first":
        return x[:, 0]
    count = jnp.maximum(jnp.sum(real, axis=1, dtype=jnp.int32), 1)
    if pooling == "last":
        return jnp.take_along_axis(x, (count - 1)[:, None, None], axis=1)[:, 0]
    total = jnp.einsum("bl,bld->bd", real.astype(x.dtype), x, preferred_element_type=jnp.float32)
    return (total / count[:, None].astype(jnp.float32)).astype(x.dtype)


def pool_segments(
    x: Hidden, segments: Int[Array, "batch length"], count: int, pooling: str
) -> Float[Array, "batch segments embed"]:
    """One vector for each of the first `count` segments of a row, as `pool` makes of the row; of one that the row lacks
    it means nothing.

    Of segments 1 1 2 2 2 0 the first tokens are those at 0 and 2, the last ones those at 1 and 4.
    """
    own = _tokens_of(segments, count)
    if pooling == "mean":
        total = jnp.einsum("bsl,bld->bsd", own.astype(x.dtype), x, preferred_element_type=jnp.float32)
        size = jnp.maximum(jnp.sum(own, axis=2, dtype=jnp.int32), 1)
        return (total / size[:, :, None].astype(jnp.float32)).astype(x.dtype)
    first = jnp.argmax(own, axis=2)
    last = first + jnp.maximum(jnp.sum(own, axis=2, dtype=first.dtype), 1) - 1
    return jnp.take_along_axis(x, (first if pooling == "first" else last)[:, :, None], axis=1)


def of_candidates(
    scores: Float[Array, "batch candidates 1"], segments: Int[Array, "batch length"]
) -> Float[Array, "batch candidates"]:
    """The scores of the candidates that are segments of their rows, and `ABSENT` for those that a row lacks."""
    there = jnp.any(_tokens_of(segments, scores.shape[1]), axis=2)
    return jnp.where(there, scores[:, :, 0], ABSENT)


def _tokens_of(segments: Int[Array, "batch length"], count: int) -> Bool[Array, "batch segments length"]:
    """True for the tokens of each of the first `count` segments."""
    numbers = jnp.arange(1, count + 1, dtype=segments.dtype)
    return segments[:, None, :] == numbers[None, :, None]


class Transform(nn.Module):
    """BERT's projection, activation and norm between the last state and the output (Devlin et al. 2019)."""

    model: Model
    rules: Rules

    @nn.compact
    def __call__(self, x: Hidden) -> Hidden:
        m, rules = self.model, self.rules
        dense = projection(self, "kernel", rules, "bld,dp->blp", (m.embed, m.embed), ("embed", "pooled"))
        y = layers.activate(dense.with_bias(self, "bias")(x), m.activation)
        scale = param(self, "scale", rules, (m.embed,), ("norm",), ONES)
        if m.norm == "rms":
            return layers.rms_norm(y, scale, m.norm_epsilon)
        norm_bias = param(self, "norm_bias", rules, (m.embed,), ("norm",), ZEROS)
        return layers.layer_norm(y, scale, norm_bias, m.norm_epsilon)


class Pooler(nn.Module):
    """BERT's pooler: a projection and a tanh of the pooled state."""

    model: Model
    rules: Rules

    @nn.compact
    def __call__(self, x: Float[Array, "batch *segments embed"]) -> Float[Array, "batch *segments embed"]:
        m = self.model
        dense = projection(self, "kernel", self.rules, "...d,dp->...p", (m.embed, m.embed), ("embed", "pooled"))
        return jnp.tanh(dense.with_bias(self, "bias")(x))


class Head(nn.Module):
    """Float32 scores of each row, of each token or of each candidate."""

    model: Model
    rules: Rules

    @nn.compact
    def __call__(self, x: Float[Array, "batch *length embed"]) -> Float[Array, "batch *length labels"]:
        m = self.model
        shape, axes = (m.embed, m.label_scores), ("pooled", "labels")
        scores = projection(self, "kernel", self.rules, "...d,dc->...c", shape, axes)
        if m.head_bias:
            scores = scores.with_bias(self, "bias")
        # Dropout has one mask for the tokens of a row, thus one for each row.
        x = maybe_drop(self, x[:, None] if x.ndim == 2 else x, m.dropout).reshape(x.shape)
        return scores(x, wide=True)
