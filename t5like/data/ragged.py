"""Sequences of different lengths in one flat array, so that numpy can treat all of them at once.

Random numbers are here as well, because each sequence needs its own: they are SplitMix64 streams that begin at the
sequence's key, so that they do not depend on what else is in the batch.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Integer, Shaped, UInt64

from t5like.data.order import GOLDEN, mix

Keys = UInt64[np.ndarray, " examples"]
Lengths = Integer[np.ndarray, " examples"]


class Draws(NamedTuple):
    """The keys of each example's random choices."""

    lengths: Keys
    """Of the choices that decide how many tokens it has in each stack: these may return in later epochs."""
    noise: Keys
    """Of all others, drawn anew in each epoch."""


class Ragged(NamedTuple):
    """Sequences one after the other: sequence n is the `lengths[n]` values after those before it."""

    values: Shaped[np.ndarray, " total"]
    lengths: Integer[np.ndarray, " sequences"]

    @property
    def starts(self) -> Integer[np.ndarray, " sequences"]:
        """Where each sequence begins in `values`."""
        return starts_of(self.lengths)

    def sequences(self) -> list[np.ndarray]:
        """Each sequence on its own, for reading and tests."""
        return np.split(self.values, np.cumsum(self.lengths)[:-1]) if len(self.lengths) else []


Streams = dict[str, Ragged]
"""What an objective makes of examples: the names of features, each with one sequence for every example."""


def starts_of(lengths: Integer[np.ndarray, " sequences"]) -> Int[np.ndarray, " sequences"]:
    """Where sequences of these lengths begin when they stand one after the other."""
    return np.cumsum(lengths, dtype=np.int64) - lengths


def places(lengths: Integer[np.ndarray, " sequences"]) -> Int[np.ndarray, " total"]:
    """The place of each value in its sequence: lengths 3 and 2 give 0 1 2 0 1."""
    return np.arange(lengths.sum()) - np.repeat(starts_of(lengths), lengths)


def slices(
    values: Shaped[np.ndarray, " total"],
    starts: Integer[np.ndarray, " slices"],
    lengths: Integer[np.ndarray, " slices"],
) -> Shaped[np.ndarray, " taken"]:
    """`values[start : start + length]` of all slices, one after the other, as a new array.

    A slice may begin before the first value or end after the last. Callers use that to leave room for a token: they
    take a slice that is longer by one and write over its first or last value.
    """
    if not values.size:
        return np.zeros(lengths.sum(), values.dtype)
    source = np.repeat(starts - starts_of(lengths), lengths)
    source += np.arange(source.size)
    return values.take(source, mode="clip")


def text_lengths(documents: Ragged, eos: int) -> Int[np.ndarray, " sequences"]:
    """The length of each document without the EOS that closes it; one that was cut has none."""
    if not documents.values.size:
        return documents.lengths.astype(np.int64)
    ends = np.cumsum(documents.lengths, dtype=np.int64)
    closed = (documents.values.take(ends - 1, mode="clip") == eos) & (documents.lengths > 0)
    return documents.lengths - closed.astype(np.int64)


def random_bits(keys: Keys, counts: Lengths) -> UInt64[np.ndarray, " total"]:
    """`counts[n]` random numbers of 64 bits from each key, one key's after the other's."""
    return mix(np.repeat(keys, counts) + places(counts).astype(np.uint64) * GOLDEN)


def below(bits: UInt64[np.ndarray, " n"], limits: Integer[np.ndarray, " n"] | int) -> Int[np.ndarray, " n"]:
    """Random numbers in [0, limit) from the high half of random bits; no limit is above 2**32."""
    return ((bits >> np.uint64(32)) * np.asarray(limits).astype(np.uint64) >> np.uint64(32)).astype(np.int64)


def choose(keys: Keys, sizes: Lengths, counts: Lengths) -> Bool[np.ndarray, " total"]:
    """`counts[n]` different places of the `sizes[n]` of each sequence, all sets equally likely.

    A set is the first different numbers of the key's random stream; where more than half of the places are wanted, it
    is those that are left out.

    Returns:
      One flag for each place of each sequence, one sequence after the other.
    """
    chosen = np.zeros(sizes.sum(), bool)
    offsets, sizes = starts_of(sizes), sizes.astype(np.int64)
    inverted = 2 * counts > sizes
    wanted = np.where(inverted, sizes - counts, counts).astype(np.int64)
    pending, slack = np.flatnonzero(wanted > 0), 4.0
    while pending.size:
        draws = _draws(sizes[pending], wanted[pending], slack)
        found, enough = _first_different(keys[pending], sizes[pending], wanted[pending], draws)
        chosen[found + np.repeat(offsets[pending], np.where(enough, wanted[pending], 0))] = True
        pending, slack = pending[~enough], 4 * slack
    return chosen ^ np.repeat(inverted, sizes) if inverted.any() else chosen


def _draws(sizes: Lengths, counts: Lengths, slack: float) -> Int[np.ndarray, " examples"]:
    """How many random numbers to draw so that `counts` of them differ: the mean, `slack` standard deviations, and 2.

    The number only decides how much is drawn at once; the numbers that are kept are the same with any.
    """
    mean = sizes * np.log(sizes / (sizes - counts))
    variance = np.maximum(sizes * counts / (sizes - counts) - mean, 0)
    return np.ceil(mean + slack * np.sqrt(variance)).astype(np.int64) + 2


def _first_different(
    keys: Keys, sizes: Lengths, counts: Lengths, draws: Lengths
) -> tuple[Int[np.ndarray, " chosen"], Bool[np.ndarray, " examples"]]:
    """The first `counts` different numbers below `sizes` among `draws` of them, of the sequences that have enough."""
    numbers = below(random_bits(keys, draws), np.repeat(sizes, draws))
    place = numbers + np.repeat(starts_of(sizes), draws)
    index = np.arange(place.size)
    seen_at = np.empty(sizes.sum(), np.int64)
    seen_at[place[::-1]] = index[::-1]  # of equal places the last write stays, which is the first draw
    fresh = seen_at[place] == index
    rank = np.cumsum(fresh)
    ends = np.cumsum(draws)
    before = np.concatenate([np.zeros(1, np.int64), rank[ends[:-1] - 1]])
    enough = rank[ends - 1] - before >= counts
    return numbers[fresh & (rank <= np.repeat(np.where(enough, before + counts, 0), draws))], enough
