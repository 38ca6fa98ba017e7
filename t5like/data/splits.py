"""The split of a document where a source has no files of its own for one: by a hash of its group.

Documents of one group, such as equal ones, lie on the same side. The same hash cuts a store and what is judged, so that
nothing is judged that was learned.
"""

import hashlib
from typing import Literal, NamedTuple

from t5like.config import Data, Source

AnySplit = Literal["train", "validation", "test"]


class Shares(NamedTuple):
    """Shares of the documents that a hash holds out."""

    validation: float
    test: float = 0.0


def shares_of(data: Data) -> Shares:
    """The shares of a config."""
    return Shares(data.held_out, data.held_out_test)


def split_by_hash(group: str, shares: Shares) -> AnySplit:
    """The split of a document of that group: the lowest hashes are for validation, the next for the test."""
    number = int.from_bytes(hashlib.blake2b(group.encode("utf-8", "replace"), digest_size=8).digest(), "big")
    if number < shares.validation * 2**64:
        return "validation"
    return "test" if number < (shares.validation + shares.test) * 2**64 else "train"


def left_to_hash(source: Source, shares: Shares) -> Shares:
    """The shares that are cut from a source's files: none for splits that have files of their own."""
    return Shares(0.0 if source.validation else shares.validation, 0.0 if source.test else shares.test)
