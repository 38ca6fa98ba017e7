"""The choice of the next token of greedy and sampled rows, side by side.

How a row's tokens are chosen is data of the program, not part of it: another temperature, top-k or top-p compiles
nothing, and rows of one batch may differ in all three.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from t5like.config.sampling import Sampling

Logits = Float[Array, "batch vocab"]


class Sampler(NamedTuple):
    """Sampling of each row: temperature 0 takes the likeliest token; top_k 0 and top_p 1 leave out none.

    A row's random choices depend on its `seeds` and `numbers`, that of its prompt, alone.
    """

    temperature: Float[Array, " batch"]
    top_k: Int[Array, " batch"]
    top_p: Float[Array, " batch"]
    seeds: Int[Array, " batch"]
    numbers: Int[Array, " batch"]

    def keys(self) -> Key[Array, " batch"]:
        """A key for each row, to which the number of a token is folded in."""
        return jax.vmap(lambda seed, number: jax.random.fold_in(jax.random.key(seed), number))(self.seeds, self.numbers)


def make_sampler(sampling: Sampling, rows: int, seed: int = 0, first: int = 0) -> Sampler:
    """The same `sampling` for `rows` prompts that are numbered from `first`."""
    each = lambda value, dtype: jnp.full((rows,), value, dtype)  # noqa: E731
    return Sampler(
        each(sampling.temperature, jnp.float32),
        each(sampling.top_k, jnp.int32),
        each(sampling.top_p, jnp.float32),
        each(seed, jnp.int32),
        first + jnp.arange(rows, dtype=jnp.int32),
    )


def choose(logits: Logits, keys: Key[Array, " batch"], sampler: Sampler) -> Int[Array, " batch"]:
    """Choose the next token of each row by its own key; top-k is applied before top-p, both after the temperature.

    A batch without a sampled row pays for no random numbers, and one without top-k and top-p for no sorting.
    """
    greedy = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    sampled = sampler.temperature > 0

    def draw() -> Int[Array, " batch"]:
        warm = logits / jnp.where(sampled, sampler.temperature, jnp.float32(1))[:, None]
        filters = sampled & ((sampler.top_k > 0) | (sampler.top_p < 1))
        kept = jax.lax.cond(filters.any(), lambda: keep_likeliest(warm, sampler.top_k, sampler.top_p), lambda: warm)
        drawn = jax.vmap(jax.random.categorical)(keys, kept).astype(jnp.int32)
        return jnp.where(sampled, drawn, greedy)

    return jax.lax.cond(sampled.any(), draw, lambda: greedy)


def keep_likeliest(logits: Logits, top_k: Int[Array, " batch"], top_p: Float[Array, " batch"]) -> Logits:
    """Set all but the `top_k` likeliest tokens of each row to -inf (0: none), and then all but the fewest of these that
    have `top_p` of the probability together (Holtzman et al. 2020; 1: none)."""
    vocab = logits.shape[-1]
    ordered = jnp.sort(logits, axis=-1, descending=True)
    # The score of the k-th likeliest token, of the last where top_k is 0; equal ones are kept with it.
    last = jnp.where(top_k > 0, jnp.minimum(top_k, vocab), vocab)[:, None] - 1
    least = jnp.take_along_axis(ordered, last, axis=-1)
    ordered = jnp.where(ordered < least, -jnp.inf, ordered)
    shares = jax.nn.softmax(ordered, axis=-1)
    # A token is kept if the likelier ones have less than top_p together: [.4 .3 .2 .1] at 0.5 -> before [0 .4 .7 .9].
    before = jnp.cumsum(shares, axis=-1) - shares
    nucleus = jnp.min(jnp.where(before < top_p[:, None], ordered, jnp.inf), axis=-1, keepdims=True)
    least = jnp.where(top_p[:, None] < 1, jnp.maximum(least, nucleus), least)
    return jnp.where(logits < least, -jnp.inf, logits)
