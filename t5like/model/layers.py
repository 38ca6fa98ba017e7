"""The arithmetic of a Transformer, as pure functions of arrays. Nothing here knows of Flax, meshes or configs."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Hidden = Float[Array, "batch length embed"]


# Both norms are float32 up to their result, so that the gradients of scale and bias, sums over all tokens, add up in
# float32. `jax.checkpoint` keeps their input alone for the backward pass, which is in the type of activations: without
# it the float32 arrays in between take 1.0 of 4.7 GiB of T5 1.1 base's temporaries (v5e:4x4, no remat).


@functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=2)
def rms_norm(x: Hidden, scale: Float[Array, " embed"], epsilon: float) -> Hidden:
    """Root-mean-square normalisation (Zhang and Sennrich 2019), as T5 has it."""
    wide = x.astype(jnp.float32)
    variance = jnp.mean(jnp.square(wide), axis=-1, keepdims=True)
    return (wide * jax.lax.rsqrt(variance + epsilon) * scale[None, None]).astype(x.dtype)


@functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=3)
def layer_norm(x: Hidden, scale: Float[Array, " embed"], bias: Float[Array, " embed"], epsilon: float) -> Hidden:
    """LayerNorm (Ba et al. 2016)."""
    wide = x.astype(jnp.float32)
    centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + epsilon) * scale[None, None] + bias[None, None]).astype(x.dtype)


def add_bias(x: Float[Array, "*shape"], bias: Float[Array, "*features"]) -> Float[Array, "*shape"]:
    """`x` plus a float32 bias of its last dimensions, added in float32, so that the bias's gradient is too."""
    rows = x.ndim - bias.ndim
    return (x.astype(jnp.float32) + jnp.expand_dims(bias, tuple(range(rows)))).astype(x.dtype)


def activate(x: Float[Array, "*shape"], name: str) -> Float[Array, "*shape"]:
    """The activation that `config.model.activation` names."""
    return {
        "relu": jax.nn.relu,
        "gelu": lambda x: jax.nn.gelu(x, approximate=False),
        "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
        "silu": jax.nn.silu,
    }[name](x)


@functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=2)
def activated(x: Float[Array, "*shape"], up: Float[Array, "*shape"] | None, name: str) -> Float[Array, "*shape"]:
    """The activation of `x` that `config.model.activation` names, times `up` where the layer is gated (Shazeer 2020).

    For the backward pass `jax.checkpoint` keeps `x` and `up` alone: GELU's own six arrays in between are as large.
    """
    y = activate(x, name)
    return y if up is None else y * up


def dropout(x: Float[Array, "*shape"], rate: float, key: Array) -> Float[Array, "*shape"]:
    """Zero a share of `x` and scale the rest; one mask serves all positions along the second-last axis, as in T5."""
    shape = (*x.shape[:-2], 1, x.shape[-1])
    kept = jax.random.bernoulli(key, 1 - rate, shape)
    return jnp.where(kept, x / jnp.asarray(1 - rate, x.dtype), jnp.zeros((), x.dtype))


def relative_bucket(
    distance: Int[Array, "*shape"], buckets: int, max_distance: int, causal: bool
) -> Int[Array, "*shape"]:
    """T5's bucket of key position - query position: exact when near, logarithmic when far.

    Half of the buckets are exact; bidirectional stacks use one half of all for each side (Raffel et al. 2020).
    """
    if causal:
        offset, distance = jnp.zeros_like(distance), jnp.maximum(-distance, 0)
    else:
        buckets //= 2
        offset, distance = jnp.where(distance > 0, buckets, 0), jnp.abs(distance)
    exact = buckets // 2
    ratio = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact) / jnp.log(jnp.float32(max_distance / exact))
    far = exact + (ratio * (buckets - exact)).astype(jnp.int32)
    return offset + jnp.where(distance < exact, distance, jnp.minimum(far, buckets - 1))


def sinusoids(positions: Int[Array, "batch length"], embed: int) -> Float[Array, "batch length embed"]:
    """The fixed position vectors of Vaswani et al. 2017: sines in the first half, cosines in the second."""
    angles = _angles(positions, rope_frequencies(embed, 10_000.0))
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def apply_rope(
    x: Float[Array, "batch length heads kv"], positions: Int[Array, "batch length"], frequencies: Float[Array, " half"]
) -> Float[Array, "batch length heads kv"]:
    """Rotary position embeddings (Su et al. 2021) over the two halves of each head, as in Llama; each pair of
    dimensions turns by its frequency, in radians a token."""
    angles = _angles(positions, frequencies)[:, :, None]  # [batch, length, 1, half]
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def rope_frequencies(width: int, base: float) -> Float[Array, " half"]:
    """Frequencies of width / 2 pairs of dimensions, from 1 to nearly 1 / base, in radians a token; `base` is theta."""
    return base ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)


def llama3_rope_scaling(
    frequencies: Float[Array, " half"], factor: float, low_factor: float, high_factor: float, length: int
) -> Float[Array, " half"]:
    """Llama 3.1's scaling (Grattafiori et al. 2024): waves that fit fewer than `low_factor` times into `length` tokens
    turn `factor` times slower, those that fit more than `high_factor` times as before, and others in between."""
    fits = length * frequencies / (2 * jnp.pi)
    kept = jnp.clip((fits - low_factor) / (high_factor - low_factor), 0, 1)
    return frequencies * (kept + (1 - kept) / factor)


def _angles(
    positions: Int[Array, "batch length"], frequencies: Float[Array, " half"]
) -> Float[Array, "batch length half"]:
    return positions.astype(jnp.float32)[:, :, None] * frequencies[None, None]
