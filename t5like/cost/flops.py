"""The floating-point operations of a model: its matrix products, two for each multiplication and addition.

They are counted by where they are done, since a token of an encoder-decoder passes one stack alone and the keys and
values of cross-attention are made of the encoder's tokens: 6 x parameters x tokens would be wrong for it. Causal
scores count half, as a query sees half of the keys on average; `*_unhalved` is what an implementation that masks
computes. Training is three times the forward pass (two products for the gradients of each one), and what remat
computes again counts extra, as it is no use to the model.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from t5like.config import Config, Model


class Flops(NamedTuple):
    """Of the forward pass of some rows, by part."""

    projections: int
    """Queries, keys, values and outputs of attention."""
    feed_forward: int
    scores: int
    """Products of queries with keys and of weights with values; causal ones count half."""
    scores_unhalved: int
    output: int
    """Scores of the vocabulary, the heads, BERT's transform and pooler."""

    @property
    def forward(self) -> int:
        """All products of the forward pass."""
        return self.projections + self.feed_forward + self.scores + self.output

    @property
    def forward_unhalved(self) -> int:
        """The same with causal scores that are computed whole and masked."""
        return self.forward - self.scores + self.scores_unhalved

    @property
    def training(self) -> int:
        """Forward and backward pass, which MFU is stated with."""
        return 3 * self.forward

    @property
    def training_unhalved(self) -> int:
        return 3 * self.forward_unhalved


def step_flops(config: Config) -> Flops:
    """The forward pass of one step's batch; `.training` is the step."""
    candidates = max(config.data.objective.candidates, 1)
    return batch_flops(config.model, config.data.lengths, config.train.batch, candidates)


def batch_flops(
    model: Model, lengths: Mapping[Literal["encoder", "decoder"], int], rows: int, candidates: int = 1
) -> Flops:
    """The forward pass of `rows` rows with the tokens that `lengths` gives for `encoder` and `decoder`; a head that
    pools makes one vector of each or, to choose among `candidates`, so many."""
    encoder = lengths.get("encoder", 0) if model.encoder_layers else 0
    decoder = lengths.get("decoder", 0) if model.decoder_layers else 0
    parts = [(0, 0, 0, 0)]
    if encoder:
        parts.append(_layers(model, model.encoder_layers, encoder, causal=False))
    if decoder:
        parts.append(_layers(model, model.decoder_layers, decoder, causal=True))
    if encoder and decoder:
        parts.append(_cross_attention(model, decoder, encoder))
    projections, feed_forward, scores, unhalved = (rows * sum(column) for column in zip(*parts, strict=True))
    return Flops(projections, feed_forward, scores, unhalved, rows * _output(model, decoder or encoder, candidates))


def _layers(model: Model, depth: int, length: int, causal: bool) -> tuple[int, int, int, int]:
    """One row's self-attention and feed-forward layers in one stack."""
    m = model
    projections = 2 * length * _query_and_out(m) + 2 * length * _key_and_value(m)
    feed_forward = 2 * length * m.embed * m.mlp * (3 if m.gated else 2)
    scores = _scores(m, length, length)
    return depth * projections, depth * feed_forward, depth * scores // (2 if causal else 1), depth * scores


def _cross_attention(model: Model, length: int, memory: int) -> tuple[int, int, int, int]:
    """One row's cross-attention: queries of the decoder's `length`, keys of the encoder's `memory`."""
    projections = 2 * length * _query_and_out(model) + 2 * memory * _key_and_value(model)
    scores, depth = _scores(model, length, memory), model.decoder_layers
    return depth * projections, 0, depth * scores, depth * scores


def _query_and_out(m: Model) -> int:
    return 2 * m.embed * m.heads * m.kv


def _key_and_value(m: Model) -> int:
    return 2 * m.embed * m.key_heads * m.kv


def _scores(m: Model, queries: int, keys: int) -> int:
    """Queries with keys, and weights with values; heads that share keys have products of their own."""
    return 4 * queries * keys * m.heads * m.kv


def _output(m: Model, length: int, candidates: int) -> int:
    """Products of one row's last hidden states of the stack that predicts: with the vocabulary, and in heads."""
    pieces = m.embed * m.vocab * length if m.predicts_pieces else 0
    transform = m.embed * m.embed * length if m.output_transform else 0
    pooled = m.embed * m.embed if m.pooler else 0
    mean = m.embed * length if m.pools and m.pooling == "mean" else 0
    labels = m.label_scores * m.embed * (length if m.head in ("token", "span") else 1)
    return 2 * (pieces + transform + candidates * (pooled + mean + labels))
