"""Encoder-decoder, encoder-only and decoder-only Transformers: one module, told apart by which stacks have layers.

`Transformer.__call__` takes a batch of features to logits. Decoding uses three smaller steps: `encode` once, then
`decode` with a cache that goes in and comes out as a value: first the whole prompt, then one token at a time. Dropout
is on exactly when `apply` is given a `dropout` key. Layers are scanned: one is traced, and its parameters carry
`layers` in front.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from t5like.config import Model, Rules
from t5like.model import layers
from t5like.model.attention import KeysValues, attend, write
from t5like.model.layers import Hidden
from t5like.model.sharding import param, shard

Ids = Int[Array, "batch length"]
Memory = Float[Array, "batch memory embed"]
Logits = Float[Array, "batch length vocab"]
Bias = Float[Array, "#batch heads query key"]
Cache = dict[str, KeysValues]
ONES, ZEROS = nn.initializers.ones, nn.initializers.zeros
REMAT = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


def fan_in(*axes: int, scale: float = 1.0) -> nn.initializers.Initializer:
    """Truncated normal values with variance scale / (product of the contracted axes)."""
    return nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal", in_axis=axes, out_axis=())


def maybe_drop(module: nn.Module, x: Array, rate: float) -> Array:
    """Dropout, if the model is applied with a `dropout` key."""
    return layers.dropout(x, rate, module.make_rng("dropout")) if rate and module.has_rng("dropout") else x


class Norm(nn.Module):
    model: Model
    rules: Rules

    @nn.compact
    def __call__(self, x: Hidden) -> Hidden:
        shape, axes, epsilon = (x.shape[-1],), ("norm",), self.model.norm_epsilon
        scale = param(self, "scale", self.rules, shape, axes, ONES)
        if self.model.norm == "rms":
            return layers.rms_norm(x, scale, epsilon)
        return layers.layer_norm(x, scale, param(self, "bias", self.rules, shape, axes, ZEROS), epsilon)


class Attention(nn.Module):
    """Attention from `x` to keys and values that `keys_values` makes of `x` or of the encoder's output."""

    model: Model
    rules: Rules

    def setup(self) -> None:
        m = self.model
        shape, axes = (m.embed, m.heads, m.kv), ("embed", "heads", "kv")
        # T5 leaves out the division by sqrt(kv) and starts with smaller queries instead.
        smaller = 1.0 if m.scale_attention else 1.0 / m.kv
        self.query = param(self, "query", self.rules, shape, axes, fan_in(0, scale=smaller))
        self.key = param(self, "key", self.rules, shape, axes, fan_in(0))
        self.value = param(self, "value", self.rules, shape, axes, fan_in(0))
        self.out = param(self, "out", self.rules, (m.heads, m.kv, m.embed), ("heads", "kv", "embed"), fan_in(0, 1))
        if m.bias:
            names = ("query_bias", "key_bias", "value_bias")
            self.biases = [param(self, name, self.rules, shape[1:], axes[1:], ZEROS) for name in names]
            self.out_bias = param(self, "out_bias", self.rules, (m.embed,), ("norm",), ZEROS)

    def _project(self, x: Hidden, kernel: Array, number: int, positions: Ids | None) -> Array:
        y = jnp.einsum("bld,dhk->blhk", x, kernel.astype(x.dtype))
        if self.model.bias:
            y += self.biases[number].astype(y.dtype)[None, None]
        if positions is not None and self.model.positions == "rotary":
            y = layers.rotate(y, positions, self.model.rotary_base)
        return shard(y, self.rules, "batch", "length", "act_heads", None)

    def keys_values(self, memory: Memory, positions: Ids | None) -> KeysValues:
        """Keys and values of what is attended to; rotary positions turn the keys, None leaves them."""
        return KeysValues(self._project(memory, self.key, 1, positions), self._project(memory, self.value, 2, None))

    def __call__(
        self,
        x: Hidden,
        memory: KeysValues,
        allowed: Bool[Array, "batch query key"],
        bias: Bias | None,
        positions: Ids | None,
    ) -> Hidden:
        m = self.model
        query = self._project(x, self.query, 0, positions)
        if m.scale_attention:
            query *= jnp.asarray(m.kv**-0.5, query.dtype)
        drop = (m.dropout, self.make_rng("dropout")) if m.dropout and self.has_rng("dropout") else None
        y = attend(query, *memory, allowed, bias, drop)
        y = jnp.einsum("blhk,hkd->bld", y, self.out.astype(y.dtype))
        return y + self.out_bias.astype(y.dtype)[None, None] if m.bias else y


class Mlp(nn.Module):
    model: Model
    rules: Rules

    @nn.compact
    def __call__(self, x: Hidden) -> Hidden:
        m, rules = self.model, self.rules

        def dense(name: str, x: Array, shape: tuple[int, int], axes: tuple[str, str]) -> Array:
            y = jnp.einsum("blx,xy->bly", x, param(self, name, rules, shape, axes, fan_in(0)).astype(x.dtype))
            if not m.bias:
                return y
            bias_axis = "norm" if axes[1] == "embed" else axes[1]
            return y + param(self, f"{name}_bias", rules, shape[1:], (bias_axis,), ZEROS).astype(y.dtype)[None, None]

        y = layers.activate(dense("gate" if m.gated else "up", x, (m.embed, m.mlp), ("embed", "mlp")), m.activation)
        if m.gated:
            y *= dense("up", x, (m.embed, m.mlp), ("embed", "mlp"))
        y = shard(maybe_drop(self, y, m.dropout), rules, "batch", "length", "act_mlp")
        return dense("down", y, (m.mlp, m.embed), ("mlp", "embed"))


class View(NamedTuple):
    """What all layers of a stack share: each token's place, what it sees, the position bias, and what it sees of the
    encoder; None where the model has no such thing."""

    positions: Array
    allowed: Array
    bias: Any
    cross_allowed: Any


class Block(nn.Module):
    """Self-attention, cross-attention where there is an encoder, and the feed-forward layer."""

    model: Model
    rules: Rules

    @nn.compact
    def __call__(self, x: Hidden, cache: Cache, view: View, memory: Memory | None) -> tuple[Hidden, Cache]:
        new: Cache = {}

        def attention(name: str, y: Hidden) -> Hidden:
            heads = Attention(self.model, self.rules, name=name)
            if name == "cross":
                if memory is not None:
                    new[name] = heads.keys_values(memory, None)
                else:
                    new[name] = cache[name]
                return heads(y, new[name], view.cross_allowed, None, None)
            own = heads.keys_values(y, view.positions)
            new[name] = write(cache[name], own, view.positions) if name in cache else own
            return heads(y, new[name], view.allowed, view.bias, view.positions)

        x = self._residual(x, "self", lambda y: attention("self", y))
        if memory is not None or "cross" in cache:
            x = self._residual(x, "cross", lambda y: attention("cross", y))
        x = self._residual(x, "mlp", Mlp(self.model, self.rules, name="mlp"))
        # Without a cache nothing may leave the scan, or it would keep the keys of every layer.
        return shard(x, self.rules, "batch", "length", "act_embed"), new if cache else {}

    def _residual(self, x: Hidden, name: str, layer: Any) -> Hidden:
        norm = Norm(self.model, self.rules, name=f"norm_{name}")
        if self.model.norm_position == "pre":
            return x + maybe_drop(self, layer(norm(x)), self.model.dropout)
        return norm(x + maybe_drop(self, layer(x), self.model.dropout))


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
        bias = self._relative_bias(distance) if m.positions == "relative" else None
        view = View(positions, allowed, bias, cross_allowed)
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

    def _relative_bias(self, distance: Int[Array, "rows query key"]) -> Bias:
        m = self.model
        shape, axes = (m.relative_buckets, m.heads), ("buckets", "heads")
        table = param(self, "relative", self.rules, shape, axes, nn.initializers.normal(m.embed**-0.5))
        bucket = layers.relative_bucket(distance, m.relative_buckets, m.relative_distance, self.causal)
        return jnp.moveaxis(table.astype(jnp.dtype(m.dtype))[bucket], -1, 1)


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
        if not m.tied:
            self.output = param(self, "output", self.rules, (m.embed, m.vocab), ("embed", "vocab"), fan_in(0))
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
        x = memory = self.encode(batch) if self.model.encoder_layers else None
        if self.model.decoder_layers:
            segments = batch["decoder_segment_ids"]
            allowed = layers.attention_mask(segments, segments, causal=True)
            cross = None if memory is None else _cross(segments, batch)
            tokens, positions = batch["decoder_input_tokens"], batch["decoder_positions"]
            x, _ = self._run(self.decoder, tokens, positions, allowed, _distance(tokens.shape[1]), memory, cross)
        assert x is not None
        return self.logits(x)

    def encode(self, batch: dict[str, Array]) -> Hidden:
        """The encoder's output."""
        segments = batch["encoder_segment_ids"]
        allowed = layers.attention_mask(segments, segments, causal=False)
        tokens, positions = batch["encoder_input_tokens"], batch["encoder_positions"]
        return self._run(self.encoder, tokens, positions, allowed, _distance(tokens.shape[1]))[0]

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
        if m.scale_logits:
            x *= jnp.asarray(m.embed**-0.5, x.dtype)
        matrix = self.embedding.T if m.tied else self.output
        y = jnp.einsum("bld,dv->blv", x, matrix.astype(x.dtype), preferred_element_type=jnp.float32)
        return shard(y, self.rules, "batch", "length", "act_vocab")

    def _run(self, stack: Stack, tokens: Ids, positions: Ids, *rest: Any) -> tuple[Hidden, Cache]:
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
        if m.embedding_norm:
            x = self.embedding_norm(x)
        return stack(x, positions, *rest)


def empty_cache(model: Model, batch: int, slots: int) -> Cache:
    """A decode cache for `slots` tokens, for the first call of `Transformer.decode`."""
    zeros = jnp.zeros((model.decoder_layers, batch, slots, model.heads, model.kv), jnp.dtype(model.dtype))
    return {"self": KeysValues(zeros, zeros)}


def _distance(length: int) -> Int[Array, "1 length length"]:
    places = jnp.arange(length, dtype=jnp.int32)
    return (places[None, :] - places[:, None])[None]


def _cross(segments: Ids, batch: dict[str, Array]) -> Bool[Array, "batch length memory"]:
    return layers.attention_mask(segments, batch["encoder_segment_ids"], causal=False)
