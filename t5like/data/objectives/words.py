"""The words of tokens, for masks of whole words: told from the text that the tokens spell, across their borders.

A word is a run of letters, digits and marks, with the space before it; every other character is a word of its own, also
a Chinese one, unless the words of Chinese are asked for. These are found by rjieba, whose dictionary comes with it.
"""

import functools
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8

from t5like.config import Data
from t5like.data.cleaning.words import HAN, LETTER, SPACE, SYMBOL, character_classes
from t5like.data.ragged import slices, starts_of
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError

KANA, JOINERS = slice(0x3040, 0x3100), slice(0x200B, 0x2010)
INVALID = 0xFFFD


def word_begins(
    tokens: Int[np.ndarray, " tokens"], first: Bool[np.ndarray, " tokens"], vocabulary: Vocabulary, chinese: bool
) -> Bool[np.ndarray, " tokens"]:
    """Flag the tokens at which a word begins.

    The tokens ▁one , two 用 Py thon, with no space behind the comma, give T T T T T F.

    Args:
      tokens: tokens that spell text, of all examples one after the other.
      first: True at the first token of an example, and at one before which a special token stood.
      chinese: find the words of Chinese, instead of its characters.
    """
    text, starts = vocabulary.spelling
    lengths = vocabulary.bytes_of[tokens].astype(np.int64)
    raw = slices(text, starts[tokens], lengths)  # [bytes]
    at = starts_of(lengths)  # [tokens]: the first byte of each
    leads = np.flatnonzero((raw & 0xC0) != 0x80)  # [characters]: the first byte of each
    codes = _decoded(raw, leads, at[first])
    kinds = _kinds()[codes]
    fresh = np.zeros(len(leads) + 1, bool)
    fresh[np.searchsorted(leads, at[first])] = True
    fresh = fresh[:-1]  # [characters]: nothing stands before it
    joins = np.append(False, (kinds == LETTER) | (codes == ord(" ")))[:-1]
    begins = ~(joins & (kinds == LETTER) & ~fresh)
    if chinese:
        begins[kinds == HAN] = False
        begins[_chinese_words(codes, kinds, fresh)] = True
    of_bytes = np.zeros((2, len(raw)), bool)
    of_bytes[:, leads] = begins, kinds == HAN
    found, han = of_bytes[:, at]  # [tokens]
    if vocabulary.pieces.continuation:  # which spells no spaces, but says of each piece whether it goes on
        own = vocabulary.begins_word[tokens]
        found = np.where(han & chinese, found & own, own)
    return found | first


def require_segmenter(data: Data) -> None:
    """Raise `UserError` if the objective masks words of Chinese, and what finds them is not installed."""
    if data.objective.masks_chinese_words:
        _segmenter()


def _decoded(
    raw: UInt8[np.ndarray, " bytes"], leads: Int[np.ndarray, " characters"], first: Int[np.ndarray, " runs"]
) -> Int[np.ndarray, " characters"]:
    """The code points of UTF-8; a character that is cut short, where the next run begins, is U+FFFD."""
    padded = np.append(raw, np.zeros(3, np.uint8)).astype(np.int64)
    size = 1 + (padded[leads] >= 0xC0) + (padded[leads] >= 0xE0) + (padded[leads] >= 0xF0)
    codes = np.where(size == 1, padded[leads], padded[leads] & (0xFF >> (size + 1)))
    for number in range(1, 4):
        codes = np.where(number < size, codes << 6 | padded[leads + number] & 0x3F, codes)
    ends = np.append(first, len(raw))[np.searchsorted(first, leads, side="right")]
    whole = np.minimum(np.diff(leads, append=len(raw)), ends - leads) >= size
    return np.where(whole & (codes < 0x110000), codes, INVALID)


def _chinese_words(
    codes: Int[np.ndarray, " characters"],
    kinds: UInt8[np.ndarray, " characters"],
    fresh: Bool[np.ndarray, " characters"],
) -> Int[np.ndarray, " words"]:
    """The first character of each word in runs of Chinese characters."""
    han = kinds == HAN
    edges = np.flatnonzero(han & ~(np.append(False, han[:-1]) & ~fresh))  # the beginnings of runs
    stops = np.flatnonzero(han & ~np.append(han[1:] & ~fresh[1:], False)) + 1
    cut, found = _segmenter().cut, []
    for start, stop in zip(edges.tolist(), stops.tolist(), strict=True):
        for word in cut("".join(map(chr, codes[start:stop]))):
            found.append(start)
            start += len(word)
    return np.array(found, np.int64)


@functools.cache
def _kinds() -> UInt8[np.ndarray, " codes"]:
    """The class of each code point: letters, digits and marks are LETTER, ideographs HAN, and all else is SYMBOL."""
    classes = character_classes()
    kinds = np.where(classes == HAN, HAN, np.where(classes > SYMBOL, LETTER, SYMBOL)).astype(np.uint8)
    kinds[classes == SPACE] = SYMBOL
    kinds[KANA] = kinds[JOINERS] = LETTER
    return kinds


@functools.cache
def _segmenter() -> Any:
    try:
        import rjieba
    except ImportError:
        raise UserError(
            "data.objective.words='chinese' needs rjieba, which finds the words: pip install rjieba, or install t5like "
            "with the extra `zh`."
        ) from None
    return rjieba
