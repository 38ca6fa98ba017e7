"""The loss of a vocabulary without its scores: they are made, used and forgotten a chunk of tokens at a time.

Float32 scores of a batch are often the largest array of a step: 128 rows of 2,048 tokens take 53 GB with 50,257 of them
each. Here a device holds those of `CHUNK_BYTES` at most. Since the objective is a sum whose weights are known
beforehand, each chunk's gradient is found while its scores are there (as Liger's fused loss does, Hsu et al. 2024), so
nothing is computed twice: three matrix products in all, as without chunks. Every device works on its own rows and
positions, and the gradient of the matrix is summed over devices once, at the end.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from t5like.config import Rules
from t5like.model.heads import LMHeadInputs
from t5like.model.sharding import spec
from t5like.train.losses import UNSMOOTHED, Smoothing, Sums, TokenLosses, smoothed, sums_of, token_losses

CHUNK_BYTES = 2**27
"""Float32 scores that a device holds at once."""


class Targets(NamedTuple):
    """Target token ids, int32, and loss weights, float32, `[batch, length]`."""

    tokens: Any
    weights: Any


class Cost(NamedTuple):
    """The cost of a token besides its cross-entropy: the weight of log(Z)^2, and smoothing."""

    z_loss: float
    smoothing: Smoothing


def chunked_sums(
    inputs: LMHeadInputs,
    targets: Targets,
    z_loss: float,
    rules: Rules,
    chunk_bytes: int = CHUNK_BYTES,
    smoothing: Smoothing = UNSMOOTHED,
) -> Sums:
    """The sums of `losses.weighted_sums`, with the gradient of `objective` to the inputs; the others have none.

    Products take the type of `x`, and the gradient of the matrix is summed in float32.
    """
    over_devices = functools.partial(
        _over_devices, targets=targets, cost=Cost(z_loss, smoothing), rules=rules, chunk_bytes=chunk_bytes
    )

    @jax.custom_vjp
    def sums(inputs: LMHeadInputs) -> Sums:
        return over_devices(inputs, gradient=False)[0]

    def forward(inputs: LMHeadInputs) -> tuple[Sums, LMHeadInputs]:
        return over_devices(inputs, gradient=True)

    def backward(gradient: LMHeadInputs, incoming: Sums) -> tuple[LMHeadInputs]:
        return (jax.tree.map(lambda g: g * incoming["objective"].total.astype(g.dtype), gradient),)

    sums.defvjp(forward, backward)
    return sums(inputs)


def chunked_losses(
    inputs: LMHeadInputs, tokens: Int[Array, "batch length"], rules: Rules, chunk_bytes: int = CHUNK_BYTES
) -> TokenLosses:
    """`losses.token_losses` of the inputs's scores, each `[batch, length]` float32; they have no gradient."""
    rows, whole = spec(rules, ("batch", "length")), PartitionSpec()

    def local(inputs: LMHeadInputs, tokens: Array) -> TokenLosses:
        x, matrix, bias = inputs
        cut = _cutter(tokens.size, matrix.shape[1], chunk_bytes)
        of_chunk = lambda part: token_losses(_scores(matrix, bias, part[0]), part[1])  # noqa: E731
        found = jax.lax.map(of_chunk, (cut(x), cut(tokens)))
        return jax.tree.map(lambda each: each.reshape(-1)[: tokens.size].reshape(tokens.shape), found)

    placed = LMHeadInputs(rows, whole, whole), rows
    over_devices = jax.shard_map(
        local, in_specs=placed, out_specs=rows, axis_names={*rules.batch, *rules.length}, check_vma=False
    )
    return over_devices(_narrow(inputs), tokens)


def _over_devices(
    inputs: LMHeadInputs, targets: Targets, gradient: bool, cost: Cost, rules: Rules, chunk_bytes: int
) -> tuple[Sums, Any]:
    """`_local` on every device's rows and positions; axes that split the vocabulary alone stay with the compiler."""
    split = (*rules.batch, *rules.length)
    scattered = tuple(axis for axis in rules.embed if axis in split)
    rows, whole = spec(rules, ("batch", "length")), PartitionSpec()
    given = LMHeadInputs(rows, whole, whole), Targets(rows, rows)
    made = LMHeadInputs(rows, PartitionSpec(scattered or None), whole) if gradient else None

    def local(inputs: LMHeadInputs, targets: Targets) -> tuple[Sums, Any]:
        sums, by = _local(inputs, targets, gradient, cost, chunk_bytes)
        sums = jax.lax.psum(sums, split)
        if by is None:
            return sums, None
        matrix, rest = by.matrix, tuple(axis for axis in split if axis not in scattered)
        if scattered:
            matrix = jax.lax.psum_scatter(matrix, scattered, scatter_dimension=0, tiled=True)
        return sums, LMHeadInputs(by.x, jax.lax.psum(matrix, rest), jax.lax.psum(by.bias, split))

    placed = jax.shard_map(local, in_specs=given, out_specs=(whole, made), axis_names=set(split), check_vma=False)
    return placed(_narrow(inputs), targets)


def _narrow(inputs: LMHeadInputs) -> LMHeadInputs:
    """The inputs with its matrix in the type of activations."""
    return inputs._replace(matrix=inputs.matrix.astype(inputs.x.dtype))


def _cutter(tokens: int, vocab: int, chunk_bytes: int) -> Callable[[Array], Array]:
    """A function [batch, length, …] -> [chunks, tokens, …] whose last chunk is filled up with zeros; the scores of a
    chunk take at most `chunk_bytes`."""
    chunks = min(tokens, -(-tokens * vocab * 4 // chunk_bytes))
    size = -(-tokens // chunks)

    def cut(a: Array) -> Array:
        flat = a.reshape(tokens, *a.shape[2:])
        padded = jnp.pad(flat, [(0, chunks * size - tokens), *[(0, 0)] * (flat.ndim - 1)])
        return padded.reshape(chunks, size, *flat.shape[1:])

    return cut


def _local(
    inputs: LMHeadInputs, targets: Targets, gradient: bool, cost: Cost, chunk_bytes: int
) -> tuple[Sums, LMHeadInputs | None]:
    """One device's part of the sums and of the gradient, chunk after chunk."""
    x, matrix, bias = inputs
    cut = _cutter(targets.tokens.size, matrix.shape[1], chunk_bytes)

    def gradient_of(part: tuple[Array, Array, Array]) -> tuple[Any, Any]:
        sums, by_scores = _chunk(matrix, bias, *part, cost)
        if not gradient:
            return (sums, None), None
        narrow = by_scores.astype(x.dtype)
        by_matrix = jnp.einsum("nd,nv->dv", part[0], narrow, preferred_element_type=jnp.float32)
        return (sums, LMHeadInputs(None, by_matrix, jnp.sum(by_scores, axis=0))), jnp.einsum(
            "nv,dv->nd", narrow, matrix
        )

    def body(total: Any, part: tuple[Array, Array, Array]) -> tuple[Any, Any]:
        new, by_x = gradient_of(part)
        return jax.tree.map(jnp.add, total, new), by_x

    parts = cut(x), cut(targets.tokens), cut(targets.weights)
    shapes, _ = jax.eval_shape(lambda: gradient_of(jax.tree.map(lambda a: a[0], parts)))
    start = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    (sums, by), by_x = jax.lax.scan(body, start, parts)
    if not gradient:
        return sums, None
    return sums, by._replace(x=by_x.reshape(-1, x.shape[2])[: targets.tokens.size].reshape(x.shape))


def _chunk(
    matrix: Float[Array, "embed vocab"],
    bias: Float[Array, " vocab"],
    x: Float[Array, "tokens embed"],
    tokens: Int[Array, " tokens"],
    weights: Float[Array, " tokens"],
    cost: Cost,
) -> tuple[Sums, Float[Array, "tokens vocab"]]:
    """The sums of some tokens, and the gradient of their objective to their scores.

    Of w * (log Z - s_target + z * log(Z)^2) it is w * (softmax(s) * (1 + 2 z log Z) - one_hot(target)); where targets
    are smoothed, these are (1 - share) * one_hot(target) + share / tokens.
    """
    share, tokens_there = cost.smoothing
    scores = _scores(matrix, bias, x)
    losses = token_losses(scores, tokens)
    softmax = jnp.exp(scores - losses.log_z[:, None]) * (1 + 2 * cost.z_loss * losses.log_z)[:, None]
    numbers = jax.lax.broadcasted_iota(tokens.dtype, scores.shape, 1)
    wanted = (numbers == tokens[:, None]).astype(jnp.float32)
    if share:
        wanted = (1 - share) * wanted + share / tokens_there * (numbers < tokens_there).astype(jnp.float32)
    by_scores = weights[:, None] * (softmax - wanted)
    return sums_of(losses, smoothed(losses, scores, cost.smoothing), weights, cost.z_loss), by_scores


def _scores(
    matrix: Float[Array, "embed vocab"], bias: Float[Array, " vocab"], x: Float[Array, "tokens embed"]
) -> Float[Array, "tokens vocab"]:
    return jnp.einsum("nd,dv->nv", x, matrix, preferred_element_type=jnp.float32) + bias[None]
