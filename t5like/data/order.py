"""Row number -> (epoch, position), and a key for each row's noise: data is a pure function of (config, row number).

An epoch's order is a keyed permutation, computed for any row alone: a Feistel network over the next power of two,
walked until it falls inside (Black and Rogaway 2002). A row's noise begins at a hash of it (SplitMix64, Steele et al.
2014). Everything acts on whole arrays of rows.
"""

import numpy as np
from jaxtyping import Integer, UInt64

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
ODD = np.uint64(0xD6E8FEB86659FD93)
ROUNDS = 8
"""Rounds of the Feistel network; an even number, so that the halves end as wide as they began."""


def mix(x: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """SplitMix64's output function: every bit of the result depends on every bit of `x`."""
    x = x + GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_of(*values: Integer[np.ndarray, " rows"] | int) -> UInt64[np.ndarray, " rows"]:
    """A 64-bit key for each row of the given numbers, in which their order counts."""
    key = np.zeros(np.broadcast_shapes(*(np.shape(value) for value in values), (1,)), np.uint64)
    for value in values:
        key = mix(key ^ np.asarray(value).astype(np.uint64))
    return key


def example_key(
    seed: int,
    split: int,
    source: int,
    epoch: Integer[np.ndarray, " examples"] | int,
    number: Integer[np.ndarray, " examples"],
) -> UInt64[np.ndarray, " examples"]:
    """The key of each example's random choices in an epoch; `number` is its first token in the source's split."""
    return hash_of(seed, split, source, epoch, number)


def permute(
    index: Integer[np.ndarray, " rows"], size: int, key: UInt64[np.ndarray, " rows"]
) -> Integer[np.ndarray, " rows"]:
    """Permute each index of [0, size) as its key says.

    >>> permute(np.arange(5), 5, np.full(5, 7, np.uint64)).tolist()
    [1, 0, 4, 3, 2]
    """
    bits = max(2, (size - 1).bit_length())
    keys = mix(key + np.arange(ROUNDS, dtype=np.uint64)[:, None])
    result = _scramble(index.astype(np.uint64), keys, bits)
    while (outside := result >= size).any():
        result[outside] = _scramble(result[outside], keys[:, outside], bits)
    return result.astype(np.int64)


def _scramble(x: np.ndarray, keys: np.ndarray, bits: int) -> np.ndarray:
    """A Feistel network over numbers of `bits` bits; with an odd number the halves change their widths each round."""
    low = bits // 2
    left, right, widths = x >> np.uint64(low), x & np.uint64((1 << low) - 1), (bits - low, low)
    for key in keys:
        mixed = (right ^ key) * ODD
        mixed = (mixed ^ (mixed >> np.uint64(32))) * ODD
        left, right, widths = right, left ^ (mixed >> np.uint64(64 - widths[0])), widths[::-1]
    return (left << np.uint64(widths[1])) | right


def locate(
    rows: Integer[np.ndarray, " rows"], size: int, *key: int
) -> tuple[Integer[np.ndarray, " rows"], Integer[np.ndarray, " rows"]]:
    """The epoch of each row number, and the row's position in a source of `size` rows, shuffled anew in each epoch."""
    epoch, index = np.divmod(rows, size)
    return epoch, permute(index, size, hash_of(*key, epoch))
