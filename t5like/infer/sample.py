"""The choice of the next token: the likeliest, or one that is drawn after filters (`infer/filters.py`).

How a row's token is chosen is data of the program, not part of it: other settings compile nothing, and the rows of one
batch may differ in all of them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from t5like.config.sampling import Sampling
from t5like.infer.filters import (
    BLOCK,
    Count,
    Penalties,
    Scores,
    Warpers,
    first_above,
    in_blocks,
    take_block,
    warp,
)

Keys = Key[Array, " rows"]
OF_PROMPT, OF_COPY = 1621087445, 1223722707
"""Steps of seeds, odd and thus without repetition below 2**31: 2**31 / r and 2**31 / r**2 with r**3 = r + 1, whose
multiples keep away from each other (the R2 sequence), so that runs with near seeds share none."""


class Sampler(NamedTuple):
    """Settings of each row, and the seed on which its random choices depend alone: `jax.random.key(seed)`, to which the
    number of a token is folded in."""

    penalties: Penalties
    warpers: Warpers
    seeds: Count

    def keys(self) -> Keys:
        """A key for each row, to which the number of a token is folded in."""
        return jax.vmap(jax.random.key)(self.seeds)


def make_sampler(sampling: Sampling, numbers: Sequence[int], seed: int = 0, copies: int = 1) -> Sampler:
    """The same `sampling` for `copies` answers to each of the prompts with these numbers: row = prompt * copies + copy.

    The row's seed is `seed` + number * `OF_PROMPT` + copy * `OF_COPY` modulo 2**31: so it is `seed` itself for the
    first answer to prompt 0, and any row is the answer to its prompt alone with the row's seed.
    """
    steps = np.asarray(numbers, np.int64)[:, None] * OF_PROMPT + np.arange(copies, dtype=np.int64) * OF_COPY
    seeds = jnp.asarray((seed + steps.reshape(-1)) % 2**31, jnp.int32)
    each = lambda value, dtype: jnp.full(seeds.shape, value, dtype)  # noqa: E731
    return Sampler(
        Penalties(each(sampling.repetition_penalty, jnp.float32), each(sampling.no_repeat_ngram_size, jnp.int32)),
        Warpers(
            each(sampling.temperature, jnp.float32),
            each(sampling.top_k, jnp.int32),
            each(sampling.top_p, jnp.float32),
            each(sampling.min_p, jnp.float32),
            each(sampling.typical_p, jnp.float32),
        ),
        seeds,
    )


def choose(scores: Scores, keys: Keys, sampler: Sampler) -> Count:
    """Choose the next token of each row; a row with a temperature draws it by its own key.

    `scores` are processed ones (`filters.process`). A batch without such a row pays for no filter and no draw.
    """
    greedy, sampled = likeliest(scores), sampler.warpers.temperature > 0
    drawn = lambda: jnp.where(sampled, draw(warp(scores, sampler.warpers), keys), greedy)  # noqa: E731
    return jax.lax.cond(sampled.any(), drawn, lambda: greedy)


def likeliest(scores: Scores) -> Count:
    """The first of the tokens with the largest score, as `argmax`, which takes 4 times as long on a CPU."""
    places = jnp.arange(scores.shape[1], dtype=jnp.int32)[None]
    return jnp.where(scores < scores.max(axis=-1, keepdims=True), scores.shape[1] - 1, places).min(axis=-1)


def draw(scores: Scores, keys: Keys) -> Count:
    """Draw a token of each row with the probability softmax(scores).

    Two random numbers a row, of which the first chooses a block of tokens and the second one of these, instead of one
    for each token (`jax.random.categorical`), which takes 20 times as long; two keep the precision of float32 in rare
    tokens.
    """
    chance = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys)
    blocks = in_blocks(jnp.exp(scores - scores.max(axis=-1, keepdims=True)))
    block = _draw(blocks.sum(axis=-1), chance[:, 0])
    return block * BLOCK + _draw(take_block(blocks, block), chance[:, 1])


def _draw(weights: Float[Array, "rows places"], chance: Float[Array, " rows"]) -> Count:
    """The place below which the share `chance` of the weights lies."""
    return first_above(weights, chance * jnp.cumsum(weights, axis=-1)[:, -1])
