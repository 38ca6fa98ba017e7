"""Random numbers, for each sequence its own: SplitMix64 generators that begin at the sequence's key.

So what is drawn for an example does not depend on the others of its batch.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Integer, UInt64

from t5like.data.order import GOLDEN, mix
from t5like.data.ragged import Lengths, positions_in, starts_of

Keys = UInt64[np.ndarray, " examples"]


class Draws(NamedTuple):
    """The keys of each example's random choices."""

    lengths: Keys
    """Of the choices that decide how many tokens it has in each stack: these may return in later epochs."""
    noise: Keys
    """Of all others, drawn anew in each epoch."""


def random_bits(keys: Keys, counts: Lengths) -> UInt64[np.ndarray, " total"]:
    """`counts[n]` random numbers of 64 bits from each key, one key's after the other's."""
    return mix(np.repeat(keys, counts) + positions_in(counts).astype(np.uint64) * GOLDEN)


def below(bits: UInt64[np.ndarray, " n"], limits: Integer[np.ndarray, " n"] | int) -> Int[np.ndarray, " n"]:
    """Random numbers in [0, limit) from the high half of random bits; no limit is above 2**32."""
    return ((bits >> np.uint64(32)) * np.asarray(limits).astype(np.uint64) >> np.uint64(32)).astype(np.int64)


def choose(keys: Keys, sizes: Lengths, counts: Lengths) -> Bool[np.ndarray, " total"]:
    """Choose `counts[n]` different positions of the `sizes[n]` of each sequence, all sets equally likely.

    A set is the first different numbers of the key's generator; where more than half of the positions are wanted, these
    are the ones left out. Sizes 4 3 and counts 1 2 give, for example, F T F F | T F T.

    Returns:
      A flag for each position of each sequence, one sequence after the other.
    """
    chosen = np.zeros(sizes.sum(), bool)
    offsets, sizes = starts_of(sizes), sizes.astype(np.int64)
    inverted = 2 * counts > sizes
    wanted = np.where(inverted, sizes - counts, counts).astype(np.int64)
    pending, slack = np.flatnonzero(wanted > 0), 4.0
    # Nearly always a single round: 4 standard deviations more than the mean are drawn at once.
    while pending.size:
        draws = _draws(sizes[pending], wanted[pending], slack)
        found, enough = _first_different(keys[pending], sizes[pending], wanted[pending], draws)
        chosen[found + np.repeat(offsets[pending], np.where(enough, wanted[pending], 0))] = True
        pending, slack = pending[~enough], 4 * slack
    return chosen ^ np.repeat(inverted, sizes) if inverted.any() else chosen


def _draws(sizes: Lengths, counts: Lengths, slack: float) -> Int[np.ndarray, " examples"]:
    """Random numbers to draw so that `counts` of them differ: the mean, `slack` standard deviations, and 2.

    The number only decides how much is drawn at once; the numbers that are kept are the same with any.
    """
    mean = sizes * np.log(sizes / (sizes - counts))  # of the coupon collector who stops after `counts` kinds
    variance = np.maximum(sizes * counts / (sizes - counts) - mean, 0)
    return np.ceil(mean + slack * np.sqrt(variance)).astype(np.int64) + 2


def _first_different(
    keys: Keys, sizes: Lengths, counts: Lengths, draws: Lengths
) -> tuple[Int[np.ndarray, " chosen"], Bool[np.ndarray, " examples"]]:
    """The first `counts` different numbers below `sizes` among `draws` of them, of the sequences that have enough."""
    numbers = below(random_bits(keys, draws), np.repeat(sizes, draws))  # [draws of all sequences]
    position = numbers + np.repeat(starts_of(sizes), draws)  # among the positions of all sequences
    index = np.arange(position.size)
    seen_at = np.empty(sizes.sum(), np.int64)
    seen_at[position[::-1]] = index[::-1]  # of equal positions the last write stays, which is the first draw
    fresh = seen_at[position] == index  # numbers 2 0 2 1 of a sequence are T T F T
    rank = np.cumsum(fresh)
    ends = np.cumsum(draws)
    before = np.concatenate([np.zeros(1, np.int64), rank[ends[:-1] - 1]])
    enough = rank[ends - 1] - before >= counts
    return numbers[fresh & (rank <= np.repeat(np.where(enough, before + counts, 0), draws))], enough
