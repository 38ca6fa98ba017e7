"""Objectives of heads: labels of whole texts, of tokens, of spans, and of candidates.

An example has three parts, sequences of numbers that `t5like.data.tasks` has written. `tokens` are those of the row,
with all that frames a text. `widths` are the lengths of the two segments of each sequence of it, the second 0 where
there is none; all kinds but multiple choice have one sequence. `labels` are described at each function. Nothing is
drawn and nothing is cut; a decoder reads the same tokens as an encoder, and has no token types.
"""

import numpy as np
from jaxtyping import Int

from t5like.config import Data
from t5like.data.draws import Draws, Keys
from t5like.data.ragged import PartLengths, Ragged, RaggedFeatures
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError

Parts = tuple[Ragged, ...]


def classification(parts: Parts, draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """One of `data.objective.labels` labels.

    With CLS 40 and SEP 41, the parts 40 5 9 41 6 7 41, 4 3 and 2, a pair of which the label is 2:

        encoder_input_tokens  40 5 9 41 6 7 41
        encoder_token_types    0 0 0  0 1 1  1
        labels                 2
    """
    return _inputs(parts, data) | {"labels": _below(parts[2], data.objective.labels, "labels")}


def multi_label_classification(parts: Parts, draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """Any number of `data.objective.labels` labels: a one for each that the text has.

    With EOS 1, the parts 5 9 1, 3 0 and 0 1 1, a text that has the last two of three labels:

        encoder_input_tokens  5 9 1
        encoder_token_types   0 0 0
        labels                0 1 1
    """
    return _inputs(parts, data) | {"labels": _each(parts[2], data.objective.labels)}


def regression(parts: Parts, draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """`data.objective.labels` numbers, each stored as the high and the low half of a float32's bits.

    With EOS 1, the parts 5 9 1, 3 0 and 16416 0, of which 16416 * 2^16 are the bits of 2.5:

        encoder_input_tokens  5 9 1
        encoder_token_types   0 0 0
        labels                2.5
    """
    halves, counts = parts[2]
    bits = halves.astype(np.uint32).reshape(-1, 2)
    numbers = ((bits[:, 0] << np.uint32(16)) | bits[:, 1]).view(np.float32)
    return _inputs(parts, data) | {"labels": _each(Ragged(numbers, counts // 2), data.objective.labels)}


def token_classification(parts: Parts, draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """One of `data.objective.labels` labels for some of the tokens. They are stored one higher; 0 has no label.

    With CLS 40 and SEP 41, the parts 40 5 9 6 41, 5 0 and 0 3 0 1 0: the tokens 5 and 6 have the labels 2 and 0, and 9
    goes on with a word:

        encoder_input_tokens   40 5 9 6 41
        encoder_token_types     0 0 0 0  0
        encoder_target_tokens   0 2 0 0  0
        encoder_loss_weights    0 1 0 1  0
    """
    stored, lengths = parts[2]
    targets = _below(Ragged(np.maximum(stored - 1, 0), lengths), data.objective.labels, "labels")
    return _inputs(parts, data) | {
        f"{data.objective.stack}_target_tokens": targets,
        f"{data.objective.stack}_loss_weights": Ragged((stored > 0).astype(np.float32), lengths),
    }


def span(parts: Parts, draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """The positions of an answer's first and last token in the row; both are those of one token, such as CLS, where
    there is no answer.

    With CLS 40 and SEP 41, the parts 40 5 41 6 7 9 41, 3 4 and 4 5, of which 7 9 answers 5:

        encoder_input_tokens  40 5 41 6 7 9 41
        encoder_token_types    0 0  0 1 1 1  1
        labels                 4 5
    """
    return _inputs(parts, data) | {"labels": _each(parts[2], 2)}


def multiple_choice(parts: Parts, draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """The right one of the candidates, each a segment of the row, with positions from 0.

    With CLS 40 and SEP 41, the parts 40 5 41 6 41 40 5 41 7 9 41, 3 2 3 3 and 1, where 7 9 and not 6 goes with 5, and
    `data.objective.candidates` 4:

        encoder_input_tokens  40 5 41 6 41 40 5 41 7 9 41
        encoder_token_types    0 0  0 1  1  0 0  0 1 1  1
        segments               5 6
        candidates             1 1 0 0
        labels                 1
    """
    widths, counts = parts[1]
    counts, most = counts // 2, data.objective.candidates
    if len(counts) and counts.max() > most:
        raise UserError(
            f"An example has {counts.max()} candidates, but data.objective.candidates={most}: raise it, and prepare "
            "the data again."
        )
    there = (np.arange(most) < counts[:, None]).astype(np.int32)
    return _inputs(parts, data) | {
        "segments": Ragged(widths.reshape(-1, 2).sum(axis=1), counts),
        "candidates": Ragged(there.ravel(), np.full(len(counts), most)),
        "labels": _below(parts[2], most, "candidates"),
    }


def sizes(lengths: PartLengths, keys: Keys, data: Data) -> Int[np.ndarray, "examples 1"]:
    """The tokens of examples, which are in the first part."""
    return lengths[:, :1].astype(np.int64)


def _inputs(parts: Parts, data: Data) -> RaggedFeatures:
    """The tokens and, for an encoder, their types: 0 in the first segment of a sequence, 1 in the second."""
    tokens, (widths, _) = parts[0], parts[1]
    if data.objective.stack == "decoder":
        return {"decoder_input_tokens": tokens}
    types = np.repeat(np.arange(len(widths), dtype=np.int32) % 2, widths)
    return {"encoder_input_tokens": tokens, "encoder_token_types": Ragged(types, tokens.lengths)}


def _each(labels: Ragged, count: int) -> Ragged:
    """The labels, of which each example has so many."""
    if (labels.lengths != count).any():
        raise UserError(
            f"An example has {labels.lengths[labels.lengths != count][0]} labels, but data.objective has {count}: "
            "prepare the data again."
        )
    return labels


def _below(labels: Ragged, count: int, field: str) -> Ragged:
    """The labels, each a number below the count that a field of the objective gives."""
    if len(labels.values) and labels.values.max() >= count:
        raise UserError(
            f"An example has the label {labels.values.max()}, counted from 0, but data.objective.{field}={count}: "
            "raise it, and prepare the data again."
        )
    return labels
