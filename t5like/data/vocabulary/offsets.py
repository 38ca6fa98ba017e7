"""The places of tokens in their text: spans of characters, as answers and tags of words need them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

Span = tuple[int, int]
"""The first character of a token and the one behind its last."""


def character_of_byte(text: str) -> Int[np.ndarray, " positions"]:
    """The number of the character that each byte of a text in UTF-8 belongs to, and of the end; "né" has 0 1 1 2."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    lengths = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000)
    return np.append(np.repeat(np.arange(len(codes)), lengths), len(codes))


def shared(spans: Sequence[Span], alone: Sequence[bool]) -> list[Span]:
    """Spans in which tokens of one character, of which the last alone has it, all have it.

    (0, 0) (0, 0) (0, 1) become (0, 1) three times. Those that are `alone`, such as the space before a text, stay.
    """
    found = list(spans)
    for number in range(len(found) - 2, -1, -1):
        begin, end = found[number]
        if begin == end and found[number + 1][0] == begin and not alone[number]:
            found[number] = found[number + 1]
    return found


def trimmed(text: str, begin: int, end: int) -> Span:
    """A span without the spaces around it, if there is something else."""
    if begin < end and (text[begin].isspace() or text[end - 1].isspace()) and (inside := text[begin:end].strip()):
        begin = text.index(inside[0], begin)
        end = begin + len(inside)
    return begin, end
