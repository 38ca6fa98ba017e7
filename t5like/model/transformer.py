"""Encoder-decoder, encoder-only and decoder-only Transformers: one module, told apart by which stacks have layers.

`Transformer.__call__` takes a batch of features to logits, `scores` to all that the model's head predicts. Decoding
uses three smaller steps: `encode` and `prefill` once, then `advance` by one token at a time, with a cache that goes in
and comes out as a value. Dropout is on exactly when `apply` is given a `dropout` key.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from t5like.config import Model, Rules
from t5like.model import layers
from t5like.model.attention.masks import AttentionMask
from t5like.model.blocks import Ids, Memory, Norm
from t5like.model.embedding import lookup
from t5like.model.heads import Head, LMHeadInputs, Pooler, Scores, Transform, of_candidates, pool, pool_segments
from t5like.model.layers import Hidden
from t5like.model.projection import fan_in, project
from t5like.model.sharding import param, shard
from t5like.model.stack import Cache, Stack

Logits = Float[Array, "batch length vocab"]
NextLogits = Float[Array, "batch vocab"]


class Transformer(nn.Module):
    model: Model
    rules: Rules

    def setup(self) -> None:
        m = self.model
        deviation = nn.initializers.normal(m.embedding_deviation)
        self.embedding = param(self, "embedding", self.rules, (m.vocab, m.embed), ("vocab", "embed"), deviation)
        if m.positions == "learned":
            shape = (m.max_positions or 0, m.embed)
            self.position_table = param(self, "positions", self.rules, shape, ("positions", "embed"), deviation)
        if m.predicts_pieces and not m.tied:
            self.output = param(self, "output", self.rules, (m.embed, m.vocab), ("embed", "vocab"), fan_in(0))
        if m.token_types:
            shape = (m.token_types, m.embed)
            self.type_table = param(self, "token_types", self.rules, shape, ("types", "embed"), deviation)
        if m.output_transform:
            self.transform = Transform(m, self.rules)
        if m.output_bias:
            self.output_bias = param(self, "output_bias", self.rules, (m.vocab,), ("vocab",), nn.initializers.zeros)
        if m.pooler:
            self.pooler = Pooler(m, self.rules)
        if m.label_scores:
            self.head = Head(m, self.rules)
        if m.embedding_norm:
            self.embedding_norm = Norm(m, self.rules)
        if m.encoder_layers:
            self.encoder = Stack(m, self.rules, m.encoder_layers)
        if m.decoder_layers:
            self.decoder = Stack(m, self.rules, m.decoder_layers)

    def __call__(self, batch: dict[str, Array]) -> Logits:
        """Logits, float32, of the decoder's tokens, or of the encoder's where there is no decoder.

        The batch holds `*_input_tokens`, `*_segment_ids` and `*_positions` of each stack, `[batch, length]` int32.
        """
        return self.logits(self.hidden(batch))

    def scores(self, batch: dict[str, Array]) -> Scores:
        """All that the model's head predicts, in one pass."""
        m, x = self.model, self.hidden(batch)
        logits = self.logits(x) if m.predicts_pieces else None
        if m.pools:
            x = self._pooled(x, batch)
        if m.head == "choice":
            return Scores(None, of_candidates(self.head(x), self._segments(batch)))
        labels = self.head(x) if m.label_scores else None
        return Scores(logits, x.astype(jnp.float32) if m.head == "none" else labels)

    def embed(self, batch: dict[str, Array]) -> Float[Array, "batch *candidates embed"]:
        """One vector for each row, as `model.pooling` and `model.pooler` say; of a model that chooses among candidates
        one for each of these, `[batch, candidates, embed]`."""
        return self._pooled(self.hidden(batch), batch)

    def hidden(self, batch: dict[str, Array], memory: Memory | None = None) -> Hidden:
        """The last states of the decoder, or of the encoder where there is no decoder; `memory` is what the encoder
        made of the batch where that is known."""
        x = memory = self.encode(batch) if memory is None and self.model.encoder_layers else memory
        if self.model.decoder_layers:
            segments = batch["decoder_segment_ids"]
            cross = None if memory is None else AttentionMask(segments, batch["encoder_segment_ids"], causal=False)
            tokens, positions = batch["decoder_input_tokens"], batch["decoder_positions"]
            x, _ = self._run(
                self.decoder, tokens, positions, AttentionMask(segments, segments, causal=True), memory, cross
            )
        assert x is not None
        return x

    def _pooled(self, x: Hidden, batch: dict[str, Array]) -> Float[Array, "batch *candidates embed"]:
        """One vector for each row or, for the head choice, each of the candidates that `candidates` `[batch, most]`
        numbers; a row of a batch without it is one candidate."""
        m, segments = self.model, self._segments(batch)
        if m.head == "choice":
            count = batch["candidates"].shape[1] if "candidates" in batch else 1
            pooled = pool_segments(x, segments, count, m.pooling)
        else:
            pooled = pool(x, segments, m.pooling)
        return self.pooler(pooled) if m.pooler else pooled

    def _segments(self, batch: dict[str, Array]) -> Int[Array, "batch length"]:
        """The segments of the stack that predicts."""
        return batch["decoder_segment_ids" if self.model.decoder_layers else "encoder_segment_ids"]

    def encode(self, batch: dict[str, Array]) -> Hidden:
        """The encoder's output. Tokens are of type 0 where the batch has no `encoder_token_types`."""
        segments = batch["encoder_segment_ids"]
        mask = AttentionMask(segments, segments, causal=False)
        tokens, positions = batch["encoder_input_tokens"], batch["encoder_positions"]
        types = batch.get("encoder_token_types", jnp.zeros_like(tokens)) if self.model.token_types else None
        return self._run(self.encoder, tokens, positions, mask, types=types)[0]

    def prefill(
        self,
        tokens: Ids,
        segments: Ids,
        encoder_segments: Int[Array, "batch memory"] | None = None,
        memory: Memory | None = None,
    ) -> tuple[NextLogits, Cache]:
        """Logits of the token after each prompt, and the cache of all prompts.

        Prompts are padded in front; segments are 1 for their tokens and 0 for padding.
        """
        real = jnp.cumsum(segments, axis=1, dtype=jnp.int32)
        mask = AttentionMask(segments, segments, causal=True)
        cross = None
        if encoder_segments is not None:
            cross = AttentionMask(jnp.ones_like(segments), _real(encoder_segments), causal=False)
        positions = jnp.maximum(real - 1, 0)
        x, cache = self._run(self.decoder, tokens, positions, mask, memory, cross, True)
        return self.logits(x[:, -1:])[:, 0], cache

    def advance(
        self,
        tokens: Int[Array, " rows"],
        positions: Int[Array, " rows"],
        slot: Int[Array, ""],
        cache: Cache,
        seen: Int[Array, "rows slots"],
        prompt: Int[Array, "sources prompt"] | None = None,
        encoder_segments: Int[Array, "sources memory"] | None = None,
    ) -> tuple[NextLogits, Cache]:
        """Logits of the token after one more of each row, and the cache with that in slot `slot` of it.

        A slot is seen where `seen` is 1 and it does not come later. Where the keys of the prompt are kept apart, for
        several rows of a source, `prompt` is 1 for its tokens, and the slots are those behind it. The parameters are
        those of `stack.unrolled`.
        """
        one = jnp.ones((1, 1), jnp.int32)
        mask, apart, cross = AttentionMask(one, seen, causal=True, positions=slot[None, None]), None, None
        if prompt is not None:
            behind = slot[None, None] + prompt.shape[1]
            apart = AttentionMask(one, prompt, causal=True, positions=behind)
        if encoder_segments is not None:
            cross = AttentionMask(one, _real(encoder_segments), causal=False)
        x, cache = self._run(self.decoder, tokens[:, None], positions[:, None], mask, None, cross, False, cache, apart)
        return self.logits(x)[:, 0], cache

    def logits(self, x: Hidden) -> Logits:
        """Float32 scores of every row of the vocabulary."""
        inputs = self._lm_head_inputs(x)
        # A transposed table would be written out for every token that is decoded.
        equation, kernel = ("bld,vd->blv", self.embedding) if self.model.tied else ("bld,dv->blv", inputs.matrix)
        scores = project(equation, inputs.x, kernel, inputs.bias, wide=True)
        return shard(scores, self.rules, "batch", "length", "act_vocab")

    def lm_head_inputs(
        self, batch: dict[str, Array], memory: Memory | None = None
    ) -> tuple[LMHeadInputs, Float[Array, "batch labels"] | None]:
        """The parts of the logits, and the scores of rows, for a loss that makes the logits by itself."""
        x = self.hidden(batch, memory)
        return self._lm_head_inputs(x), self.head(self._pooled(x, batch)) if self.model.label_scores else None

    def _lm_head_inputs(self, x: Hidden) -> LMHeadInputs:
        m = self.model
        if m.output_transform:
            x = self.transform(x)
        if m.scale_logits:
            x *= jnp.asarray(m.embed**-0.5, x.dtype)
        bias = self.output_bias if m.output_bias else jnp.zeros(m.vocab, jnp.float32)
        return LMHeadInputs(x, self.embedding.T if m.tied else self.output, bias)

    def _run(
        self, stack: Stack, tokens: Ids, positions: Ids, *rest: Any, types: Ids | None = None
    ) -> tuple[Hidden, Cache]:
        m = self.model
        x = lookup(self.embedding, tokens, jnp.dtype(m.dtype), self.rules)
        if m.scale_embedding:
            x *= jnp.asarray(m.embed**0.5, x.dtype)
        if m.positions == "learned":
            x += self.position_table[positions].astype(x.dtype)
        elif m.positions == "sinusoidal":
            x += layers.sinusoids(positions, m.embed).astype(x.dtype)
        if types is not None:
            x += self.type_table[types].astype(x.dtype)
        if m.embedding_norm:
            x = self.embedding_norm(x)
        return stack(x, positions, *rest)


def _real(segments: Int[Array, "batch length"]) -> Int[Array, "batch length"]:
    """1 for tokens of any segment, 0 for padding."""
    return (segments > 0).astype(jnp.int32)
