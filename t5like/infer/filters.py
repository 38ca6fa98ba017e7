"""Filters of the scores of next tokens: pure functions of arrays, with a setting a row.

They are the logits processors and warpers of transformers 5, in its order and with its definitions, but for two things
that there depend on chance: padding is no part of a row's history, and of equal scores at the border of top-p those of
the first tokens are kept. A setting's neutral value leaves a row as it is; a filter that no row uses is not computed.

Nothing sorts the vocabulary. A border is looked up among the 256 likeliest tokens, and found by bisection over the bits
of the scores (T5X's binary_search.py does this too) in rows where these do not reach it. Both give the same score.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt

from t5like.model.attention.attend import platform

Scores = Float[Array, "rows vocab"]
Value = Float[Array, " rows"]
Count = Int[Array, " rows"]
LIKELIEST = 256
BLOCK = 128


class History(NamedTuple):
    """The tokens before the next one, which transformers calls input_ids: the prompt of a decoder, or the start of an
    encoder-decoder's answer, and then the answer so far. Those of a row are its columns `starts` to `slot` - 1."""

    tokens: Int[Array, "rows slots"]
    starts: Int[Array, " rows"]
    slot: Int[Array, ""]


class Penalties(NamedTuple):
    """Settings of filters that read the history, for greedy, sampled and beam search alike; neutral are 1 and 0."""

    repetition_penalty: Value
    no_repeat_ngram_size: Count


class Warpers(NamedTuple):
    """Settings of filters before a draw; neutral are 1, 0, 1, 0 and 1. Temperature 0 is of rows that do not draw."""

    temperature: Value
    top_k: Count
    top_p: Value
    min_p: Value
    typical_p: Value


def process(scores: Scores, history: History, penalties: Penalties) -> Scores:
    """Penalise repeated tokens, then forbid repeated n-grams. Of beams, `scores` are log-probabilities."""
    penalty, size = penalties
    scores = _where_used(penalty != 1, lambda x: penalise_repetition(x, history, penalty), scores)
    return _where_used(size > 0, lambda x: forbid_repeated_ngrams(x, history, size), scores)


def warp(scores: Scores, warpers: Warpers) -> Scores:
    """Divide by the temperature, then set the scores of tokens that are not to be drawn to -inf."""
    temperature, top_k, top_p, min_p, typical_p = warpers
    scores = scores / jnp.where(temperature > 0, temperature, jnp.float32(1))[:, None]
    scores = _where_used(top_k > 0, lambda x: keep_top_k(x, top_k), scores)
    scores = _where_used(top_p < 1, lambda x: keep_top_p(x, top_p), scores)
    scores = _where_used(min_p > 0, lambda x: keep_min_p(x, min_p), scores)
    return _where_used(typical_p < 1, lambda x: keep_typical(x, typical_p), scores)


def _where_used(used: Bool[Array, " rows"], function: Callable[[Scores], Scores], scores: Scores) -> Scores:
    """`function(scores)` in the rows that use it; computed only if there is one."""
    return jax.lax.cond(used.any(), lambda x: jnp.where(used[:, None], function(x), x), lambda x: x, scores)


def penalise_repetition(scores: Scores, history: History, penalty: Value) -> Scores:
    """Divide the positive scores of tokens of the history by `penalty`, and multiply negative ones by it, each once
    (Keskar et al. 2019)."""
    seen = _is_history(history, jnp.zeros_like(history.starts))
    rows, tokens = _rows(history.tokens), jnp.where(seen, history.tokens, scores.shape[1])
    old = scores.at[rows, tokens].get(mode="fill", fill_value=0)
    new = jnp.where(old < 0, old * penalty[:, None], old / penalty[:, None])
    return scores.at[rows, tokens].set(new, mode="drop")  # a token that comes twice is set twice to the same


def forbid_repeated_ngrams(scores: Scores, history: History, size: Count) -> Scores:
    """Set tokens that would complete an n-gram of `size` tokens which the history has already to -inf.

    For bigrams and the history 5 6 7 5 it is 6.
    """
    tokens, slots = history.tokens, history.tokens.shape[1]
    size = jnp.minimum(size, slots + 1)  # which no history has
    # [rows, slots]: columns with size - 1 tokens of the history before them
    fits = _is_history(history, size - 1)
    shifted = jnp.pad(tokens, ((0, 0), (slots, 0)))

    def compare(back: Int[Array, ""], same: Bool[Array, "rows slots"]) -> Bool[Array, "rows slots"]:
        """Compare the token `back` before each column with the one as far before the next token."""
        last = jax.lax.dynamic_slice_in_dim(tokens, history.slot - back, 1, axis=1)
        before = jax.lax.dynamic_slice_in_dim(shifted, slots - back, slots, axis=1)
        return same & ((before == last) | (back >= size)[:, None])

    same = jax.lax.fori_loop(jnp.int32(1), size.max(), compare, fits)
    return scores.at[_rows(tokens), jnp.where(same, tokens, scores.shape[1])].set(-jnp.inf, mode="drop")


def _rows(tokens: Int[Array, "rows slots"]) -> Int[Array, "rows 1"]:
    return jnp.arange(tokens.shape[0], dtype=jnp.int32)[:, None]


def _is_history(history: History, back: Count) -> Bool[Array, "rows slots"]:
    """True where a column and the `back` columns before it are of the row's history."""
    columns = jnp.arange(history.tokens.shape[1], dtype=jnp.int32)[None]
    return (columns >= (history.starts + back)[:, None]) & (columns < history.slot)


def keep_top_k(scores: Scores, k: Count) -> Scores:
    """Keep the `k` largest scores, and those that equal the last of them (Fan et al. 2018)."""
    k = jnp.clip(k, 1, scores.shape[1])
    return _keep(scores, scores >= border(scores, jnp.ones_like(scores), k.astype(jnp.float32))[:, None])


def keep_top_p(scores: Scores, share: Value) -> Scores:
    """Keep the fewest of the likeliest tokens that have `share` of the probability (Holtzman et al. 2020)."""
    top = scores.max(axis=-1)
    weights = jnp.exp(scores - top[:, None])
    target = _sought(share) * weights.sum(axis=-1)
    last = border(scores, weights, target)
    likelier, equal = scores > last[:, None], scores == last[:, None]
    # As many of the equal ones as are needed: of weights 4 2 2 2 and the target 7, two.
    missing = target - jnp.where(likelier, weights, 0).sum(axis=-1)
    needed = jnp.maximum(jnp.ceil(missing / jnp.exp(last - top)), 1)

    def first() -> Bool[Array, "rows vocab"]:
        columns = jnp.arange(scores.shape[1], dtype=jnp.int32)[None]
        return equal & (columns <= _position(equal, needed)[:, None])

    count = equal.sum(axis=-1, dtype=jnp.int32).astype(jnp.float32)
    return _keep(scores, likelier | jax.lax.cond((needed < count).any(), first, lambda: equal))


def keep_min_p(scores: Scores, share: Value) -> Scores:
    """Keep tokens with at least `share` of the likeliest one's probability (Nguyen et al. 2024)."""
    return _keep(scores, jnp.exp(scores - scores.max(axis=-1, keepdims=True)) >= share[:, None])


def keep_typical(scores: Scores, share: Value) -> Scores:
    """Keep the fewest tokens that have `share` of the probability, those first whose log-probability is nearest to its
    mean, the negative entropy, and those that equal the last of them (Meister et al. 2022)."""
    logs = jax.nn.log_softmax(scores, axis=-1)
    weights = jnp.exp(logs)
    mean = jnp.where(weights > 0, weights * logs, 0).sum(axis=-1)
    nearness = -jnp.abs(logs - mean[:, None])
    return _keep(scores, nearness >= border(nearness, weights, _sought(share))[:, None])


def _sought(share: Value) -> Value:
    """The share of a row whose border is sought; 0, which its likeliest token reaches, in a row that keeps all."""
    return jnp.where(share < 1, share, 0)


def _keep(scores: Scores, kept: Bool[Array, "rows vocab"]) -> Scores:
    return jnp.where(kept, scores, -jnp.inf)


def border(scores: Scores, weights: Float[Array, "rows vocab"], target: Value) -> Value:
    """The largest score of each row at which the weights of all that are not smaller reach `target`; else -inf.

    Of the scores 9 8 8 7 with weights 4 2 2 2, the target 5 is reached at 8. The result of a row depends on it alone.
    """
    if platform() != "cpu":  # where `top_k` sorts, and a pass over the scores costs microseconds
        return _bisect(scores, weights, target)
    largest, at = jax.lax.top_k(scores, min(LIKELIEST, scores.shape[1]))
    sums = jnp.cumsum(jnp.take_along_axis(weights, at, axis=-1), axis=-1)
    reached = sums[:, -1] >= target
    index = jnp.minimum((sums < target[:, None]).sum(axis=-1, dtype=jnp.int32), largest.shape[1] - 1)
    near = jnp.take_along_axis(largest, index[:, None], axis=-1)[:, 0]
    far = jax.lax.cond(reached.all(), lambda: near, lambda: _bisect(scores, weights, target))
    return jnp.where(reached, near, far)


def _bisect(scores: Scores, weights: Float[Array, "rows vocab"], target: Value) -> Value:
    """As `border`: bit by bit, the largest number at which the weights reach the target."""

    def add_bit(number: Int[Array, ""], bits: UInt[Array, " rows"]) -> UInt[Array, " rows"]:
        higher = bits | (jnp.uint32(1) << (31 - number).astype(jnp.uint32))
        reached = jnp.where(scores >= _float_of(higher)[:, None], weights, 0).sum(axis=-1) >= target
        return jnp.where(reached, higher, bits)

    found = _float_of(jax.lax.fori_loop(0, 32, add_bit, jnp.zeros(target.shape, jnp.uint32)))
    return jnp.where(jnp.isnan(found), -jnp.inf, found)  # all smaller bits than those of -inf


def _float_of(bits: UInt[Array, " rows"]) -> Value:
    """The float32 of bits that are ordered as the numbers are: those of negative ones are inverted, the sign is too."""
    sign = jnp.uint32(1 << 31)
    return jax.lax.bitcast_convert_type(jnp.where(bits >= sign, bits ^ sign, ~bits), jnp.float32)


def in_blocks(values: Float[Array, "rows vocab"]) -> Float[Array, "rows blocks width"]:
    """Rows in blocks of `BLOCK`, with zeros at the end, so that a place in a long row is found in two short ones."""
    rows, vocab = values.shape
    return jnp.pad(values, ((0, 0), (0, -vocab % BLOCK))).reshape(rows, -1, BLOCK)


def take_block(blocks: Float[Array, "rows blocks width"], block: Count) -> Float[Array, "rows width"]:
    """One block of each row."""
    return jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]


def first_above(values: Float[Array, "rows places"], target: Value) -> Count:
    """The first place of each row at which the sum up to it is above `target`; never one whose value is 0."""
    places = jnp.arange(values.shape[1], dtype=jnp.int32)[None]
    some = values > 0
    last = jnp.where(some, places, 0).max(axis=-1)  # where rounding leaves none
    return jnp.where(some & (jnp.cumsum(values, axis=-1) > target[:, None]), places, last[:, None]).min(axis=-1)


def _position(marked: Bool[Array, "rows vocab"], number: Value) -> Count:
    """The position of the `number`-th marked token of each row, counted from 1."""
    blocks = in_blocks(marked.astype(jnp.float32))
    counts = blocks.sum(axis=-1)
    block = first_above(counts, number - 1)
    earlier = jnp.arange(counts.shape[1], dtype=jnp.int32)[None] < block[:, None]
    before = jnp.where(earlier, counts, 0).sum(axis=-1)
    return block * BLOCK + first_above(take_block(blocks, block), number - 1 - before)
