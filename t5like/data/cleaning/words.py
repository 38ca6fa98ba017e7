"""Words of a text and hashes of their n-grams, for whole texts at once.

A text is an array of code points. A table says of each whether it belongs to a word, a Han character being a word of
its own. The hash of a run is a polynomial of what it consists of, modulo 2**64; the difference of two prefix sums
gives it for any run, so the n-grams of a megabyte cost milliseconds. Hashes are the same in every process.
"""

import functools
import sys
import unicodedata
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8, UInt32, UInt64

SPACE, SYMBOL, DIGIT, LETTER, HAN = range(5)
"""Classes of characters."""
HAN_RANGES = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF), (0x3040, 0x30FF))
"""Han characters, and kana, which are written without spaces as well."""
CHARACTER_BASE, WORD_BASE = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93
"""Odd numbers, whose powers are the weights of the characters in a word and of the words in an n-gram."""

KEPT_POWERS = 2**17
"""Powers that are made once; those of a longer text are made for it and forgotten."""


class Words(NamedTuple):
    """The words of a text, and the classes of its characters."""

    codes: Int[np.ndarray, " characters"]
    classes: UInt8[np.ndarray, " characters"]
    starts: Int[np.ndarray, " words"]
    stops: Int[np.ndarray, " words"]

    @property
    def lengths(self) -> Int[np.ndarray, " words"]:
        """Characters of each word."""
        return self.stops - self.starts


def words_of(text: str, symbols: bool = False) -> Words:
    """The words of a text: runs of letters, digits and marks, and each Han character alone.

    With `symbols`, words are all that stands between spaces, as where a paper counts words of English; a Han
    character is a word of its own there, too.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.int32)
    classes = character_classes()[codes]
    edges = np.zeros((2, len(codes) + 1), bool)
    edges[0, 1:] = edges[1, :-1] = classes > (SPACE if symbols else SYMBOL)
    before, after = edges
    han = classes == HAN
    apart = before != after
    apart[1:] |= han
    apart[:-1] |= han
    return Words(codes, classes, np.flatnonzero(after & apart), np.flatnonzero(before & apart))


class Ngrams:
    """Hashes of the n-grams of a text, of any length: polynomials of the hashes of its words."""

    def __init__(self, words: Words):
        characters = _prefix_sums(words.codes.astype(np.uint64), CHARACTER_BASE)
        self._sums = _prefix_sums(_hash_runs(characters, CHARACTER_BASE, words.starts, words.stops), WORD_BASE)

    def all(self, length: int) -> UInt64[np.ndarray, " ngrams"]:
        """A hash of each run of `length` words; there is none where there are fewer words."""
        return self.at(np.arange(max(0, len(self._sums) - length)), length)

    def at(self, starts: Int[np.ndarray, " ngrams"], length: int) -> UInt64[np.ndarray, " ngrams"]:
        """A hash of each run of `length` words that begins at one of the given words."""
        return _hash_runs(self._sums, WORD_BASE, starts, starts + length)


def hash_rows(values: UInt32[np.ndarray, "rows columns"]) -> UInt64[np.ndarray, " rows"]:
    """A hash of each row."""
    return _mix(((values.astype(np.uint64) + np.uint64(1)) * _powers(WORD_BASE, values.shape[1])).sum(1))


def _prefix_sums(values: UInt64[np.ndarray, " values"], base: int) -> UInt64[np.ndarray, " values_and_one"]:
    """Sums of the first values, each by its power of the base, from none of them to all."""
    sums = np.zeros(len(values) + 1, np.uint64)
    np.cumsum((values + np.uint64(1)) * _powers(base, len(values)), out=sums[1:])
    return sums


def _hash_runs(
    sums: UInt64[np.ndarray, " values_and_one"],
    base: int,
    starts: Int[np.ndarray, " runs"],
    stops: Int[np.ndarray, " runs"],
) -> UInt64[np.ndarray, " runs"]:
    """The polynomial of each run of values, as if the run began at the power 0, and then mixed."""
    return _mix((sums[stops] - sums[starts]) * _powers(_inverse(base), len(sums))[starts])


@functools.cache
def _inverse(base: int) -> int:
    return pow(base, -1, 2**64)


def _powers(base: int, count: int) -> UInt64[np.ndarray, " count"]:
    if count > KEPT_POWERS:
        return _make_powers(base, count)
    return _kept_powers(base)[:count]


@functools.cache
def _kept_powers(base: int) -> UInt64[np.ndarray, " powers"]:
    return _make_powers(base, KEPT_POWERS)


def _make_powers(base: int, count: int) -> UInt64[np.ndarray, " count"]:
    powers = np.full(count, base, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


def _mix(hashes: UInt64[np.ndarray, " runs"]) -> UInt64[np.ndarray, " runs"]:
    """MurmurHash3's finalizer, a bijection that lets every bit depend on all."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        hashes = (hashes ^ hashes >> np.uint64(33)) * np.uint64(factor)
    return hashes ^ hashes >> np.uint64(33)


@functools.cache
def character_classes() -> UInt8[np.ndarray, " codes"]:
    """The class of each code point. Marks, such as vowel signs, count as letters."""
    classes = np.full(sys.maxunicode + 1, SYMBOL, np.uint8)
    for code, character in enumerate(map(chr, range(sys.maxunicode + 1))):
        if character.isspace():
            classes[code] = SPACE
        elif character.isalnum():
            classes[code] = LETTER if character.isalpha() else DIGIT
        elif unicodedata.category(character).startswith("M"):
            classes[code] = LETTER
    for first, last in HAN_RANGES:
        classes[first : last + 1] = HAN
    return classes
