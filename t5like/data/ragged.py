"""Ragged arrays: sequences of different lengths in one flat array, so that numpy can treat all of them at once."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer, Shaped

Lengths = Integer[np.ndarray, " examples"]
PartLengths = Integer[np.ndarray, "examples parts"]
"""Tokens of each part of examples."""


class Ragged(NamedTuple):
    """A ragged array: sequence n is the `lengths[n]` values after those of the sequences before it."""

    values: Shaped[np.ndarray, " total"]
    lengths: Integer[np.ndarray, " sequences"]

    @property
    def starts(self) -> Integer[np.ndarray, " sequences"]:
        """Index in `values` at which each sequence begins."""
        return starts_of(self.lengths)

    def sequences(self) -> list[np.ndarray]:
        """Each sequence on its own, for reading and tests."""
        return np.split(self.values, np.cumsum(self.lengths)[:-1]) if len(self.lengths) else []


RaggedFeatures = dict[str, Ragged]
"""Features of examples before they are put into rows: by name, a sequence for each example."""


def starts_of(lengths: Integer[np.ndarray, " sequences"]) -> Int[np.ndarray, " sequences"]:
    """Start of each of the sequences of these lengths: 3 2 4 give 0 3 5."""
    return np.cumsum(lengths, dtype=np.int64) - lengths


def positions_in(lengths: Integer[np.ndarray, " sequences"]) -> Int[np.ndarray, " total"]:
    """Position of each value in its sequence: lengths 3 and 2 give 0 1 2 0 1."""
    return np.arange(lengths.sum()) - np.repeat(starts_of(lengths), lengths)


def slices(
    values: Shaped[np.ndarray, " total"],
    starts: Integer[np.ndarray, " slices"],
    lengths: Integer[np.ndarray, " slices"],
) -> Shaped[np.ndarray, " taken"]:
    """`values[start : start + length]` of all slices, one after the other, as a new array: of 5 6 7 8 9, the slices of
    lengths 2 and 3 from 3 and 0 are 8 9 5 6 7.

    A slice may begin before the first value or end after the last. Callers use that to leave room for a token: they
    take a slice that is longer by one and write over its first or last value.
    """
    if not values.size:
        return np.zeros(lengths.sum(), values.dtype)
    source = np.repeat(starts - starts_of(lengths), lengths)  # [taken]: what to add to each index of the result
    source += np.arange(source.size)
    return values.take(source, mode="clip")


def text_lengths(documents: Ragged, eos: int) -> Int[np.ndarray, " sequences"]:
    """The length of each document without the EOS that closes it; one that was cut has none."""
    if not documents.values.size:
        return documents.lengths.astype(np.int64)
    ends = np.cumsum(documents.lengths, dtype=np.int64)
    closed = (documents.values.take(ends - 1, mode="clip") == eos) & (documents.lengths > 0)
    return documents.lengths - closed.astype(np.int64)
