"""The part of each piece in words, told from the bytes that it spells.

A table knows a piece and not its neighbours. So the letter after a hyphen continues the hyphen's word.
"""

import unicodedata

import numpy as np
from jaxtyping import Bool

from t5like.data.vocabulary.pieces import Pieces


def is_chinese(character: str) -> bool:
    """True if a character is an ideograph, which Chinese writes without spaces between words."""
    code = ord(character)
    return 0x3400 <= code < 0x4DC0 or 0x4E00 <= code < 0xA000 or 0xF900 <= code < 0xFB00 or 0x20000 <= code < 0x33480


def begins_word(pieces: Pieces) -> Bool[np.ndarray, " pieces"]:
    """True for pieces that begin a word: after a space, at a Chinese character, at a punctuation mark or sign."""
    if pieces.continuation:
        names = map(pieces.name, range(pieces.size))
        return np.array([not name.startswith(pieces.continuation) for name in names], bool)
    return np.array([_begins(pieces.spelt(number)) for number in range(pieces.size)], bool)


def _begins(spelt: bytes) -> bool:
    if not spelt:
        return True
    if 0x80 <= spelt[0] < 0xC0:
        return False  # the middle of a character
    text = spelt.decode("utf-8", "ignore")
    if not text:
        return spelt[0] >= 0xE2  # three and four bytes are mostly ideographs and signs, two are letters
    if unicodedata.category(text[0])[0] == "M" or unicodedata.category(text[0]) == "Cf":
        return False
    return is_chinese(text[0]) or not text[0].isalnum()
