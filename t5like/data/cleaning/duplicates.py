"""Duplicates among all documents: a signature of each, made where it is read, and one pass over all signatures.

A signature is a row of 64-bit numbers: 128 bits of a hash of the text for exact duplicates, and for near ones the
MinHash of its n-grams (Broder 1997), made by datasketch. The pass goes by the documents' order and keeps the first of
each kind, in training and held-out text together, so that no held-out document repeats one of training. It holds a
few numbers per document in memory; signatures may be memory-mapped (`signatures.py` has the figures).
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt64

from t5like import config
from t5like.data.cleaning.words import Ngrams, hash_rows, words_of

Duplicates = config.ExactDuplicates | config.NearDuplicates
CHUNK = 2**12
"""N-grams that are permuted at once."""
PAIRS = 2**14
"""Pairs of signatures that are compared at once."""
PROPOSED = 0.85
"""Share of the pairs at the limit of similarity that bands propose for a comparison."""
NONE = np.int64(-1)
"""Stands for the partner of a document that stays."""


def columns(filter: Duplicates) -> int:
    """Numbers in a signature."""
    return 2 if isinstance(filter, config.ExactDuplicates) else -(-filter.permutations // 2)


def signature(filter: Duplicates, parts: tuple[str, ...]) -> UInt64[np.ndarray, " columns"]:
    """The signature of a document with these parts."""
    if isinstance(filter, config.ExactDuplicates):
        digest = hashlib.blake2b(digest_size=16)
        for part in parts:
            content = part.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little") + content)
        return np.frombuffer(digest.digest(), np.uint64)
    sketch = _empty_sketch(filter.permutations).copy()
    ngrams = np.concatenate([_ngrams(filter, part) for part in parts])
    for start in range(0, len(ngrams), CHUNK):
        sketch.update_batch(ngrams[start : start + CHUNK].tolist())
    values = np.zeros(2 * columns(filter), np.uint32)
    values[: filter.permutations] = sketch.hashvalues
    return values.view(np.uint64)


def partners(filter: Duplicates, signatures: Sequence[np.ndarray]) -> list[Int[np.ndarray, " documents"]]:
    """Find the documents to drop, because an earlier one has the same text or nearly the same.

    Args:
      signatures: for each unit an array [documents, columns] of uint64, in the order of the documents.

    Returns:
      An array for each unit: the number of the earlier document, counted through all units, and -1 for those that stay.
      No two of these are duplicates as far as the banding of MinHash finds them (for exact duplicates: at all).
    """
    lengths = [len(unit) for unit in signatures]
    table = _Table([unit.reshape(len(unit), columns(filter)) for unit in signatures])
    find = _exact if isinstance(filter, config.ExactDuplicates) else functools.partial(_near, filter)
    return np.split(find(table), np.cumsum(lengths)[:-1]) if lengths else []


class _Table:
    """The rows of several arrays as if they were one, which they are not, so that they may stay on the disk."""

    def __init__(self, arrays: Sequence[np.ndarray]):
        self._arrays = arrays
        self._starts = np.cumsum([0, *map(len, arrays)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def arrays(self) -> Iterator[UInt64[np.ndarray, "rows columns"]]:
        return map(np.asarray, self._arrays)

    def rows(self, numbers: Int[np.ndarray, " rows"]) -> UInt64[np.ndarray, "rows columns"]:
        units = np.searchsorted(self._starts, numbers, side="right") - 1
        rows = np.empty((len(numbers), self._arrays[0].shape[1]), np.uint64)
        for unit in np.unique(units):
            here = units == unit
            rows[here] = self._arrays[unit][numbers[here] - self._starts[unit]]
        return rows


def _exact(table: _Table) -> Int[np.ndarray, " documents"]:
    """The first of the rows that each one equals, or -1 where that is itself."""
    first, second = (np.concatenate([rows[:, column] for rows in table.arrays()]) for column in range(2))
    order = np.lexsort((second, first))  # stable: equal rows stay in the order of documents
    same = (first[order][1:] == first[order][:-1]) & (second[order][1:] == second[order][:-1])
    leader = order[np.maximum.accumulate(np.where(np.append(False, same), 0, np.arange(len(order))))]
    found = np.full(len(table), NONE)
    found[order[1:][same]] = leader[1:][same]
    return found


def _near(filter: config.NearDuplicates, table: _Table) -> Int[np.ndarray, " documents"]:
    """Locality-sensitive hashing: only documents that agree in all values of a band are compared."""
    found = np.full(len(table), NONE)
    bands, width = banding(filter.similarity, filter.permutations)
    for band in range(bands):
        values = slice(band * width, (band + 1) * width)
        keys = np.concatenate([hash_rows(rows.view(np.uint32)[:, values]) for rows in table.arrays()])
        _compare_buckets(filter, table, keys, found)
    return found


def _compare_buckets(
    filter: config.NearDuplicates,
    table: _Table,
    keys: UInt64[np.ndarray, " documents"],
    found: Int[np.ndarray, " documents"],
) -> None:
    """Set in `found` the partner of what is similar to an earlier document with the same key.

    In each round, the first document of every bucket is compared with the others; it stays, what is similar goes, and
    the rest is the bucket of the next round.
    """
    order = np.flatnonzero(found == NONE)
    order = order[np.argsort(keys[order], kind="stable")]
    while len(order):
        first = np.concatenate(([True], keys[order][1:] != keys[order][:-1]))
        leaders = order[first][np.cumsum(first) - 1][~first]
        order = order[~first]
        for start in range(0, len(order), PAIRS):
            some, others = leaders[start : start + PAIRS], order[start : start + PAIRS]
            similar = _similar(filter, table.rows(some), table.rows(others))
            found[others[similar]] = some[similar]
        order = order[found[order] == NONE]


def _similar(
    filter: config.NearDuplicates,
    some: UInt64[np.ndarray, "pairs columns"],
    others: UInt64[np.ndarray, "pairs columns"],
) -> Bool[np.ndarray, " pairs"]:
    """True if as many values of two signatures agree as sets of that similarity let expect."""
    agree = (some.view(np.uint32) == others.view(np.uint32))[:, : filter.permutations]
    return agree.sum(1) >= filter.similarity * filter.permutations


def _ngrams(filter: config.NearDuplicates, text: str) -> UInt64[np.ndarray, " ngrams"]:
    """32 bits of the hash of each n-gram; a shorter text is one n-gram, and one without words is made of symbols."""
    words = words_of(text.casefold())
    words = words if len(words.starts) else words_of(text, symbols=True)
    length = min(filter.ngram, len(words.starts))
    hashes = Ngrams(words).all(length) if length else np.zeros(0, np.uint64)
    return np.unique(hashes >> np.uint64(32))


@functools.lru_cache(maxsize=4)
def _empty_sketch(permutations: int) -> Any:
    from datasketch import MinHash

    return MinHash(permutations, seed=1, hashfunc=int, scheme="affine32")


def banding(similarity: float, permutations: int) -> tuple[int, int]:
    """Number and width of the bands: the widest with which at least `PROPOSED` of the pairs of just that similarity
    agree in all values of a band, which is what proposes them for a comparison.

    A pair of similarity s agrees in one of b bands of w values with the probability 1 - (1 - s^w)^b. For 0.8 and 128
    values these are 14 bands of 9, which propose 87 %. As the comparison follows, a pair that is proposed in vain costs
    time, but one that is not is lost.
    """
    for width in range(permutations, 1, -1):
        bands = permutations // width
        if 1 - (1 - similarity**width) ** bands >= PROPOSED:
            return bands, width
    return permutations, 1
