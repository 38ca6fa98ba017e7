"""Attention kernels that others wrote: JAX's splash kernel for TPUs and cuDNN's for NVIDIA's GPUs.

Each has a function that says what stands in the way of using it, so that "auto" passes by it and a user is told.
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import NamedSharding, PartitionSpec

from t5like.config import Rules
from t5like.model.attention.local import on_each_device
from t5like.model.attention.masks import Keys, Query, Relative, Seen
from t5like.model.sharding import parts_of, shard

LANES = 128
"""Splash works on tiles of so many queries and keys."""
SPLASH_BLOCK = 512
CUDNN_WIDTH = 128
"""The widest head that cuDNN's backward pass takes on every GPU that it supports."""


def splash_obstacle(platform: str, query: Query, keys: Keys, relative: Relative | None, rules: Rules) -> str | None:
    """Why the splash kernel cannot be used, as the end of a sentence; None if it can."""
    if platform != "tpu":
        return f"it runs on TPUs, not on a {platform}"
    if relative is not None:
        return "it takes no relative position bias"
    parts = parts_of(rules.length)
    if query.shape[1] % (LANES * parts) or keys.shape[1] % LANES:
        each = f" on each of {parts} parts" if parts > 1 else ""
        return f"{query.shape[1]} queries and {keys.shape[1]} keys must be multiples of {LANES}{each}"
    return None


def splash(query: Query, keys: Keys, values: Keys, seen: Seen, rules: Rules, interpret: bool = False) -> Query:
    """Softmax attention by JAX's splash kernel; `interpret` runs it on any platform, slowly.

    A query that sees nothing, as only padding does, attends evenly to the keys of the blocks that are visited.
    """
    parts = parts_of(rules.length)
    heads = query.shape[2] // parts_of(rules.act_heads)
    kernel = _splash_kernel(heads, query.shape[1], keys.shape[1], seen.causal, parts, interpret)
    mesh: Any = jax.sharding.get_abstract_mesh()
    places = kernel.manual_sharding_spec(NamedSharding(mesh, PartitionSpec(None, rules.length or None)))
    return on_each_device(_splash_here, query, keys, values, seen, rules, (kernel, places))


def _splash_here(query: Query, keys: Keys, values: Keys, seen: Seen, part: Any, kernel: Any) -> Query:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel

    segments = splash_attention_kernel.SegmentIds(seen.query_segments, seen.key_segments)
    heads_first = (jnp.moveaxis(x, 2, 1) for x in (query, keys, values))
    return jnp.moveaxis(jax.vmap(kernel)(*heads_first, segments), 1, 2)


def _splash_kernel(heads: int, queries: int, keys: int, causal: bool, parts: int, interpret: bool) -> Any:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel, splash_attention_mask

    kind = splash_attention_mask.CausalMask if causal else splash_attention_mask.FullMask
    rows, columns = _block(queries // parts), _block(keys)
    sizes = splash_attention_kernel.BlockSizes(
        block_q=rows,
        block_kv=columns,
        block_q_dkv=rows,
        block_kv_dkv=columns,
        block_q_dq=rows,
        block_kv_dq=columns,
    )
    return splash_attention_kernel.make_splash_mha(
        splash_attention_mask.MultiHeadMask([kind((queries, keys)) for _ in range(heads)]),
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=parts,
        residual_checkpoint_name="attended",
        interpret=interpret,
    )


def _block(length: int) -> int:
    """The largest block that divides the length."""
    return next(size for size in range(SPLASH_BLOCK, 0, -LANES) if length % size == 0)


def cudnn_obstacle(platform: str, query: Query, keys: Keys) -> str | None:
    """Why cuDNN's kernel cannot be used, as the end of a sentence; None if it can."""
    if platform != "gpu" or not _has_flash_attention(jax.devices()[0]):
        return f"it runs on NVIDIA's GPUs from Ampere on, not on {jax.devices()[0].device_kind} or for a {platform}"
    if query.dtype not in (jnp.bfloat16, jnp.float16):
        return f"it computes in bfloat16, not in model.dtype='{query.dtype}'"
    if query.shape[3] % 8 or query.shape[3] > CUDNN_WIDTH:
        return f"model.kv={query.shape[3]} must be a multiple of 8 and at most {CUDNN_WIDTH}"
    if query.shape[1] % 2 or keys.shape[1] % 2:
        return f"{query.shape[1]} queries and {keys.shape[1]} keys must be even numbers"
    return None


def cudnn(
    query: Query,
    keys: Keys,
    values: Keys,
    seen: Seen,
    relative: Relative | None,
    rules: Rules,
    implementation: Literal["cudnn", "xla"] = "cudnn",
) -> Query:
    """Softmax attention by cuDNN, through `jax.nn.dot_product_attention`.

    Segments reach it as a mask `[batch, 1, query, key]`, with a relative bias as `[batch, heads, query, key]` in the
    type of activations: smaller than plain attention's scores, but not linear in the length. Whole rows are gathered
    where the length is split over devices, as the kernel wants.
    """
    query = shard(query, rules, "batch", None, "act_heads", None)
    shared = "act_heads" if keys.shape[2] == query.shape[2] else "act_kv_heads"
    keys, values = (shard(x, rules, "batch", None, shared, None) for x in (keys, values))
    bias = None if relative is None else relative.matrix(seen).astype(query.dtype)
    y = jax.nn.dot_product_attention(
        query,
        keys,
        values,
        bias,
        seen.same_segment()[:, None],
        scale=1.0,
        is_causal=seen.causal,
        implementation=implementation,
    )
    return checkpoint_name(shard(y, rules, "batch", "length", "act_heads", None), "attended")


def _has_flash_attention(device: Any) -> bool:
    """Whether a device is one of NVIDIA's with compute capability 8.0 or more; AMD's have names there."""
    capability = getattr(device, "compute_capability", "")
    return capability.replace(".", "").isdecimal() and float(capability) >= 8
