"""Low-rank adapters: two small matrices beside the kernel of a projection, and the kernel that they make with it.

LoRA adds scale * x A B to x W (Hu et al. 2021). DoRA then gives each output's weights a length of its own (Liu et al.
2024): W' = m (W + scale A B) / |W + scale A B|, where m starts as |W| and the denominator counts as a constant in the
backward pass. The parameter is m - |W|, which starts at 0 whatever W is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from t5like.config import Lora, Rules
from t5like.model import layers
from t5like.model.sharding import Params, param

A, B, LENGTH = ENDS = "_lora_a", "_lora_b", "_lora_length"
"""Ends of the names of a kernel's adapters: those of `query` are `query_lora_a` and so on."""


@dataclass(frozen=True)
class Adapter:
    """Declared adapters of a kernel, to be called with what goes into the kernel's product and what comes out."""

    module: nn.Module
    lora: Lora
    equation: str
    a: Array
    b: Array
    length: Array | None

    def __call__(
        self, x: Float[Array, "*inputs"], y: Float[Array, "*outputs"], kernel: Float[Array, "*shape"]
    ) -> Float[Array, "*outputs"]:
        """The product of `x` and the adapted kernel, of which `y` is the product with the kernel itself."""
        inputs, weights, out = operands(self.equation)
        contracted = "".join(letter for letter in weights if letter not in out)
        kept = "".join(letter for letter in weights if letter in out)
        tokens = "".join(letter for letter in inputs if letter not in contracted)
        low = jnp.einsum(f"{inputs},{contracted}r->{tokens}r", self._dropped(x), self.a.astype(x.dtype))
        y += jnp.einsum(f"{tokens}r,r{kept}->{out}", low, self.b.astype(x.dtype)) * jnp.asarray(
            self.lora.scale, x.dtype
        )
        if self.length is None:
            return y
        axes = tuple(number for number, letter in enumerate(weights) if letter in contracted)
        product = jnp.einsum(f"{contracted}r,r{kept}->{weights}", self.a, self.b)
        ratio = lengths(kernel, self.lora.scale * product, self.length, axes)
        return y * jnp.expand_dims(ratio, tuple(range(y.ndim - ratio.ndim))).astype(y.dtype)

    def _dropped(self, x: Float[Array, "*inputs"]) -> Float[Array, "*inputs"]:
        if not (self.lora.dropout and self.module.has_rng("dropout")):
            return x
        flat = x.reshape(*x.shape[:2], -1)  # one mask along the length, of heads and their width together
        return layers.dropout(flat, self.lora.dropout, self.module.make_rng("dropout")).reshape(x.shape)


def adapter(
    module: nn.Module, name: str, lora: Lora, rules: Rules, equation: str, kernel: Array, axes: tuple[str, ...]
) -> Adapter:
    """Declare the adapters of a kernel. B starts at zero, so that the product is at first the kernel's."""
    _, weights, out = operands(equation)
    sides = [[number for number, letter in enumerate(weights) if (letter in out) == kept] for kept in (False, True)]
    (rows, row_axes), (columns, column_axes) = (
        (tuple(kernel.shape[number] for number in side), tuple(axes[number] for number in side)) for side in sides
    )
    # Uniform within 1 / sqrt(inputs), as in PEFT.
    uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform", in_axis=range(len(rows)), out_axis=-1)
    zeros = nn.initializers.zeros
    return Adapter(
        module,
        lora,
        equation,
        param(module, f"{name}{A}", rules, (*rows, lora.rank), (*row_axes, "rank"), uniform),
        param(module, f"{name}{B}", rules, (lora.rank, *columns), ("rank", *column_axes), zeros),
        param(module, f"{name}{LENGTH}", rules, columns, column_axes, zeros) if lora.dora else None,
    )


def operands(equation: str) -> list[str]:
    """The letters of inputs, kernel and output: `bld`, `dhk` and `blhk`."""
    return equation.replace("->", ",").split(",")


def lengths(kernel: Array, added: Array, length: Array, axes: Sequence[int]) -> Array:
    """DoRA's factor of each output: its length over that of its weights with `added`, in the dimensions `axes`."""
    before, after = (jnp.sqrt(jnp.sum(jnp.square(x), axis=tuple(axes))) for x in (kernel, kernel + added))
    return (jax.lax.stop_gradient(before) + length) / jax.lax.stop_gradient(after)


def is_adapter(path: str) -> bool:
    """True if a parameter is of an adapter."""
    return path.endswith(ENDS)


def merged(params: Params, lora: Lora) -> Params:
    """The parameters with all adapters in their kernels, which are stacked over layers; float32."""
    flat = cast(dict[str, jax.Array], flatten_dict(params, sep="/"))
    plain = {path: leaf for path, leaf in flat.items() if not is_adapter(path)}
    for path in flat:
        if path.endswith(A):
            name = path.removesuffix(A)
            plain[name] = _merged(flat[name], flat[path], flat[f"{name}{B}"], flat.get(f"{name}{LENGTH}"), lora.scale)
    return unflatten_dict(plain, sep="/")


def _merged(kernel: Array, a: Array, b: Array, length: Array | None, scale: float) -> Array:
    """[layers, *rows, *columns] of `a` [layers, *rows, rank] and `b` [layers, rank, *columns]."""
    count, rank = kernel.shape[0], a.shape[-1]
    left, right = a.reshape(count, -1, rank), b.reshape(count, rank, -1)
    added = scale * jnp.einsum("lir,lro->lio", left, right, precision="highest")
    flat = kernel.reshape(added.shape)
    if length is None:
        return (flat + added).reshape(kernel.shape)
    ratio = lengths(flat, added, length.reshape(count, -1), (1,))
    return ((flat + added) * ratio[:, None]).reshape(kernel.shape)
