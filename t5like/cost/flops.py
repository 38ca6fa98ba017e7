"""The floating-point operations of a model: its matrix products, two for each multiplication and addition.

They are counted by where they are done, since a token of an encoder-decoder passes one stack alone and the keys and
values of cross-attention are made of the encoder's tokens: 6 x parameters x tokens would be wrong for it. Causal
scores count half, as a query sees half of the keys on average; `*_unhalved` is what an implementation that masks
computes. Training is three times the forward pass (two products for the gradients of each one), but for matrices that
adapters leave as they are, which have no gradient: two times. What remat computes again counts extra, as it is no use
to the model.
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
    adapters: int = 0
    frozen: int = 0
    """Products of all parts above with matrices that have no gradient."""

    @property
    def forward(self) -> int:
        """All products of the forward pass."""
        return self.projections + self.feed_forward + self.scores + self.output + self.adapters

    @property
    def forward_unhalved(self) -> int:
        """The same with causal scores that are computed whole and masked."""
        return self.forward - self.scores + self.scores_unhalved

    @property
    def training(self) -> int:
        """Forward and backward pass, which MFU is stated with."""
        return 3 * self.forward - self.frozen

    @property
    def training_unhalved(self) -> int:
        return 3 * self.forward_unhalved - self.frozen


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
    output = rows * _output(model, decoder or encoder, candidates)
    found = Flops(projections, feed_forward, scores, unhalved, output, rows * _adapters(model, encoder, decoder))
    if not model.lora.rank:
        return found
    # Heads are trained beside adapters and their products few: the scores of the vocabulary are not trained.
    pieces = rows * 2 * model.embed * model.vocab * (decoder or encoder) if model.predicts_pieces else 0
    return found._replace(frozen=projections + feed_forward + pieces)


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


def _adapters(model: Model, encoder: int, decoder: int) -> int:
    """One row's products with adapters: two for each target, of its inputs with A and of these with B."""
    m, lora = model, model.lora
    sizes: dict[str, int] = dict.fromkeys(("query", "out"), m.embed + m.heads * m.kv)
    sizes |= dict.fromkeys(("key", "value"), m.embed + m.key_heads * m.kv)
    sizes |= dict.fromkeys(("gate", "up", "down"), m.embed + m.mlp)

    def of(*names: str) -> int:
        return sum(sizes[name] for name in names if name in lora.targets)

    own = m.encoder_layers * encoder + m.decoder_layers * decoder
    cross = m.decoder_layers * (decoder * of("query", "out") + encoder * of("key", "value")) if encoder else 0
    return 2 * lora.rank * (own * of(*sizes) + cross)


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
