"""Objectives that take spans out of a text and let the decoder restore them: T5's span corruption and UL2's mixture.

Both are one function of a few numbers for each example: how many tokens are noise, in how many spans, whether
sentinels stand for them, and which mode piece comes first. `t5like.config.objective.corrupted` has the lengths.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from t5like.config import Data
from t5like.config.objective import corrupted
from t5like.data.order import hash_of
from t5like.data.ragged import (
    Draws,
    Keys,
    Lengths,
    Ragged,
    Streams,
    below,
    choose,
    places,
    slices,
    starts_of,
    text_lengths,
)
from t5like.data.vocabulary import Vocabulary

DENOISER, KEPT, NOISE = 1, 2, 3
"""Set the random choices of an example apart."""


class Denoising(NamedTuple):
    """A denoiser, be it T5's only one or one of UL2's."""

    mode: str
    density: float
    mean_span: float | None
    sentinels: bool


def span_corruption(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> Streams:
    """T5's span corruption (Raffel et al. 2020): each noise span becomes one sentinel, the target lists the spans.

    With tokens 10..17, the spans 12 13 and 17 corrupted, sentinels 99, 98, ... and EOS 1:

        encoder_input_tokens   10 11 99 14 15 16 98 1
        decoder_target_tokens  99 12 13 98 17 1

    and without sentinels (`data.objective.sentinels`):

        encoder_input_tokens   10 11 14 15 16 1
        decoder_target_tokens  12 13 17 1

    As in T5, a text begins with tokens that stay and ends with a span; texts of equal length have equally many noise
    tokens and spans. The EOS that closes a document is not part of its text, and a text of one token stays whole.
    """
    return _corrupt(parts[0], draws.noise, denoisers(draws.lengths, data), data, vocabulary)


def ul2(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> Streams:
    """UL2's mixture of denoisers (Tay et al. 2022): one for each example, drawn by its rate, its mode piece first.

    A denoiser with a mean span is T5's span corruption. One without is a prefix language model: its noise is the end
    of the text and has no sentinel. With tokens 10..17, density 0.25, mode piece 90 and EOS 1:

        encoder_input_tokens   90 10 11 12 13 14 15 1
        decoder_target_tokens  16 17 1
    """
    return _corrupt(parts[0], draws.noise, denoisers(draws.lengths, data), data, vocabulary)


def denoisers(keys: Keys, data: Data) -> Int[np.ndarray, " examples"]:
    """The number of each example's denoiser, drawn by the rates; span corruption has one alone."""
    if data.objective.kind == "span_corruption":
        return np.zeros(len(keys), np.int64)
    until = np.cumsum([denoiser.rate for denoiser in data.objective.denoisers])
    drawn = below(hash_of(keys, DENOISER), 2**32) * (until[-1] / 2**32)
    return np.searchsorted(until, drawn, side="right")


def corrupted_sizes(lengths: Lengths, keys: Keys, data: Data) -> Int[np.ndarray, "examples 2"]:
    """Tokens of the input and of the targets that texts of these lengths become by their denoisers."""
    return _lengths_table(data.window, _denoisings(data))[denoisers(keys, data), lengths, 2:]


def _corrupt(part: Ragged, keys: Keys, which: Lengths, data: Data, vocabulary: Vocabulary) -> Streams:
    """The input and the targets of each example by its denoiser, the number `which`."""
    ways = _denoisings(data)
    text = text_lengths(part, vocabulary.eos) if data.by_document else part.lengths
    noise, spans, *lengths = _lengths_table(data.window, ways)[which, text].T
    marks = np.where(np.array([way.sentinels for way in ways])[which], spans, 0)
    mode = np.array([vocabulary.special[way.mode] if way.mode else -1 for way in ways])[which]

    # From here on a number for each span, which is a kept run and the corrupted one after it.
    count = np.maximum(spans, 1)
    first, last = starts_of(count), np.cumsum(count) - 1
    widths = _compositions(
        np.concatenate([hash_of(keys, KEPT), hash_of(keys, NOISE)]),
        np.concatenate([text - noise, noise]),
        np.concatenate([count, count]),
    )
    kept, corrupt = widths.reshape(2, -1)
    at = starts_of(kept + corrupt) + np.repeat(part.starts - starts_of(text), count)
    marked = np.repeat(marks > 0, count)
    sentinels = vocabulary.sentinels[places(marks)]

    # Slices that are longer by one leave room for a sentinel, an EOS, or a mode piece.
    from_, width = at.copy(), kept + marked
    from_[first] -= mode >= 0
    width[first] += mode >= 0
    width[last] += 1
    inputs = Ragged(slices(part.values, from_, width), lengths[0])
    after = np.cumsum(width)
    after[last] -= 1
    inputs.values[after[marked] - 1] = sentinels
    inputs.values[np.cumsum(inputs.lengths) - 1] = vocabulary.eos
    inputs.values[inputs.starts[mode >= 0]] = mode[mode >= 0]

    width = corrupt + marked
    width[last] += 1
    targets = Ragged(slices(part.values, at + kept - marked, width), lengths[1])
    targets.values[starts_of(width)[marked]] = sentinels
    targets.values[np.cumsum(targets.lengths) - 1] = vocabulary.eos
    return {"encoder_input_tokens": inputs, "decoder_target_tokens": targets}


def _compositions(keys: Keys, totals: Lengths, counts: Lengths) -> Int[np.ndarray, " parts"]:
    """`counts[n]` lengths above 0 that add up to `totals[n]`, all lists equally likely; 0 is a single length of 0."""
    sizes = np.maximum(totals, 1)
    cuts = np.flatnonzero(choose(keys, sizes - 1, counts - 1))
    # Cut c of a sequence is the end of its part at c + 1, and each sequence before it has one place more.
    cuts += np.repeat(np.arange(1, len(keys) + 1), counts - 1)
    first = starts_of(counts)
    begins = np.insert(cuts, first - np.arange(len(keys)), starts_of(sizes))
    lengths = np.diff(begins, append=sizes.sum())
    lengths[first] -= sizes - totals
    return lengths


def _denoisings(data: Data) -> tuple[Denoising, ...]:
    objective = data.objective
    if objective.kind == "span_corruption":
        return (Denoising("", objective.density, objective.mean_span, objective.sentinels),)
    return tuple(Denoising(d.mode, d.density, d.mean_span, d.mean_span is not None) for d in objective.denoisers)


@functools.cache
def _lengths_table(longest: int, ways: tuple[Denoising, ...]) -> Int[np.ndarray, "denoisers texts 4"]:
    """Noise, spans, input and targets, for each denoiser, of texts of 0 to `longest` tokens."""
    texts = range(longest + 1)
    table = [[corrupted(n, way.density, way.mean_span, way.sentinels)[1:] for n in texts] for way in ways]
    modes = np.array([bool(way.mode) for way in ways])
    return np.array(table) + modes[:, None, None] * np.array([0, 0, 1, 0])
