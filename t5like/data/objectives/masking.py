"""Objectives of encoders: BERT's masked language model, alone and with its next-sentence prediction."""

import numpy as np
from jaxtyping import Bool, Int

from t5like.config import Data
from t5like.data.draws import Draws, Keys, below, choose, random_bits
from t5like.data.objectives.words import word_begins
from t5like.data.order import hash_of
from t5like.data.ragged import Lengths, PartLengths, Ragged, RaggedFeatures, slices
from t5like.data.vocabulary import Vocabulary

CHOICE, FATE, RANDOM = 1, 2, 4
"""Set the random choices of an example apart."""


def masked(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """BERT's masked LM (Devlin et al. 2019): `density` of the tokens, at least one, are predicted, special ones never.

    Of these 80 % become the mask, 10 % a random learned token, 10 % stay. With the mask 50, tokens 7 8 9 6 1 and the
    second and fourth chosen:

        encoder_input_tokens   7 50 9 50 1
        encoder_target_tokens  7  8 9  6 1
        encoder_loss_weights   0  1 0  1 0

    With whole words the tokens of a word are chosen together, in random order of the words; as in BERT's own code, a
    word with more tokens than are still wanted is passed over, so that sometimes fewer are chosen.
    """
    return _mask(parts[0], draws.noise, data, vocabulary)


def next_sentence(parts: tuple[Ragged, ...], draws: Draws, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """BERT's pair of segments (Devlin et al. 2019), of which the model says whether they follow each other, masked.

    `parts` are A, the B that follows it, and the B of another document (`data.packing.sentence_pairs`). Half of the
    time the other B is shown. As at Hugging Face, label 0 says that B follows and 1 that it does not. With CLS 40,
    SEP 41, A 5 9, B 6 7 9 and the other B 8 3 9, before masking, where B follows:

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
    tokens[pair.starts] = vocabulary.require("cls")
    tokens[np.cumsum(widths) - 1] = vocabulary.require("sep")
    types = np.repeat(np.tile(np.array([0, 1], np.int32), len(random)), widths.ravel())
    return _mask(pair, draws.noise, data, vocabulary) | {
        "encoder_token_types": Ragged(types, pair.lengths),
        "labels": Ragged(random.astype(np.int32), np.ones_like(pair.lengths)),
    }


def next_sentence_sizes(lengths: PartLengths, keys: Keys, data: Data) -> Int[np.ndarray, "examples 1"]:
    return lengths.sum(axis=1, keepdims=True) + 3


def _mask(tokens: Ragged, keys: Keys, data: Data, vocabulary: Vocabulary) -> RaggedFeatures:
    """Choose tokens that are not special, and replace most of them in the input."""
    ordinary = np.flatnonzero(~vocabulary.is_special[tokens.values])  # [ordinary]: indices among all tokens
    edges = np.searchsorted(ordinary, np.append(tokens.starts, tokens.values.size))  # [examples + 1], in `ordinary`
    available = np.diff(edges)
    wanted = np.minimum(np.maximum(np.rint(data.objective.density * tokens.lengths), 1).astype(np.int64), available)
    if data.objective.whole_words:
        first = np.diff(ordinary, prepend=-2) > 1  # a special token stands before it
        first[edges[:-1][available > 0]] = True
        if data.objective.words == "pieces":
            begins = vocabulary.begins_word[tokens.values[ordinary]] | first
        else:
            begins = word_begins(tokens.values[ordinary], first, vocabulary, data.objective.words == "chinese")
        flags = _choose_words(hash_of(keys, CHOICE), begins, edges, wanted)
    else:
        flags = choose(hash_of(keys, CHOICE), available, wanted)
    chosen = ordinary[flags]
    counts = np.diff(np.searchsorted(chosen, np.append(tokens.starts, tokens.values.size)))
    # The high half of the bits decides between mask, random token and none; the low half is the random token.
    fate = random_bits(hash_of(keys, FATE), counts)
    replacement = vocabulary.ordinary[below(fate << np.uint64(32), len(vocabulary.ordinary))]
    fate = below(fate, 10)
    inputs = tokens.values.copy()
    weights = np.zeros(inputs.shape, np.float32)
    kept_or_random = np.where(fate < 9, replacement, inputs[chosen])
    inputs[chosen] = np.where(fate < 8, vocabulary.require("mask"), kept_or_random)
    weights[chosen] = 1
    return {
        "encoder_input_tokens": Ragged(inputs, tokens.lengths),
        "encoder_target_tokens": tokens,
        "encoder_loss_weights": Ragged(weights, tokens.lengths),
    }


def _choose_words(
    keys: Keys, begins: Bool[np.ndarray, " tokens"], edges: Int[np.ndarray, " edges"], wanted: Lengths
) -> Bool[np.ndarray, " tokens"]:
    """Choose words in random order, each if it has no more tokens than are still wanted of its example.

    Words of 1 3 1 2 tokens in the order 3 2 1 1, of which 4 tokens are wanted: the 3 is taken, the 2 passed over, the
    first 1 taken. Each round takes, of every example at once, all words up to the first that is too long.

    Args:
      begins: True at the first token of each word.
      edges: first token of each example and, last, the number of tokens.
    """
    words = np.flatnonzero(begins)  # [words]
    widths = np.diff(words, append=begins.size)
    counts = np.diff(np.searchsorted(words, edges))  # [examples]
    owner = np.repeat(np.arange(len(counts)), counts)
    # One sort by (example, random number): 24 bits of one above 40 of the other.
    bits = random_bits(keys, counts) >> np.uint64(24)
    left = np.argsort((owner.astype(np.uint64) << np.uint64(40)) | bits)
    taken, wanted = np.zeros(len(words), bool), wanted.copy()
    while True:
        left = left[widths[left] <= wanted[owner[left]]]
        if not left.size:
            return np.repeat(taken, widths)
        whose, until = owner[left], np.cumsum(widths[left])
        first = np.searchsorted(whose, np.arange(len(counts)))
        before = np.append(0, until)[first]  # [examples]: tokens of the words of all examples before
        fits = until - before[whose] <= wanted[whose]
        taken[left[fits]] = True
        wanted -= np.bincount(whose[fits], widths[left[fits]], len(counts)).astype(np.int64)
        left = left[~fits]
