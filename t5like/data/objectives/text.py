"""Objectives that keep a text's tokens: as they are, cut in two, or with the middle behind the end; and pairs.

Beside each function stand its sizes: the tokens of an example in each stack, from the lengths of its parts alone.
"""

import numpy as np
from jaxtyping import Bool, Int

from t5like.config import FIM, Data
from t5like.data.draws import Draws, Keys, below
from t5like.data.order import hash_of
from t5like.data.ragged import Lengths, PartLengths, Ragged, RaggedFeatures, slices, text_lengths
from t5like.data.vocabulary import Vocabulary

SPLIT, REARRANGED, FIRST_CUT, SECOND_CUT, ORDER = 1, 2, 3, 4, 5
"""Set the random choices of an example apart."""


def texts_of(lengths: PartLengths, data: Data) -> Lengths:
    """The tokens of each example's first part without the EOS that closes a document; one of `data.window` tokens
    counts as a document that was cut, which has none."""
    first = lengths[:, 0].astype(np.int64)
    return first - (first < data.window) * data.by_document


def causal(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """Next-token prediction: the targets are the text.

    decoder_target_tokens  7 8 1
    """
    return {"decoder_target_tokens": parts[0]}


def causal_sizes(lengths: PartLengths, keys: Keys, data: Data) -> Int[np.ndarray, "examples 1"]:
    return lengths[:, :1].astype(np.int64)


def prefix(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """Prefix language model (Raffel et al. 2020): the end of a text from its beginning, cut at any position.

    With tokens 7 8 9 6 5, cut after the second, and EOS 1:

        encoder_input_tokens   7 8 1
        decoder_target_tokens  9 6 5 1

    A text of a single token is all end. Where documents are packed, the table has cut them already: `parts` are two.
    """
    if len(parts) == 1:
        parts = _cut_in_two(parts[0], draws.lengths, data, vocabulary)
    first, rest = parts
    text = text_lengths(rest, vocabulary.eos) if data.by_document else rest.lengths
    return {
        "encoder_input_tokens": _closed(first, first.starts, first.lengths, vocabulary.eos),
        "decoder_target_tokens": _closed(rest, rest.starts, text, vocabulary.eos),
    }


def prefix_sizes(lengths: PartLengths, keys: Keys, data: Data) -> Int[np.ndarray, "examples 2"]:
    cut = lengths[:, 0] if lengths.shape[1] == 2 else prefixes(texts_of(lengths, data), keys)
    whole = lengths.sum(axis=1)
    return np.stack([cut, whole - (whole < data.window) * data.by_document - cut], axis=1) + 1


def prefixes(text: Lengths, keys: Keys) -> Lengths:
    """Tokens of each text's prefix: any number that leaves one for the rest, and none of a text of one token."""
    return np.minimum(1 + below(hash_of(keys, SPLIT), np.maximum(text - 1, 1)), np.maximum(text - 1, 0))


def _cut_in_two(part: Ragged, keys: Keys, data: Data, vocabulary: Vocabulary) -> tuple[Ragged, Ragged]:
    """The prefix and the rest of each text."""
    cut = prefixes(text_lengths(part, vocabulary.eos) if data.by_document else part.lengths, keys)
    widths = np.stack([cut, part.lengths - cut], axis=1)
    first = np.repeat(np.tile([True, False], len(cut)), widths.ravel())
    return Ragged(part.values[first], widths[:, 0]), Ragged(part.values[~first], widths[:, 1])


def sequence_to_sequence(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """The second part from the first; what is too long loses its end, but not its EOS.

    With the parts 7 8 1 and 9 6 5 1, where EOS is 1, and `data.target_length` 3:

        encoder_input_tokens   7 8 1
        decoder_target_tokens  9 6 1
    """
    source, target = (
        _closed(part, part.starts, np.clip(part.lengths - 1, 0, length - 1), vocabulary.eos)
        for part, length in zip(parts, data.lengths.values(), strict=True)
    )
    return {"encoder_input_tokens": source, "decoder_target_tokens": target}


def sequence_to_sequence_sizes(lengths: PartLengths, keys: Keys, data: Data) -> Int[np.ndarray, "examples 2"]:
    return np.clip(lengths, 1, list(data.lengths.values()))


def prompt_target(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """The second part after the first in one text, with loss on the second alone.

    With the prompt 7 8 1, the target 9 6 1 and EOS 1:

        decoder_target_tokens  7 8 9 6 1
        decoder_loss_weights   0 0 1 1 1

    If both are longer than the row, the prompt loses its beginning, and it keeps as much as half of the row: a target
    that does not fit into the rest loses its end, but not its EOS.
    """
    length, (prompt, target) = data.length, parts
    before, after = (np.maximum(part.lengths - 1, 0) for part in parts)
    kept = np.minimum(after, length - 1 - np.minimum(before, length // 2))
    shown = np.minimum(before, length - 1 - kept)
    values = np.concatenate([prompt.values, target.values])
    starts = np.stack([prompt.starts + before - shown, len(prompt.values) + target.starts], axis=1)
    widths = np.stack([shown, kept + 1], axis=1)
    tokens = Ragged(slices(values, starts.ravel(), widths.ravel()), widths.sum(axis=1))
    tokens.values[np.cumsum(tokens.lengths) - 1] = vocabulary.eos
    weights = np.repeat(np.tile(np.array([0, 1], np.float32), len(before)), widths.ravel())
    return {"decoder_target_tokens": tokens, "decoder_loss_weights": Ragged(weights, tokens.lengths)}


def prompt_target_sizes(lengths: PartLengths, keys: Keys, data: Data) -> Int[np.ndarray, "examples 1"]:
    return np.clip(lengths.sum(axis=1, keepdims=True) - 1, 1, data.length)


def fill_in_the_middle(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """A text's middle after its end (Bavarian et al. 2022), at `middle_rate`, in one of two orders.

    The two cuts are at any positions, also equal ones. With tokens 7 8 9 6 5 1 cut after the first and the third, the
    tokens 50, 51 and 52 for prefix, middle and suffix, and EOS 1, prefix, suffix and middle (PSM) are

        decoder_target_tokens  50 7 52 6 5 51 8 9 1

    and suffix, prefix and middle (SPM, in the paper's second variant), at `suffix_first_rate`,

        decoder_target_tokens  50 52 6 5 51 7 8 9 1

    Other texts stay as they are.
    """
    (part,), (before, middle, after) = parts, (vocabulary.special[name] for name in FIM)
    moved = _moved(draws.lengths, data)
    text = np.minimum(text_lengths(part, vocabulary.eos), data.length - 4)
    cuts = [below(hash_of(draws.noise, salt), text + 1) for salt in (FIRST_CUT, SECOND_CUT)]
    low, high = np.minimum(*cuts), np.maximum(*cuts)
    # Where the suffix comes first, the prefix is no slice of its own, but the beginning of the middle's.
    suffix_first = below(hash_of(draws.noise, ORDER), 2**32) < data.objective.suffix_first_rate * 2**32
    begin = np.where(suffix_first, 0, low)  # of the middle's slice, and the width of the prefix's
    # Each slice begins one early, to leave room for its special token.
    starts = part.starts[:, None] + np.stack([np.zeros_like(low), high, begin], axis=1) - moved[:, None]
    widths = np.where(moved[:, None], np.stack([begin, text - high, high - begin + 1], axis=1) + 1, 0)
    widths[~moved, 0] = part.lengths[~moved]
    tokens = Ragged(slices(part.values, starts.ravel(), widths.ravel()), widths.sum(axis=1))
    begins = (np.cumsum(widths) - widths.ravel()).reshape(-1, 3)[moved]
    tokens.values[begins] = [before, after, middle]
    tokens.values[(np.cumsum(tokens.lengths) - 1)[moved]] = vocabulary.eos
    return {"decoder_target_tokens": tokens}


def fill_in_the_middle_sizes(lengths: PartLengths, keys: Keys, data: Data) -> Int[np.ndarray, "examples 1"]:
    rearranged = np.minimum(texts_of(lengths, data) + 4, data.length)
    return np.where(_moved(keys, data), rearranged, lengths[:, 0])[:, None]


def _moved(keys: Keys, data: Data) -> Bool[np.ndarray, " examples"]:
    """A flag for each example that fill in the middle rearranges."""
    return below(hash_of(keys, REARRANGED), 2**32) < data.objective.middle_rate * 2**32


def _closed(part: Ragged, starts: Lengths, lengths: Lengths, eos: int) -> Ragged:
    """Slices of a part, each with an EOS after it."""
    closed = Ragged(slices(part.values, starts, lengths + 1), lengths + 1)
    closed.values[np.cumsum(closed.lengths) - 1] = eos
    return closed
