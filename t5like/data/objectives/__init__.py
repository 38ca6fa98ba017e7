"""Tokens to what the model sees and what it must predict.

An objective is a pure function of examples, keys for the random choices of each, the config and the vocabulary. An
example is a window of running text, one document, or a pair of parts; its tokens are int32. The function returns
SeqIO's features as streams, one sequence for each example, and `t5like.data.rows.layout.place` puts these into rows:

    place(OBJECTIVES[kind](parts, draws, data, vocabulary), row, rows, data, vocabulary)

Where the documents of a window have to be kept apart (causal and masked), `place` does so.
"""

from typing import Protocol

import numpy as np
from jaxtyping import Bool, Int, Integer

from t5like.config import CLS, FIM, SEP, Data
from t5like.data.objectives.denoising import corrupted_sizes, span_corruption, ul2
from t5like.data.objectives.masking import masked, next_sentence
from t5like.data.order import hash_of
from t5like.data.ragged import Draws, Keys, Lengths, Ragged, Streams, below, slices, text_lengths
from t5like.data.vocabulary import Frame, Vocabulary
from t5like.errors import UserError

SPLIT, REARRANGED, FIRST_CUT, SECOND_CUT = 1, 2, 3, 4
"""Set the random choices of an example apart."""


class Function(Protocol):
    """The signature of every objective."""

    def __call__(self, parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> Streams: ...


def causal(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> Streams:
    """Next-token prediction: the targets are the text.

    decoder_target_tokens  7 8 1
    """
    return {"decoder_target_tokens": parts[0]}


def prefix(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> Streams:
    """Prefix language model (Raffel et al. 2020): the end of a text from its beginning, cut at any place.

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


def _cut_in_two(part: Ragged, keys: Keys, data: Data, vocabulary: Vocabulary) -> tuple[Ragged, Ragged]:
    """The prefix and the rest of each text."""
    cut = prefixes(text_lengths(part, vocabulary.eos) if data.by_document else part.lengths, keys)
    widths = np.stack([cut, part.lengths - cut], axis=1)
    first = np.repeat(np.tile([True, False], len(cut)), widths.ravel())
    return Ragged(part.values[first], widths[:, 0]), Ragged(part.values[~first], widths[:, 1])


def sequence_to_sequence(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> Streams:
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


def prompt_target(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> Streams:
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


def fill_in_the_middle(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> Streams:
    """A text's middle after its end (Bavarian et al. 2022, the order prefix, suffix, middle), at `middle_rate`.

    The two cuts are at any places, also equal ones. With tokens 7 8 9 6 5 1 cut after the first and the third, the
    pieces 50, 51 and 52 for prefix, middle and suffix, and EOS 1:

        decoder_target_tokens  50 7 52 6 5 51 8 9 1

    Other texts stay as they are.
    """
    (part,), (before, middle, after) = parts, (vocabulary.special[name] for name in FIM)
    moved = _moved(draws.lengths, data)
    text = np.minimum(text_lengths(part, vocabulary.eos), data.length - 4)
    cuts = [below(hash_of(draws.noise, salt), text + 1) for salt in (FIRST_CUT, SECOND_CUT)]
    low, high = np.minimum(*cuts), np.maximum(*cuts)
    # Each slice begins one early, to leave room for its piece.
    starts = part.starts[:, None] + np.stack([np.zeros_like(low), high, low], axis=1) - moved[:, None]
    widths = np.where(moved[:, None], np.stack([low, text - high, high - low + 1], axis=1) + 1, 0)
    widths[~moved, 0] = part.lengths[~moved]
    tokens = Ragged(slices(part.values, starts.ravel(), widths.ravel()), widths.sum(axis=1))
    begins = (np.cumsum(widths) - widths.ravel()).reshape(-1, 3)[moved]
    tokens.values[begins] = [before, after, middle]
    tokens.values[(np.cumsum(tokens.lengths) - 1)[moved]] = vocabulary.eos
    return {"decoder_target_tokens": tokens}


OBJECTIVES: dict[str, Function] = {
    "span_corruption": span_corruption,
    "ul2": ul2,
    "prefix": prefix,
    "sequence_to_sequence": sequence_to_sequence,
    "causal": causal,
    "prompt_target": prompt_target,
    "fill_in_the_middle": fill_in_the_middle,
    "masked": masked,
    "next_sentence": next_sentence,
}


def require_pieces(data: Data, vocabulary: Vocabulary) -> None:
    """Raises:
    UserError: the vocabulary lacks a special piece of the objective; of a file this is known once it is read.
    """
    missing = [name for name in data.objective.special_pieces if name not in vocabulary.special]
    if missing:
        raise UserError(
            f"The vocabulary of data.store={data.store} has no {' '.join(missing)}, which data.objective.kind="
            f"{data.objective.kind!r} needs: add {'it' if len(missing) == 1 else 'them'} to data.vocabulary.extra."
        )


def trained_frame(data: Data, vocabulary: Vocabulary) -> Frame:
    """The frame of a text in the rows of the objective, and so of a prompt to a model that learned from them: the start
    before a decoder's, [CLS] and [SEP] around that of pairs, EOS behind all other input of an encoder."""
    if "encoder" not in data.lengths:
        return Frame(before=(vocabulary.start,))
    if data.objective.kind == "next_sentence":
        return Frame((vocabulary.special[CLS],), (vocabulary.special[SEP],))
    return Frame(behind=(vocabulary.eos,))


def sizes(lengths: Integer[np.ndarray, "examples parts"], keys: Keys, data: Data) -> Int[np.ndarray, "examples stacks"]:
    """The tokens of examples with parts of these lengths in each stack, in the order of `data.lengths`.

    `keys` are those of `Draws.lengths`. The parts of a pair are closed by EOS, and so is a document shorter than
    `data.window`; one of `data.window` tokens counts as one that was cut.
    """
    first = lengths[:, 0].astype(np.int64)
    text = first - (first < data.window) * data.by_document
    match data.objective.kind:
        case "span_corruption" | "ul2":
            return corrupted_sizes(np.maximum(text, 0), keys, data)
        case "prefix":
            cut = lengths[:, 0] if lengths.shape[1] == 2 else prefixes(text, keys)
            whole = lengths.sum(axis=1)
            return np.stack([cut, whole - (whole < data.window) * data.by_document - cut], axis=1) + 1
        case "sequence_to_sequence":
            return np.clip(lengths, 1, list(data.lengths.values()))
        case "prompt_target":
            return np.clip(lengths.sum(axis=1, keepdims=True) - 1, 1, data.length)
        case "fill_in_the_middle":
            return np.where(_moved(keys, data), np.minimum(text + 4, data.length), first)[:, None]
        case "next_sentence":
            return lengths.sum(axis=1, keepdims=True) + 3
    return first[:, None]


def prefixes(text: Lengths, keys: Keys) -> Lengths:
    """Tokens of each text's prefix: any number that leaves one for the rest, and none of a text of one token."""
    return np.minimum(1 + below(hash_of(keys, SPLIT), np.maximum(text - 1, 1)), np.maximum(text - 1, 0))


def _moved(keys: Keys, data: Data) -> Bool[np.ndarray, " examples"]:
    """A flag for each example that fill in the middle rearranges."""
    return below(hash_of(keys, REARRANGED), 2**32) < data.objective.middle_rate * 2**32


def _closed(part: Ragged, starts: Lengths, lengths: Lengths, eos: int) -> Ragged:
    """Slices of a part, each with an EOS after it."""
    closed = Ragged(slices(part.values, starts, lengths + 1), lengths + 1)
    closed.values[np.cumsum(closed.lengths) - 1] = eos
    return closed
