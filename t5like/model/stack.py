"""The layers of an encoder or decoder: scans over periods, each a fixed sequence of layers that may differ.

One period is traced, and its parameters carry `layers` in front. A period of one layer, as in all models whose layers
are alike, has its parameters at `blocks`; longer ones have theirs at `blocks/layer_0` and so on, and layers that fill
no whole period at `rest`.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from t5like.config import Model, Rules
from t5like.errors import UserError
from t5like.model.attention.attend import platform
from t5like.model.attention.masks import AttentionMask
from t5like.model.blocks import Block, Ids, LayerCache, Memory, Norm, SharedInputs, maybe_drop, relative_bias
from t5like.model.layers import Hidden
from t5like.model.sharding import Params, shard

Layers = TypeVar("Layers", bound=nn.Module)
Cache = list[LayerCache]
"""Keys and values of each layer, the first in front."""
KEPT = ("attended", "attention", "mlp")
"""Arrays that `minimal` keeps, by the names that attention and blocks give them: the output of attention with the
residuals of its backward pass, its projection, and the output of the feed-forward layer."""
LAYERS = "layers"
"""Name of the parameters of all layers of a stack that is unrolled."""
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
    keep: bool = False

    @nn.compact
    def __call__(self, x: Hidden, shared: SharedInputs, memory: Memory | None) -> tuple[Hidden, Cache]:
        new: Cache = []
        for number, window in enumerate(self.windows):
            layer = _block(self.model)(self.model, self.rules, window, self.keep, name=f"layer_{number}")
            x, kept = layer(x, shared, memory)
            new.append(kept)
        return x, new


def _scanned(layers: type[Layers], periods: int) -> type[Layers]:
    """The module over all periods, with parameters, and caches that come out, of each stacked in front."""
    return nn.scan(
        layers,
        length=periods,
        in_axes=(nn.broadcast, nn.broadcast),  # pyright: ignore[reportArgumentType]
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
        keep: bool = False,
        cache: Cache | None = None,
        prompt: AttentionMask | None = None,
    ) -> tuple[Hidden, Cache]:
        """The last states, and with `keep` or a `cache` the cache of all layers, with the new tokens in it.

        A cache asks for parameters that are `unrolled`.
        """
        m, new = self.model, []
        shared_bias = m.positions == "relative" and not m.relative_per_layer
        relative = relative_bias(self, m, self.rules) if shared_bias else None
        shared = SharedInputs(positions, mask, relative, cross, prompt)
        x = shard(maybe_drop(self, x, m.dropout), self.rules, "batch", "length", "act_embed")
        if cache is not None:
            x, new = self._advance(x, shared, cache)
        else:
            for name, periods, windows in scans(m, self.depth):
                if len(windows) == 1:
                    layers = _scanned(_block(m), periods)(m, self.rules, windows[0], keep, name=name)
                else:
                    layers = _scanned(Period, periods)(m, self.rules, windows, keep, name=name)
                x, kept = layers(x, shared, memory)
                new += _layers(kept if isinstance(kept, list) else [kept], periods) if keep else []
        if m.norm_position == "pre":
            x = Norm(m, self.rules, name="norm")(x)
        return maybe_drop(self, x, m.dropout), new

    def _advance(self, x: Hidden, shared: SharedInputs, cache: Cache) -> tuple[Hidden, Cache]:
        """Layer after layer without a scan, which would copy the weights and the cache of each in every step."""
        windows = [window for _, periods, each in scans(self.model, self.depth) for window in each * periods]
        params, new = self.variables["params"][LAYERS], []
        for number, (window, layer) in enumerate(zip(windows, cache, strict=True)):
            block = Block(self.model, self.rules, window, parent=None)
            x, kept = cast(Any, block.apply({"params": params[str(number)]}, x, shared, None, layer))
            new.append(kept)
        return x, new


def _layers(stacked: list[Any], periods: int) -> list[Any]:
    """The trees of all layers, from those of each layer of a period with the periods in front."""
    return [jax.tree.map(operator.itemgetter(period), each) for period in range(periods) for each in stacked]


def unrolled(params: Params, model: Model) -> Params:
    """Parameters with each layer of the decoder by itself, as a cache asks for, in the type of the activations.

    What is computed with in float32, vectors, biases and T5's bias, stays so.
    """
    decoder, layers = dict(params["decoder"]), []
    for name, periods, windows in scans(model, model.decoder_layers):
        stacked = decoder.pop(name)
        layers += _layers([stacked[f"layer_{n}"] for n in range(len(windows))] if windows[1:] else [stacked], periods)
    decoder[LAYERS] = {str(number): layer for number, layer in enumerate(layers)}
    used = {name: value for name, value in params.items() if name != "encoder"} | {"decoder": decoder}
    dtype = jnp.dtype(model.dtype)

    def cast_to_activations(path: Any, leaf: Array) -> Array:
        name = path[-1].key
        wide = leaf.ndim < 2 or name == "relative" or name.endswith("_bias") or model.lora.dora
        return leaf if wide else leaf.astype(dtype)

    return jax.tree_util.tree_map_with_path(cast_to_activations, used)
