"""The parts of a layer: normalisation, attention, the feed-forward layer, and the block that joins them.

Modules only own parameters, which they create by `sharding.param` with a name for each dimension; the arithmetic is in
`layers.py` and `attention.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int

from t5like.config import Model, Rules
from t5like.model import layers
from t5like.model.attention.attend import attend
from t5like.model.attention.cached import KVCache, attend_cached, cache_of, write
from t5like.model.attention.masks import AttentionMask, Keys, Query, Relative
from t5like.model.layers import Hidden
from t5like.model.projection import Projection, projection
from t5like.model.sharding import param, shard

Ids = Int[Array, "batch length"]
Memory = Float[Array, "batch memory embed"]
LayerCache = dict[str, KVCache]
"""Keys and values of a layer while decoding: `self` has those of each row's own tokens; those of `cross` and `prompt`,
where they are, belong to all rows of a source."""
ONES, ZEROS = nn.initializers.ones, nn.initializers.zeros


def maybe_drop(module: nn.Module, x: Array, rate: float) -> Array:
    """Dropout, if the model is applied with a `dropout` key."""
    return layers.dropout(x, rate, module.make_rng("dropout")) if rate and module.has_rng("dropout") else x


def relative_bias(module: nn.Module, model: Model, rules: Rules) -> Relative:
    """T5's bias of each pair of tokens: a number for each bucket of their distance and each head."""
    shape, axes = (model.relative_buckets, model.heads), ("buckets", "heads")
    table = param(module, "relative", rules, shape, axes, nn.initializers.normal(model.embed**-0.5))
    return Relative(table, model.relative_distance)


def rope_frequencies(model: Model) -> Float[Array, " half"]:
    """Radians a token of each pair of a head's dimensions, by the model's `rotary_*` fields."""
    frequencies = layers.rope_frequencies(model.kv, model.rotary_base)
    if model.rotary_scaling == "linear":
        return frequencies / model.rotary_factor
    if model.rotary_scaling == "llama3":
        stretch = model.rotary_factor, model.rotary_low, model.rotary_high, model.rotary_length
        return layers.llama3_rope_scaling(frequencies, *stretch)
    return frequencies


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
    """Attention from `x` to the keys and values that `keys_values` makes of `x` or of the encoder's output."""

    model: Model
    rules: Rules

    def setup(self) -> None:
        m = self.model
        heads, axes = (m.embed, m.heads, m.kv), ("embed", "heads", "kv")
        shared = (m.embed, m.key_heads, m.kv), axes if m.key_heads == m.heads else ("embed", "kv_heads", "kv")
        scale = m.initializer_factor**2
        # T5 leaves out the division by sqrt(kv) and starts with smaller queries instead.
        smaller = scale if m.scale_attention else scale / m.kv
        out = (m.heads, m.kv, m.embed), (*axes[1:], "embed")
        declared = {
            "query": projection(self, "query", self.rules, "bld,dhk->blhk", heads, axes, smaller),
            "key": projection(self, "key", self.rules, "bld,dhk->blhk", *shared, scale),
            "value": projection(self, "value", self.rules, "bld,dhk->blhk", *shared, scale),
            "out": projection(self, "out", self.rules, "blhk,hkd->bld", *out, scale),
        }
        # Biases come last: the order in which parameters are declared decides their random keys.
        for name in declared:
            if m.biased("out" if name == "out" else "qkv"):
                declared[name] = declared[name].with_bias(self, f"{name}_bias")
        declared = {name: each.with_adapter(self, name, m.lora) for name, each in declared.items()}
        self.query, self.key, self.value, self.out = declared.values()

    def _heads(self, x: Hidden, weights: Projection, positions: Ids | None) -> Array:
        m, y = self.model, weights(x)
        if positions is not None and m.positions == "rotary":
            y = layers.apply_rope(y, positions, rope_frequencies(m))
        return shard(y, self.rules, "batch", "length", "act_heads" if y.shape[2] == m.heads else "act_kv_heads", None)

    def keys_values(self, memory: Memory, positions: Ids | None) -> tuple[Keys, Keys]:
        """Keys and values of `memory`; rotary positions turn the keys, None leaves them."""
        return self._heads(memory, self.key, positions), self._heads(memory, self.value, None)

    def __call__(
        self,
        x: Hidden,
        memory: tuple[Keys, Keys],
        mask: AttentionMask,
        relative: Relative | None,
        positions: Ids | None,
    ) -> Hidden:
        m, query = self.model, self._queries(x, positions)
        drop = (m.dropout, self.make_rng("dropout")) if m.dropout and self.has_rng("dropout") else None
        y = attend(query, *memory, mask, relative, self.rules, m.attention, drop)
        return checkpoint_name(self.out(y), "attention")

    def cached(
        self,
        x: Hidden,
        caches: Sequence[KVCache],
        masks: Sequence[AttentionMask],
        relative: Relative | None,
        positions: Ids | None,
    ) -> Hidden:
        """Attention of `x` to the keys of all caches together."""
        return self.out(attend_cached(self._queries(x, positions), caches, masks, relative))

    def _queries(self, x: Hidden, positions: Ids | None) -> Query:
        query = self._heads(x, self.query, positions)
        return query * jnp.asarray(self.model.kv**-0.5, query.dtype) if self.model.scale_attention else query


class Mlp(nn.Module):
    model: Model
    rules: Rules

    @nn.compact
    def __call__(self, x: Hidden) -> Hidden:
        m, rules = self.model, self.rules

        def dense(name: str, equation: str, shape: tuple[int, int], axes: tuple[str, str]) -> Projection:
            declared = projection(self, name, rules, equation, shape, axes, m.initializer_factor**2)
            declared = declared.with_bias(self, f"{name}_bias") if m.biased("mlp") else declared
            return declared.with_adapter(self, name, m.lora)

        def wide(name: str) -> Array:
            return dense(name, "bld,dm->blm", (m.embed, m.mlp), ("embed", "mlp"))(x)

        gate, up = wide("gate" if m.gated else "up"), wide("up") if m.gated else None
        y = layers.activated(gate, up, m.activation)
        y = shard(maybe_drop(self, y, m.dropout), rules, "batch", "length", "act_mlp")
        return checkpoint_name(dense("down", "blm,md->bld", (m.mlp, m.embed), ("mlp", "embed"))(y), "mlp")


class SharedInputs(NamedTuple):
    """Inputs shared by all layers of a stack: positions, self-attention mask, relative bias unless each layer has its
    own, and cross-attention mask; None where the model has no such thing."""

    positions: Array
    mask: AttentionMask
    relative: Relative | None
    cross: AttentionMask | None
    prompt: AttentionMask | None = None
    """Of the keys of the prompt, where they are kept apart from those of the rows."""


class Block(nn.Module):
    """Self-attention, cross-attention where there is an encoder, and the feed-forward layer.

    `window` is how far self-attention sees, in tokens; None sees all. With `keep` the keys and values come out as a
    cache; a cache that goes in gets those of `x` at the first of the mask's positions.
    """

    model: Model
    rules: Rules
    window: int | None = None
    keep: bool = False

    @nn.compact
    def __call__(
        self, x: Hidden, shared: SharedInputs, memory: Memory | None, cache: LayerCache | None = None
    ) -> tuple[Hidden, LayerCache]:
        new: LayerCache = dict(cache or {})
        own_bias = self.model.relative_per_layer
        relative = relative_bias(self, self.model, self.rules) if own_bias else shared.relative
        x = checkpoint_name(x, "layer")

        def attention(name: str, y: Hidden) -> Hidden:
            heads = Attention(self.model, self.rules, name=name)
            own = name == "self"
            mask = replace(shared.mask, window=self.window) if own else shared.cross
            assert mask is not None
            if cache is not None and not own:
                return heads.cached(y, [cache[name]], [mask], None, None)
            positions = shared.positions if own else None
            keys_values = heads.keys_values(y if own else cast(Array, memory), positions)
            if cache is None:
                if self.keep:
                    new[name] = cache_of(*keys_values, self.model.heads, self.rules)
                return heads(y, keys_values, mask, relative if own else None, positions)
            assert mask.positions is not None
            new[name] = write(cache[name], *keys_values, mask.positions[0, 0])
            caches, masks = [new[name]], [mask]
            if shared.prompt is not None:
                caches, masks = [cache["prompt"], *caches], [replace(shared.prompt, window=self.window), *masks]
            return heads.cached(y, caches, masks, relative, positions)

        x = self._residual(x, "self", lambda y: attention("self", y))
        if memory is not None or "cross" in new:
            x = self._residual(x, "cross", lambda y: attention("cross", y))
        x = self._residual(x, "mlp", Mlp(self.model, self.rules, name="mlp"))
        return shard(x, self.rules, "batch", "length", "act_embed"), new

    def _residual(self, x: Hidden, name: str, layer: Callable[[Hidden], Hidden]) -> Hidden:
        norm = Norm(self.model, self.rules, name=f"norm_{name}")
        if self.model.norm_position == "pre":
            return x + maybe_drop(self, layer(norm(x)), self.model.dropout)
        return norm(x + maybe_drop(self, layer(x), self.model.dropout))
