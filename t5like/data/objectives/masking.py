"""Objectives of encoders: BERT's masked language model, alone and with its next-sentence prediction."""

import numpy as np
from jaxtyping import Bool, Int

from t5like.config import CLS, MASK, SEP, Data
from t5like.data.order import hash_of
from t5like.data.ragged import (
    Draws,
    Keys,
    Lengths,
    Ragged,
    Streams,
    below,
    choose,
    random_bits,
    slices,
)
from t5like.data.vocabulary import Vocabulary

CHOICE, FATE, RANDOM = 1, 2, 4
"""Set the random choices of an example apart."""


def masked(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> Streams:
    """BERT's masked LM (Devlin et al. 2019): `density` of the tokens, at least one, are predicted, special ones never.

    Of these 80 % become [MASK], 10 % a random learned piece, 10 % stay. With [MASK] 50, tokens 7 8 9 6 1 and the
    second and fourth chosen:

        encoder_input_tokens   7 50 9 50 1
        encoder_target_tokens  7  8 9  6 1
        encoder_loss_weights   0  1 0  1 0

    With whole words the pieces of a word are chosen together, in random order of the words; as in BERT's own code, a
    word with more pieces than are still wanted is passed over, so that sometimes fewer are chosen.
    """
    return _mask(parts[0], draws.noise, data, vocabulary)


def next_sentence(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> Streams:
    """BERT's pair of segments (Devlin et al. 2019), of which the model says whether they follow each other, masked.

    `parts` are A, the B that follows it, and the B of another document (`data.packing.sentence_pairs`). Half of the
    time the other B is shown. As at Hugging Face, label 0 says that B follows and 1 that it does not. With [CLS] 40,
    [SEP] 41, A 5 9, B 6 7 9 and the other B 8 3 9, before masking, where B follows:

        encoder_target_tokens  40 5 9 41 6 7 9 41
        encoder_token_types     0 0 0  0 1 1 1  1
        labels                  0
    """
    first, own, other = parts
    random = below(hash_of(draws.noise, RANDOM), 2) == 1
    length = np.where(random, np.minimum(other.lengths, data.length - 3 - first.lengths), own.lengths)
    values = np.concatenate([part.values for part in parts])
    begins = len(first.values) + np.where(random, len(own.values) + other.starts, own.starts)
    widths = np.stack([first.lengths + 2, length + 1], axis=1)
    tokens = slices(values, np.stack([first.starts - 1, begins], axis=1).ravel(), widths.ravel())
    pair = Ragged(tokens, widths.sum(axis=1))
    tokens[pair.starts] = vocabulary.special[CLS]
    tokens[np.cumsum(widths) - 1] = vocabulary.special[SEP]
    types = np.repeat(np.tile(np.array([0, 1], np.int32), len(random)), widths.ravel())
    return _mask(pair, draws.noise, data, vocabulary) | {
        "encoder_token_types": Ragged(types, pair.lengths),
        "labels": Ragged(random.astype(np.int32), np.ones_like(pair.lengths)),
    }


def _mask(tokens: Ragged, keys: Keys, data: Data, vocabulary: Vocabulary) -> Streams:
    ordinary = np.flatnonzero(~vocabulary.is_special[tokens.values])
    edges = np.searchsorted(ordinary, np.append(tokens.starts, tokens.values.size))
    available = np.diff(edges)
    wanted = np.minimum(np.maximum(np.rint(data.objective.density * tokens.lengths), 1).astype(np.int64), available)
    if data.objective.whole_words:
        begins = vocabulary.begins_word[tokens.values[ordinary]]
        begins |= np.diff(ordinary, prepend=-2) > 1
        begins[edges[:-1][available > 0]] = True
        flags = _choose_words(hash_of(keys, CHOICE), begins, edges, wanted)
    else:
        flags = choose(hash_of(keys, CHOICE), available, wanted)
    chosen = ordinary[flags]
    counts = np.diff(np.searchsorted(chosen, np.append(tokens.starts, tokens.values.size)))
    fate = random_bits(hash_of(keys, FATE), counts)
    replacement = vocabulary.ordinary[below(fate << np.uint64(32), len(vocabulary.ordinary))]
    fate = below(fate, 10)
    inputs = tokens.values.copy()
    weights = np.zeros(inputs.shape, np.float32)
    inputs[chosen] = np.where(fate < 8, vocabulary.special[MASK], np.where(fate < 9, replacement, inputs[chosen]))
    weights[chosen] = 1
    return {
        "encoder_input_tokens": Ragged(inputs, tokens.lengths),
        "encoder_target_tokens": tokens,
        "encoder_loss_weights": Ragged(weights, tokens.lengths),
    }


def _choose_words(
    keys: Keys, begins: Bool[np.ndarray, " tokens"], edges: Int[np.ndarray, " edges"], wanted: Lengths
) -> Bool[np.ndarray, " tokens"]:
    """Words in random order, each if it has no more tokens than are still wanted; `begins` says where one begins."""
    words = np.flatnonzero(begins)
    widths = np.diff(words, append=begins.size)
    counts = np.diff(np.searchsorted(words, edges))
    owner = np.repeat(np.arange(len(counts)), counts)
    bits = random_bits(keys, counts) >> np.uint64(24)
    left = np.argsort((owner.astype(np.uint64) << np.uint64(40)) | bits)
    taken, wanted = np.zeros(len(words), bool), wanted.copy()
    while True:
        left = left[widths[left] <= wanted[owner[left]]]
        if not left.size:
            return np.repeat(taken, widths)
        whose, until = owner[left], np.cumsum(widths[left])
        first = np.searchsorted(whose, np.arange(len(counts)))
        before = np.append(0, until)[first]
        fits = until - before[whose] <= wanted[whose]
        taken[left[fits]] = True
        wanted -= np.bincount(whose[fits], widths[left[fits]], len(counts)).astype(np.int64)
        left = left[~fits]
