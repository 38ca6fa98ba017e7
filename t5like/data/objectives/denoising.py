"""Objectives that take spans out of a text and let the decoder restore them: T5's span corruption and UL2's mixture.

Both are one function of a few numbers for each example: how many tokens are noise, in how many spans, whether
sentinels stand for them, and which mode token comes first. `t5like.config.spans` has the lengths.
"""

import functools

import numpy as np
from jaxtyping import Int

from t5like.config import Data
from t5like.config.spans import Denoising
from t5like.data.draws import Draws, Keys, below, choose
from t5like.data.objectives.text import texts_of
from t5like.data.order import hash_of
from t5like.data.ragged import (
    Lengths,
    PartLengths,
    Ragged,
    RaggedFeatures,
    positions_in,
    slices,
    starts_of,
    text_lengths,
)
from t5like.data.vocabulary import Vocabulary

DENOISER, KEPT, NOISE = 1, 2, 3
"""Set the random choices of an example apart."""


def span_corruption(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
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
    return _corrupt(parts[0], draws, data, vocabulary)


def ul2(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """UL2's mixture of denoisers (Tay et al. 2022): one for each example, drawn by its rate, its mode token first.

    A denoiser with a mean span is T5's span corruption. One without is a prefix language model: its noise is the end
    of the text and has no sentinel. With tokens 10..17, density 0.25, mode token 90 and EOS 1:

        encoder_input_tokens   90 10 11 12 13 14 15 1
        decoder_target_tokens  16 17 1
    """
    return _corrupt(parts[0], draws, data, vocabulary)


def corrupted_sizes(lengths: PartLengths, keys: Keys, data: Data) -> Int[np.ndarray, "examples 2"]:
    """Tokens of the input and of the targets that texts of these lengths become by their denoisers."""
    text = np.maximum(texts_of(lengths, data), 0)
    return _lengths_table(data.window, data.objective.denoisings)[denoisers(keys, data), text, 2:]


def denoisers(keys: Keys, data: Data) -> Int[np.ndarray, " examples"]:
    """The number of each example's denoiser, drawn by the rates."""
    until = np.cumsum([denoising.rate for denoising in data.objective.denoisings])
    drawn = below(hash_of(keys, DENOISER), 2**32) * (until[-1] / 2**32)
    return np.searchsorted(until, drawn, side="right")


def _corrupt(part: Ragged, draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """The input and the targets of each example by its denoiser.

    Comments have the arrays of the worked example of `span_corruption`: 10..17 with the spans 12 13 and 17.
    """
    ways, which, keys = data.objective.denoisings, denoisers(draws.lengths, data), draws.noise
    text = text_lengths(part, vocabulary.eos) if data.by_document else part.lengths
    noise, spans, *lengths = _lengths_table(data.window, ways)[which, text].T
    marks = np.where(np.array([way.sentinels for way in ways])[which], spans, 0)
    mode = np.array([vocabulary.special[way.mode] if way.mode else -1 for way in ways])[which]

    # From here on arrays are [spans of all examples]; a span is a run of kept tokens and the corrupted run after it.
    count = np.maximum(spans, 1)  # [examples]
    first, last = starts_of(count), np.cumsum(count) - 1
    widths = _compositions(
        np.concatenate([hash_of(keys, KEPT), hash_of(keys, NOISE)]),
        np.concatenate([text - noise, noise]),
        np.concatenate([count, count]),
    )
    kept, corrupt = widths.reshape(2, -1)  # 2 3 and 2 1
    # Start of each span in the part's values: 0 4.
    at = starts_of(kept + corrupt) + np.repeat(part.starts - starts_of(text), count)
    marked = np.repeat(marks > 0, count)
    sentinels = vocabulary.sentinels[positions_in(marks)]

    # Slices that are longer by one leave room for a sentinel behind, an EOS at the end, a mode before:
    # 10 11 .. | 14 15 16 .. .. becomes 10 11 99 14 15 16 98 1.
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

    # The same with the sentinel before each corrupted run: .. 12 13 | .. 17 .. becomes 99 12 13 98 17 1.
    width = corrupt + marked
    width[last] += 1
    targets = Ragged(slices(part.values, at + kept - marked, width), lengths[1])
    targets.values[starts_of(width)[marked]] = sentinels
    targets.values[np.cumsum(targets.lengths) - 1] = vocabulary.eos
    return {"encoder_input_tokens": inputs, "decoder_target_tokens": targets}


def _compositions(keys: Keys, totals: Lengths, counts: Lengths) -> Int[np.ndarray, " parts"]:
    """`counts[n]` lengths above 0 that add up to `totals[n]`, all lists equally likely; 0 is a single length of 0.

    Totals 5 3 and counts 2 1 give, with the cut of the first drawn between its second and third token, 2 3 | 3.
    """
    sizes = np.maximum(totals, 1)
    cuts = np.flatnonzero(choose(keys, sizes - 1, counts - 1))
    # A sequence of `size` tokens has size - 1 gaps. Gap g is the border at g + 1, and each sequence before it has one
    # token more than gaps: gap 1 of the first is border 2 among all 8 tokens.
    cuts += np.repeat(np.arange(1, len(keys) + 1), counts - 1)
    first = starts_of(counts)
    begins = np.insert(cuts, first - np.arange(len(keys)), starts_of(sizes))  # 0 2 | 5
    lengths = np.diff(begins, append=sizes.sum())
    lengths[first] -= sizes - totals
    return lengths


@functools.cache
def _lengths_table(longest: int, ways: tuple[Denoising, ...]) -> Int[np.ndarray, "denoisers texts 4"]:
    """Noise, spans, input and targets, for each denoiser, of texts of 0 to `longest` tokens."""
    return np.array([[way.corrupted(text)[1:] for text in range(longest + 1)] for way in ways])
