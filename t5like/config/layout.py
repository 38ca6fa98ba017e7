"""Sharding: the mesh of devices, and the mesh axes that each dimension of an array is split over.

The strategies that users know by name are values of `Rules`. What a mesh splits follows from both: under the default
rules a mesh of `fsdp` alone is fully sharded data parallelism, one with `tensor` adds tensor parallelism, and so on.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from t5like.config.checks import require, require_fields

MeshAxes = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Devices along each mesh axis; one axis may be -1 and takes all that are left."""

    slice: int = 1
    """Between slices, over the data-centre network: copies of the model."""
    data: int = 1
    """Copies of the model within a slice."""
    fsdp: int = -1
    """Rows of the batch and, with them, shards of the parameters."""
    sequence: int = 1
    """Parts of the length."""
    tensor: int = 1
    """Parts of heads, feed-forward layers and vocabulary."""

    def __post_init__(self) -> None:
        require_fields("mesh", self)
        sizes = dataclasses.astuple(self)
        require(
            all(size > 0 or size == -1 for size in sizes) and sizes.count(-1) <= 1,
            f"mesh {dataclasses.asdict(self)}: every axis must be above 0, and at most one of them -1.",
        )


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The mesh axes that each dimension is split over, a field per dimension; () keeps it whole."""

    batch: MeshAxes = ("slice", "data", "fsdp")
    """Rows of a batch."""
    length: MeshAxes = ("sequence",)
    """Tokens of a row."""
    act_embed: MeshAxes = ()
    """Residual stream of activations."""
    act_heads: MeshAxes = ("tensor",)
    """Heads of queries, and of keys and values where these have as many."""
    act_kv_heads: MeshAxes = ("tensor",)
    """Heads of keys and values that several queries share."""
    act_mlp: MeshAxes = ("tensor",)
    """Hidden feed-forward activations."""
    act_vocab: MeshAxes = ("tensor",)
    """Logits."""
    layers: MeshAxes = ()
    """Layers of a stack, in every parameter that each layer has."""
    vocab: MeshAxes = ("tensor",)
    """Rows of the embedding and columns of the output."""
    embed: MeshAxes = ("fsdp",)
    """Residual stream in matrices."""
    heads: MeshAxes = ("tensor",)
    """Heads in matrices."""
    kv_heads: MeshAxes = ("tensor",)
    """Heads of keys and values that several queries share, in matrices."""
    kv: MeshAxes = ()
    """Width of a head in matrices."""
    mlp: MeshAxes = ("tensor",)
    """Hidden feed-forward width in matrices."""
    buckets: MeshAxes = ()
    """Buckets of the relative position bias."""
    positions: MeshAxes = ()
    """Rows of a learned position table."""
    types: MeshAxes = ()
    """Token types."""
    pooled: MeshAxes = ()
    """Width of what BERT's pooler and its transform before the output make."""
    rank: MeshAxes = ()
    """Rank of low-rank adapters."""
    labels: MeshAxes = ()
    """Labels of a row or of a token."""
    norm: MeshAxes = ()
    """Scales and biases of the width of the residual stream, too small to split."""

    def __post_init__(self) -> None:
        require_fields("rules", self)
        known = [field.name for field in dataclasses.fields(Mesh)]
        for name, axes in dataclasses.asdict(self).items():
            require(len(set(axes)) == len(axes), f"rules.{name}={axes} names a mesh axis twice: leave one out.")
            for axis in axes:
                require(axis in known, f"rules.{name} names mesh axis {axis!r}; there are {', '.join(known)}.")

    def uses(self, axis: str) -> bool:
        """True if devices along a mesh axis share the work, by rows, positions or parts of activations."""
        shared = {n: axes for n, axes in dataclasses.asdict(self).items() if n in ("batch", "length")}
        shared |= {n: axes for n, axes in dataclasses.asdict(self).items() if n.startswith("act_")}
        return any(axis in axes for axes in shared.values())


_MATRICES: Any = dict.fromkeys(("vocab", "embed", "heads", "kv_heads", "mlp"), ())
_WITHOUT_TENSOR: Any = dict.fromkeys(("act_heads", "act_kv_heads", "act_mlp", "act_vocab", "length"), ())
STRATEGIES = {
    "replicated": Rules(**_WITHOUT_TENSOR, **_MATRICES),
    "fsdp": Rules(**_WITHOUT_TENSOR, **{**_MATRICES, "embed": ("fsdp",)}),
    "fsdp+tensor": Rules(length=()),
    "sequence": Rules(),
}
"""Rules by the names that users know; `--rules NAME` takes one.

`replicated`: every device has all parameters (data parallelism). `fsdp`: parameters and optimizer state are split with
the rows of a batch (ZeRO-3, Rajbhandari et al. 2020). `fsdp+tensor`: heads, feed-forward widths and vocabulary are
split too (Shoeybi et al. 2019). `sequence`: as before, and the positions of a row over the mesh axis of that name.
"""
