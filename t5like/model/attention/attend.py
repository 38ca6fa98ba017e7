"""Attention: one `attend` with its implementations.

`plain` is XLA's own and the measure of the others; `by_rows` is for CPUs; `flash.linear` has memory linear in the
length; `kernels` has splash for TPUs and cuDNN for GPUs. All take the same described masks and biases and give the same
numbers.
"""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from t5like.config import Rules
from t5like.errors import UserError
from t5like.model.attention.flash import linear
from t5like.model.attention.kernels import cudnn, cudnn_obstacle, splash, splash_obstacle
from t5like.model.attention.local import with_heads
from t5like.model.attention.masks import HIDDEN, AttentionMask, Keys, Query, Relative
from t5like.model.layers import dropout

KERNELS = {"tpu": "splash", "gpu": "cudnn"}
SOME_SCORES = 2**16
"""Scores of one row from which on "auto" computes one row after the other on a CPU: a row of 4 heads and 128 tokens."""
KINDS = ("plain", "linear", "splash", "cudnn")
Scores = Float[Array, "batch heads query key"]
MANY_SCORES = 2048**2
"""Scores of one row and head from which on "auto" keeps none of them."""


def attend(
    query: Query,
    keys: Keys,
    values: Keys,
    mask: AttentionMask,
    relative: Relative | None,
    rules: Rules,
    kind: str = "auto",
    drop: tuple[float, Array] | None = None,
) -> Query:
    """Softmax attention, computed as `kind` says, a value of `config.Model.attention`.

    Where keys have fewer heads, heads / kv_heads successive queries share one (Ainslie et al. 2023). `drop` is a rate
    and a key for dropout of the weights, whose mask all queries of a head share, as in T5: dropping the values of these
    keys does the same without any weights at hand.

    Raises:
      UserError: `kind` cannot compute this here; the sentence names those that can.
    """
    kind = choose(kind, query, keys, mask, relative, rules)
    if drop is not None:
        keys, values = with_heads(keys, query.shape[2]), with_heads(values, query.shape[2])
        values = dropout(values.transpose(0, 2, 3, 1), *drop).transpose(0, 3, 1, 2)
    if kind == "rows":
        return by_rows(query, keys, values, mask, relative)
    if kind == "linear":
        return linear(query, keys, values, mask, relative, rules)
    if kind == "splash":
        return splash(query, keys, values, mask, rules)
    if kind == "cudnn":
        return cudnn(query, keys, values, mask, relative, rules)
    return plain(query, keys, values, mask, relative)


def plain(query: Query, keys: Keys, values: Keys, mask: AttentionMask, relative: Relative | None) -> Query:
    """Softmax attention with all scores at once; scores and softmax are float32 whatever the inputs are."""
    keys, values = with_heads(keys, query.shape[2]), with_heads(values, query.shape[2])
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, keys, preferred_element_type=jnp.float32)
    if relative is not None:
        scores += relative.matrix(mask)
    scores += jnp.where(mask.matrix(), jnp.float32(0), jnp.float32(HIDDEN))[:, None]
    weights = softmax(scores, values.dtype)
    return checkpoint_name(jnp.einsum("bhqk,bkhd->bqhd", weights, values), "attended")


def by_rows(query: Query, keys: Keys, values: Keys, mask: AttentionMask, relative: Relative | None) -> Query:
    """The same, one row of the batch after the other, whose scores stay in a CPU's cache; sums of weights divide the
    output, which is smaller than they are. At 8 rows of 512 tokens it takes half the time of `plain`."""
    bias = None if relative is None else relative.matrix(mask)[0]

    def one(row: tuple[Array, ...]) -> Array:
        query, keys, values, *segments = row
        # [tokens, heads, kv] -> [kv_heads, group * tokens, kv]: heads that share keys are queries of one
        length, heads, kv = query.shape
        grouped = query.reshape(length, keys.shape[1], -1, kv).transpose(1, 2, 0, 3).reshape(keys.shape[1], -1, kv)
        scores = jnp.einsum("hqd,khd->hqk", grouped, keys, preferred_element_type=jnp.float32)
        scores = scores.reshape(heads, length, -1)
        scores = scores if bias is None else scores + bias
        own = replace(mask, query_segments=segments[0][None], key_segments=segments[1][None])
        scores += jnp.where(own.matrix(), jnp.float32(0), jnp.float32(HIDDEN))
        weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
        sums = weights.sum(axis=-1)
        weights = weights.astype(values.dtype).reshape(keys.shape[1], -1, keys.shape[0])
        mean = jnp.einsum("hqk,khd->hqd", weights, values, preferred_element_type=jnp.float32)
        return (mean.reshape(heads, length, kv) / sums[..., None]).swapaxes(0, 1).astype(values.dtype)

    rows = query, keys, values, mask.query_segments, mask.key_segments
    return checkpoint_name(jax.lax.map(jax.checkpoint(one, prevent_cse=False), rows), "attended")


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def softmax(scores: Scores, dtype: jnp.dtype) -> Scores:
    """Softmax over keys, computed in float32 and given, and kept for the backward pass, in another type.

    JAX's own keeps the float32 weights besides, twice the size of bfloat16 ones: without remat they were a quarter of
    the memory of T5 1.1 base's step.
    """
    return jax.nn.softmax(scores, axis=-1).astype(dtype)


def _softmax_forward(scores: Scores, dtype: jnp.dtype) -> tuple[Scores, Scores]:
    weights = jax.nn.softmax(scores, axis=-1).astype(dtype)
    return weights, weights


def _softmax_backward(dtype: jnp.dtype, kept: Scores, gradient: Scores) -> tuple[Scores]:
    """dS = P * (dP - sum(P * dP)) over keys, with P the weights."""
    weights, gradient = kept.astype(jnp.float32), gradient.astype(jnp.float32)
    product = weights * gradient
    return (product - weights * product.sum(-1, keepdims=True),)


softmax.defvjp(_softmax_forward, _softmax_backward)


def choose(kind: str, query: Query, keys: Keys, mask: AttentionMask, relative: Relative | None, rules: Rules) -> str:
    """The kind of attention that a model's `attention` means for these shapes on the current mesh's devices.

    Raises:
      UserError: it asks for one that cannot compute this.
    """
    where = platform()
    hindered = {name: obstacle(name, where, query, keys, mask, relative, rules) for name in KINDS}
    if kind == "auto":
        kernel = KERNELS.get(where, "")
        # cuDNN's kernel takes T5's bias, but as large a matrix as the scores.
        if kernel and hindered[kernel] is None and (kernel == "splash" or relative is None):
            return kernel
        scores = query.shape[1] * keys.shape[1]
        if where == "cpu" and scores <= MANY_SCORES and query.shape[0] > 1 and scores * query.shape[2] >= SOME_SCORES:
            # The rows of a batch are split over devices, where there are several.
            return "rows" if jax.sharding.get_abstract_mesh().size == 1 else "plain"
        return "linear" if scores > MANY_SCORES else "plain"
    if hindered[kind] is not None:
        able = ", ".join(repr(name) for name in KINDS if hindered[name] is None)
        raise UserError(
            f"model.attention={kind!r} cannot be used here, as {hindered[kind]}: choose 'auto' or one of {able}."
        )
    return kind


def obstacle(
    kind: str, platform: str, query: Query, keys: Keys, mask: AttentionMask, relative: Relative | None, rules: Rules
) -> str | None:
    """The reason that a kind of attention cannot be used, as the end of a sentence; None if it can."""
    if mask.window is not None and kind in KERNELS.values():
        return "it takes no attention windows"
    if kind == "splash":
        return splash_obstacle(platform, query, keys, relative, rules)
    return cudnn_obstacle(platform, query, keys) if kind == "cudnn" else None


def platform() -> str:
    """The platform that the current program compiles for: that of the mesh in context, else the default backend."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform
