"""Row number -> (epoch, position), and each row's random numbers: data is a pure function of (config, row number).

An epoch's order is a keyed permutation, computed for any row alone: a Feistel network over the next power of four,
walked until it falls inside (Black and Rogaway 2002). Random numbers are SplitMix64 streams (Steele et al. 2014)
that begin at a hash of the row. Everything acts on whole arrays of rows.
"""

import numpy as np
from jaxtyping import Float, Integer, UInt64

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
ROUNDS = 8


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


def permute(
    index: Integer[np.ndarray, " rows"], size: int, key: UInt64[np.ndarray, " rows"]
) -> Integer[np.ndarray, " rows"]:
    """Where each index of [0, size) goes in the permutation that its key stands for.

    >>> permute(np.arange(5), 5, np.full(5, 7, np.uint64)).tolist()
    [1, 3, 4, 2, 0]
    """
    half = max(1, -(-(size - 1).bit_length() // 2))
    keys = mix(key + np.arange(ROUNDS, dtype=np.uint64)[:, None])
    result = _scramble(index.astype(np.uint64), keys, half)
    while (outside := result >= size).any():
        result[outside] = _scramble(result[outside], keys[:, outside], half)
    return result.astype(np.int64)


def _scramble(x: np.ndarray, keys: np.ndarray, half: int) -> np.ndarray:
    bits, low = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = x >> bits, x & low
    for key in keys:
        left, right = right, left ^ (mix(key ^ right) & low)
    return (left << bits) | right


def locate(
    rows: Integer[np.ndarray, " rows"], size: int, *key: int
) -> tuple[Integer[np.ndarray, " rows"], Integer[np.ndarray, " rows"]]:
    """The epoch of each row number, and the row's place in a data set of `size` rows, shuffled anew in each epoch."""
    epoch, index = np.divmod(rows, size)
    return epoch, permute(index, size, hash_of(*key, epoch))


def uniforms(keys: UInt64[np.ndarray, " rows"], count: int) -> Float[np.ndarray, "rows count"]:
    """`count` numbers in [0, 1) for each key, float32 with 24 random bits."""
    steps = np.arange(count, dtype=np.uint64) * GOLDEN
    bits = mix(keys[:, None] + steps) >> np.uint64(40)
    return bits.astype(np.float32) * np.float32(2**-24)
