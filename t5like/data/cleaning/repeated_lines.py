"""Lines that occur in several documents, such as menus and notices of many pages.

As in the code that made C4, lines are compared without their case and the spaces around them, and each stays where it
occurs first; there it is the page whose hash is the smallest. (C4's paper speaks of spans of three sentences.)
"""

import hashlib

import numpy as np
from jaxtyping import Bool, UInt64

from t5like import config
from t5like.data.cleaning.quality import count_sentences

AT_ONCE = 2**26
"""Lines whose hashes are sorted at once, which takes 2 GB."""
CHUNK = 2**22


def line_hashes(text: str) -> UInt64[np.ndarray, " lines"]:
    """64 bits of a hash of each line of a text that is not blank."""
    lines = (line.strip().lower() for line in text.split("\n"))
    digests = (hashlib.blake2b(line.encode("utf-8", "surrogatepass"), digest_size=8).digest() for line in lines if line)
    return np.frombuffer(b"".join(digests), np.uint64)


def repeated(
    hashes: UInt64[np.ndarray, " lines"], idle: Bool[np.ndarray, " lines"], at_once: int = AT_ONCE
) -> Bool[np.ndarray, " lines"]:
    """Flag the lines that an earlier one equals; those that are `idle` count for nothing.

    Memory is bounded, but for a byte a line: the hashes, which may be mapped from the disk, are looked at in several
    passes, each of those that leave the same remainder.
    """
    flags, passes = np.zeros(len(hashes), bool), len(hashes) // at_once + 1
    for rest in range(passes):
        found = []
        for start in range(0, len(hashes), CHUNK):
            chunk = slice(start, start + CHUNK)
            found.append(start + np.flatnonzero((hashes[chunk] % np.uint64(passes) == rest) & ~idle[chunk]))
        numbers = np.concatenate(found) if found else np.zeros(0, np.int64)
        values = np.asarray(hashes[numbers])
        order = np.argsort(values, kind="stable")  # equal lines stay in the order of documents
        again = values[order][1:] == values[order][:-1]
        flags[numbers[order[1:][again]]] = True
    return flags


def without(text: str, flags: Bool[np.ndarray, " lines"]) -> str:
    """A text without the lines that are flagged; blank ones have no flag and stay."""
    left = iter(flags)
    return "\n".join(line for line in text.split("\n") if not line.strip() or not next(left))


def reason_after(filter: config.RepeatedLines, text: str) -> str:
    """The reason for which a document goes after its repeated lines went; empty where it stays."""
    sentences = count_sentences(text, filter.language)
    if not text.strip():
        return "repeated lines: nothing else"
    if sentences < filter.least_sentences:
        return f"repeated lines: {sentences} of {filter.least_sentences} sentences left"
    return ""
