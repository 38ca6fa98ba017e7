"""Encoder-decoder, encoder-only and decoder-only Transformers: one module, told apart by which stacks have layers.

`Transformer.__call__` takes a batch of features to logits, `scores` to all that the model's head predicts. Decoding
uses three smaller steps: `encode` once, then `decode` with a cache that goes in and comes out as a value: first the
whole prompt, then one token at a time. Dropout is on exactly when `apply` is given a `dropout` key. Layers are scanned:
one is traced, and its parameters carry `layers` in front.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from t5like.config import Model, Rules
from t5like.model import layers
from t5like.model.attention import KeysValues
from t5like.model.blocks import Block, Cache, Ids, Memory, Norm, View, fan_in, maybe_drop, relative_bias
from t5like.model.heads import LABELS, Head, Pooler, Scores, Transform, pool
from t5like.model.layers import Hidden
from t5like.model.sharding import param, shard

Logits = Float[Array, "batch length vocab"]
REMAT = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class Stack(nn.Module):
    """The layers of an encoder or decoder with their shared relative bias and the last norm."""

    model: Model
    rules: Rules
    depth: int
    causal: bool

    @nn.compact
    def __call__(
        self,
        x: Hidden,
        positions: Ids,
        allowed: Bool[Array, "batch query key"],
        distance: Int[Array, "rows query key"],
        memory: Memory | None = None,
        cross_allowed: Bool[Array, "batch query memory"] | None = None,
        cache: Cache | None = None,
    ) -> tuple[Hidden, Cache]:
        m = self.model
        bias = buckets = None
        if m.positions == "relative":
            buckets = layers.relative_bucket(distance, m.relative_buckets, m.relative_distance, self.causal)
        if buckets is not None and not m.relative_per_layer:
            bias, buckets = relative_bias(self, m, self.rules, buckets), None
        view = View(positions, allowed, bias, buckets, cross_allowed)
        x = shard(maybe_drop(self, x, m.dropout), self.rules, "batch", "length", "act_embed")
        block = Block if m.remat == "none" else nn.remat(Block, prevent_cse=False, policy=REMAT[m.remat])
        blocks = nn.scan(
            block,
            length=self.depth,
            in_axes=(0, nn.broadcast, nn.broadcast),  # pyright: ignore[reportArgumentType]
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        x, cache = blocks(m, self.rules, name="blocks")(x, cache or {}, view, memory)
        if m.norm_position == "pre":
            x = Norm(m, self.rules, name="norm")(x)
        return maybe_drop(self, x, m.dropout), cache


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
        if LABELS[m.head](m):
            self.head = Head(m, self.rules, LABELS[m.head](m))
        if m.embedding_norm:
            self.embedding_norm = Norm(m, self.rules)
        if m.encoder_layers:
            self.encoder = Stack(m, self.rules, m.encoder_layers, causal=False)
        if m.decoder_layers:
            self.decoder = Stack(m, self.rules, m.decoder_layers, causal=True)

    def __call__(self, batch: dict[str, Array]) -> Logits:
        """Logits, float32, of the decoder's tokens, or of the encoder's where there is no decoder.

        The batch holds `*_input_tokens`, `*_segment_ids` and `*_positions` of each stack, `[batch, length]` int32.
        """
        return self.logits(self.hidden(batch))

    def scores(self, batch: dict[str, Array]) -> Scores:
        """All that the model's head predicts, in one pass."""
        m, x = self.model, self.hidden(batch)
        pieces = self.logits(x) if m.predicts_pieces else None
        if m.pools:
            x = self._pooled(x, batch)
        labels = self.head(x) if LABELS[m.head](m) else None
        return Scores(pieces, x.astype(jnp.float32) if m.head == "none" else labels)

    def embed(self, batch: dict[str, Array]) -> Float[Array, "batch embed"]:
        """One vector for each row, as `model.pooling` and `model.pooler` say."""
        return self._pooled(self.hidden(batch), batch)

    def hidden(self, batch: dict[str, Array]) -> Hidden:
        """The last states of the decoder, or of the encoder where there is no decoder."""
        x = memory = self.encode(batch) if self.model.encoder_layers else None
        if self.model.decoder_layers:
            segments = batch["decoder_segment_ids"]
            allowed = layers.attention_mask(segments, segments, causal=True)
            cross = None if memory is None else _cross(segments, batch)
            tokens, positions = batch["decoder_input_tokens"], batch["decoder_positions"]
            x, _ = self._run(self.decoder, tokens, positions, allowed, _distance(tokens.shape[1]), memory, cross)
        assert x is not None
        return x

    def _pooled(self, x: Hidden, batch: dict[str, Array]) -> Float[Array, "batch embed"]:
        stack = "decoder" if self.model.decoder_layers else "encoder"
        pooled = pool(x, batch[f"{stack}_segment_ids"], self.model.pooling)
        return self.pooler(pooled) if self.model.pooler else pooled

    def encode(self, batch: dict[str, Array]) -> Hidden:
        """The encoder's output. Tokens are of type 0 where the batch has no `encoder_token_types`."""
        segments = batch["encoder_segment_ids"]
        allowed = layers.attention_mask(segments, segments, causal=False)
        tokens, positions = batch["encoder_input_tokens"], batch["encoder_positions"]
        types = batch.get("encoder_token_types", jnp.zeros_like(tokens)) if self.model.token_types else None
        return self._run(self.encoder, tokens, positions, allowed, _distance(tokens.shape[1]), types=types)[0]

    def decode(
        self,
        tokens: Ids,
        positions: Ids,
        cache: Cache,
        encoder_segments: Int[Array, "batch memory"] | None = None,
        memory: Memory | None = None,
    ) -> tuple[Logits, Cache]:
        """Logits of the tokens and the cache with them in it.

        A token's position is also its slot in the cache, and it sees the slots up to its own. Tokens that pad a
        prompt at its end are harmless: nothing real sees their slots before a real token is written there. A model
        with an encoder needs `encoder_segments` in every call and `memory` in the first, whose keys the cache keeps.
        """
        slots = cache["self"].keys.shape[2]
        distance = jnp.arange(slots, dtype=jnp.int32)[None, None] - positions[:, :, None]
        allowed = layers.cache_mask(positions, slots)
        cross = None
        if encoder_segments is not None:
            cross = jnp.broadcast_to(encoder_segments[:, None] > 0, (*tokens.shape, encoder_segments.shape[1]))
        x, cache = self._run(self.decoder, tokens, positions, allowed, distance, memory, cross, cache)
        return self.logits(x), cache

    def logits(self, x: Hidden) -> Logits:
        """Float32 scores of every row of the vocabulary."""
        m = self.model
        if m.output_transform:
            x = self.transform(x)
        if m.scale_logits:
            x *= jnp.asarray(m.embed**-0.5, x.dtype)
        matrix = self.embedding.T if m.tied else self.output
        y = jnp.einsum("bld,dv->blv", x, matrix.astype(x.dtype), preferred_element_type=jnp.float32)
        if m.output_bias:
            y += self.output_bias[None, None]
        return shard(y, self.rules, "batch", "length", "act_vocab")

    def _run(
        self, stack: Stack, tokens: Ids, positions: Ids, *rest: Any, types: Ids | None = None
    ) -> tuple[Hidden, Cache]:
        m = self.model
        # The table is gathered over fsdp before the look-up, as every weight is; a look-up cannot be split there.
        table = shard(self.embedding.astype(jnp.dtype(m.dtype)), self.rules, "vocab", "act_embed")
        x = shard(table[tokens], self.rules, "batch", "length", "act_embed")
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


def empty_cache(model: Model, batch: int, slots: int) -> Cache:
    """A decode cache for `slots` tokens, for the first call of `Transformer.decode`."""
    zeros = jnp.zeros((model.decoder_layers, batch, slots, model.key_heads, model.kv), jnp.dtype(model.dtype))
    return {"self": KeysValues(zeros, zeros)}


def _distance(length: int) -> Int[Array, "1 length length"]:
    places = jnp.arange(length, dtype=jnp.int32)
    return (places[None, :] - places[:, None])[None]


def _cross(segments: Ids, batch: dict[str, Array]) -> Bool[Array, "batch length memory"]:
    return layers.attention_mask(segments, batch["encoder_segment_ids"], causal=False)
