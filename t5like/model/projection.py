"""Projections: a weight, the product of activations with it, and its bias.

Every product with a parameter goes through `project`, and every weight of a layer is declared by `projection`: what
changes the product of a weight, such as low-rank adapters or quantisation, attaches here.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from t5like.config import Lora, Rules
from t5like.model.adapters import Adapter, adapter
from t5like.model.layers import add_bias
from t5like.model.sharding import param


def fan_in(*axes: int, scale: float = 1.0) -> nn.initializers.Initializer:
    """Truncated normal values with variance scale / (product of the contracted axes)."""

    def initial(key: Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        # Axes that are neither count as fields that each input reaches, and so for the fan: the others are outputs.
        out = tuple(axis for axis in range(len(shape)) if axis not in axes)
        scaled = nn.initializers.variance_scaling(scale, "fan_in", "truncated_normal", in_axis=axes, out_axis=out)
        return scaled(key, shape, dtype)

    return initial


def project(
    equation: str,
    x: Float[Array, "*inputs"],
    kernel: Float[Array, "*shape"],
    bias: Float[Array, "*features"] | None = None,
    wide: bool = False,
) -> Float[Array, "*outputs"]:
    """The einsum of `x` and a float32 kernel in the type of `x`, plus a bias; `wide` gives float32 sums instead."""
    narrow = kernel.astype(x.dtype)
    if wide:
        y = jnp.einsum(equation, x, narrow, preferred_element_type=jnp.float32)
    else:
        y = cast(Array, product(equation, x, narrow))
    return y if bias is None else add_bias(y, bias)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def product(equation: str, x: Float[Array, "*inputs"], kernel: Float[Array, "*shape"]) -> Float[Array, "*outputs"]:
    """The einsum of `x` and a kernel of its type, whose gradient takes the narrower of two arrays first.

    The kernel's gradient is a product over all tokens, of which XLA for CPUs copies the first array, transposed, with
    all that leads to it: JAX's own rule puts the gradient of the output there, and the upward matrix of a feed-forward
    layer, 512 to 1,024, took twice as long.
    """
    return jnp.einsum(equation, x, kernel)


def _product_forward(equation: str, x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return jnp.einsum(equation, x, kernel), (x, kernel)


def _product_backward(equation: str, kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """With y = x W over tokens: dx = dy W^T, and dW = x^T dy = (dy^T x)^T."""
    (x, kernel), (operands, _, outputs) = kept, equation.partition("->")
    inputs, _, weights = operands.partition(",")
    by_x = jnp.einsum(f"{outputs},{weights}->{inputs}", gradient, kernel)
    if x.size <= gradient.size:
        return by_x, jnp.einsum(f"{inputs},{outputs}->{weights}", x, gradient)
    swapped = "".join(sorted(weights, key=lambda letter: letter in inputs))
    by_kernel = jax.lax.optimization_barrier(jnp.einsum(f"{outputs},{inputs}->{swapped}", gradient, x))
    return by_x, by_kernel.transpose([swapped.index(letter) for letter in weights])


product.defvjp(_product_forward, _product_backward)


@dataclass(frozen=True)
class Projection:
    """A declared weight, to be called with activations; `axes` are the names of the kernel's dimensions."""

    equation: str
    kernel: Array
    axes: tuple[str, ...]
    rules: Rules
    bias: Array | None = None
    adapter: Adapter | None = None

    def __call__(self, x: Float[Array, "*inputs"], wide: bool = False) -> Float[Array, "*outputs"]:
        """The product of `x`, in its type or, if `wide`, in float32."""
        if self.adapter is None:
            return project(self.equation, x, self.kernel, self.bias, wide)
        y = self.adapter(x, project(self.equation, x, self.kernel, wide=wide), self.kernel)
        return y if self.bias is None else add_bias(y, self.bias)

    def with_bias(self, module: nn.Module, name: str) -> "Projection":
        """The projection with a bias, declared now, of the kernel's output dimensions."""
        kept = _dimensions(self.equation, contracted=False)
        shape = tuple(self.kernel.shape[number] for number in kept)
        # The residual stream is whole on every device, so a bias of its width is too.
        axes = tuple("norm" if self.axes[number] == "embed" else self.axes[number] for number in kept)
        return replace(self, bias=param(module, name, self.rules, shape, axes, nn.initializers.zeros))

    def with_adapter(self, module: nn.Module, name: str, lora: Lora) -> "Projection":
        """The projection with low-rank adapters, declared now, if `lora` has `name` among its targets."""
        if not lora.rank or name not in lora.targets:
            return self
        declared = adapter(module, name, lora, self.rules, self.equation, self.kernel, self.axes)
        return replace(self, adapter=declared)


def projection(
    module: nn.Module,
    name: str,
    rules: Rules,
    equation: str,
    shape: tuple[int, ...],
    axes: tuple[str, ...],
    scale: float = 1.0,
) -> Projection:
    """Declare the kernel of `equation`'s second operand, with initial variance scale / (its contracted sizes)."""
    initial = fan_in(*_dimensions(equation, contracted=True), scale=scale)
    return Projection(equation, param(module, name, rules, shape, axes, initial), axes, rules)


def _dimensions(equation: str, contracted: bool) -> list[int]:
    """The kernel's dimensions that a product contracts, or those that it keeps: [0] or [1, 2] of bld,dhk->blhk."""
    operands, _, output = equation.partition("->")
    kernel = operands.rpartition(",")[2]
    return [number for number, letter in enumerate(kernel) if (letter not in output) == contracted]
