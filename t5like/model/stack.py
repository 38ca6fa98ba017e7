"""The layers of an encoder or decoder: scans over periods, each a fixed sequence of layers that may differ.

One period is traced, and its parameters carry `layers` in front. A period of one layer, as in all models whose layers
are alike, has its parameters at `blocks`; longer ones have theirs at `blocks/layer_0` and so on, and layers that fill
no whole period at `rest`.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from t5like.config import Model, Rules
from t5like.errors import UserError
from t5like.model.attention.attend import KVCache, platform
from t5like.model.attention.masks import AttentionMask
from t5like.model.blocks import Block, Ids, LayerCache, Memory, Norm, SharedInputs, maybe_drop, relative_bias
from t5like.model.layers import Hidden
from t5like.model.sharding import shard

Layers = TypeVar("Layers", bound=nn.Module)
Cache = dict[str, Any]
"""Keys and values of all layers, in a tree like that of a stack's parameters: `blocks/self`."""
KEPT = ("attended", "attention", "mlp")
"""Arrays that `minimal` keeps, by the names that attention and blocks give them: the output of attention with the
residuals of its backward pass, its projection, and the output of the feed-forward layer."""
HOSTED = ("cpu", "gpu", "tpu")
REMAT = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "minimal": jax.checkpoint_policies.save_only_these_names(*KEPT),
    "full": jax.checkpoint_policies.nothing_saveable,
    "offload": jax.checkpoint_policies.save_and_offload_only_these_names(
        names_which_can_be_saved=[],
        names_which_can_be_offloaded=["layer", *KEPT],
        offload_src="device",
        offload_dst="pinned_host",
    ),
}


def remat_policy(name: str) -> Callable[..., Any]:
    """The policy of arrays that the backward pass may keep of a layer, by a name of `config.Model.remat`.

    Raises:
      UserError: offloading to a host whose memory the devices of the current mesh do not reach.
    """
    if name == "offload" and platform() not in HOSTED:
        raise UserError(
            f"model.remat='offload' keeps arrays in the host's memory, which JAX does from {', '.join(HOSTED)} and not "
            f"from {platform()}: choose 'minimal' or 'full'."
        )
    return REMAT[name]


class Scan(NamedTuple):
    """Equal periods of layers, one after the other: `name` is that of their parameters."""

    name: str
    periods: int
    windows: tuple[int | None, ...]


def scans(model: Model, depth: int) -> Iterator[Scan]:
    """The scans of a stack: 26 layers of windows (8, 8, None) are 8 periods of three, and one of the first two."""
    windows = model.windows or (None,)
    whole, rest = divmod(depth, len(windows))
    if whole:
        yield Scan("blocks", whole, windows)
    if rest:
        yield Scan("rest", 1, windows[:rest])


def _block(model: Model) -> type[Block]:
    return Block if model.remat == "none" else nn.remat(Block, prevent_cse=False, policy=remat_policy(model.remat))


class Period(nn.Module):
    """Layers that differ, one for each window."""

    model: Model
    rules: Rules
    windows: tuple[int | None, ...]

    @nn.compact
    def __call__(self, x: Hidden, cache: Cache, shared: SharedInputs, memory: Memory | None) -> tuple[Hidden, Cache]:
        new: Cache = {}
        for number, window in enumerate(self.windows):
            layer = _block(self.model)(self.model, self.rules, window, name=(name := f"layer_{number}"))
            x, new[name] = layer(x, cache.get(name, {}), shared, memory)
        return x, new if cache else {}


def _scanned(layers: type[Layers], periods: int) -> type[Layers]:
    """The module over all periods, with parameters and caches of each stacked in front."""
    return nn.scan(
        layers,
        length=periods,
        in_axes=(0, nn.broadcast, nn.broadcast),  # pyright: ignore[reportArgumentType]
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        metadata_params={nn.PARTITION_NAME: "layers"},
    )


class Stack(nn.Module):
    """The layers of an encoder or decoder with their shared relative bias and the last norm."""

    model: Model
    rules: Rules
    depth: int

    @nn.compact
    def __call__(
        self,
        x: Hidden,
        positions: Ids,
        mask: AttentionMask,
        memory: Memory | None = None,
        cross: AttentionMask | None = None,
        cache: Cache | None = None,
    ) -> tuple[Hidden, Cache]:
        m, given, new = self.model, cache or {}, {}
        shared_bias = m.positions == "relative" and not m.relative_per_layer
        shared = SharedInputs(positions, mask, relative_bias(self, m, self.rules) if shared_bias else None, cross)
        x = shard(maybe_drop(self, x, m.dropout), self.rules, "batch", "length", "act_embed")
        for name, periods, windows in scans(m, self.depth):
            if len(windows) == 1:
                layers = _scanned(_block(m), periods)(m, self.rules, windows[0], name=name)
            else:
                layers = _scanned(Period, periods)(m, self.rules, windows, name=name)
            x, new[name] = layers(x, given.get(name, {}), shared, memory)
        if m.norm_position == "pre":
            x = Norm(m, self.rules, name="norm")(x)
        return maybe_drop(self, x, m.dropout), new


def empty_cache(model: Model, batch: int, slots: int) -> Cache:
    """A decode cache for `slots` tokens, for the first call of `Transformer.decode`."""
    cache: Cache = {}
    for name, periods, windows in scans(model, model.decoder_layers):
        zeros = jnp.zeros((periods, batch, slots, model.key_heads, model.kv), jnp.dtype(model.dtype))
        layer: LayerCache = {"self": KVCache(zeros, zeros)}
        cache[name] = layer if len(windows) == 1 else {f"layer_{n}": layer for n in range(len(windows))}
    return cache


def cached_keys(cache: Cache) -> Array:
    """Keys of the self-attention of some of the layers, `[layers, batch, slots, kv_heads, kv]`."""
    while "self" not in cache:
        cache = next(iter(cache.values()))
    return cache["self"].keys
