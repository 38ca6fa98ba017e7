"""Tokens to features: what the model sees and what it must predict.

An objective is a pure function of a batch of windows, a key for the noise of each row, the config and the
vocabulary; it returns SeqIO's features, `[rows, length]` int32 arrays (loss weights float32). `*_segment_ids` number
the documents of a row from 1, 0 is padding; attention stays within a segment and positions begin anew in each.
"""

from typing import Protocol

import numpy as np
from jaxtyping import Bool, Int, UInt64

from t5like.config import MASK, Data
from t5like.data.order import uniforms
from t5like.data.vocabulary import Vocabulary

Windows = Int[np.ndarray, "rows window"]
Keys = UInt64[np.ndarray, " rows"]
Features = dict[str, np.ndarray]


class Function(Protocol):
    """The signature of every objective."""

    def __call__(self, tokens: Windows, keys: Keys, data: Data, vocabulary: Vocabulary) -> Features: ...


def span_corruption(tokens: Windows, keys: Keys, data: Data, vocabulary: Vocabulary) -> Features:
    """T5's span corruption (Raffel et al. 2020): each noise span becomes one sentinel, the target lists the spans.

    With tokens 10..17, the spans 12 13 and 17 corrupted, sentinels 99, 98, ... and EOS 1:

        encoder_input_tokens   10 11 99 14 15 16 98 1
        decoder_target_tokens  99 12 13 98 17 1
        decoder_input_tokens    0 99 12 13 98 17

    As in T5, a window begins with text that stays and ends with a span. All rows have the same numbers of noise tokens
    and of spans, so that none is padded.
    """
    lengths = data.objective.span_lengths(data.length)
    rows = len(tokens)
    noise_keys, kept_keys = keys, keys ^ np.uint64(1 << 63)
    noise = _parts(noise_keys, lengths.noise, lengths.spans)
    kept = _parts(kept_keys, lengths.raw - lengths.noise, lengths.spans)
    starts = np.cumsum(np.stack([kept, noise], axis=2).reshape(rows, -1), axis=1)[:, :-1]
    begins = np.zeros((rows, lengths.raw), np.int32)
    np.put_along_axis(begins, starts, 1, axis=1)
    span = np.cumsum(begins, axis=1)
    is_noise = span % 2 == 1
    sentinel = vocabulary.sentinels[span // 2]
    begins[:, 0] = 1
    inputs = np.where(is_noise, sentinel, tokens)[~is_noise | (begins == 1)]
    # A target's sentinel stands where the text before its span begins, so it precedes the span's own tokens.
    targets = np.where(is_noise, tokens, sentinel)[is_noise | (begins == 1)]
    inputs, targets = (_with_eos(part.reshape(rows, -1), vocabulary.eos) for part in (inputs, targets))
    features = _stack_features("encoder", inputs, *_one_segment(inputs))
    features |= _stack_features("decoder", _shift_right(targets, vocabulary.start), *_one_segment(targets))
    return features | {"decoder_target_tokens": targets, "decoder_loss_weights": np.ones(targets.shape, np.float32)}


def causal(tokens: Windows, keys: Keys, data: Data, vocabulary: Vocabulary) -> Features:
    """Next-token prediction. Each document of a row begins with the start token and is a segment of its own.

    With start 0 and EOS 1:

        decoder_target_tokens  7 8 1 5 6 9
        decoder_input_tokens   0 7 8 0 5 6
        decoder_segment_ids    1 1 1 2 2 2
        decoder_positions      0 1 2 0 1 2
    """
    segments, positions = _documents(tokens, vocabulary.eos)
    inputs = np.where(positions == 0, np.int32(vocabulary.start), _shift_right(tokens, vocabulary.start))
    features = _stack_features("decoder", inputs, segments, positions)
    return features | {"decoder_target_tokens": tokens, "decoder_loss_weights": np.ones(tokens.shape, np.float32)}


def masked(tokens: Windows, keys: Keys, data: Data, vocabulary: Vocabulary) -> Features:
    """BERT's masked LM (Devlin et al. 2019): `density` of the tokens are predicted, special ones never.

    Of these 80 % become [MASK], 10 % a random learned piece, 10 % stay. With [MASK] 50, tokens 7 8 9 6 1 and the
    second and fourth chosen:

        encoder_input_tokens   7 50 9 50 1
        encoder_target_tokens  7  8 9  6 1
        encoder_loss_weights   0  1 0  1 0
    """
    chosen = _choose(keys, tokens >= 3, round(data.objective.density * tokens.shape[1]))
    fate, piece = uniforms(keys ^ np.uint64(1 << 62), 2 * tokens.shape[1]).reshape(len(tokens), 2, -1).swapaxes(0, 1)
    random_piece = 3 + (piece * (vocabulary.pieces.size - 3)).astype(np.int32)
    noisy = np.where(fate < 0.8, np.int32(vocabulary.special[MASK]), np.where(fate < 0.9, random_piece, tokens))
    segments, positions = _documents(tokens, vocabulary.eos)
    features = _stack_features("encoder", np.where(chosen, noisy, tokens), segments, positions)
    return features | {"encoder_target_tokens": tokens, "encoder_loss_weights": chosen.astype(np.float32)}


OBJECTIVES: dict[str, Function] = {"span_corruption": span_corruption, "causal": causal, "masked": masked}


def _parts(keys: Keys, total: int, parts: int) -> Int[np.ndarray, "rows parts"]:
    """Lengths above 0 that add up to `total`, every such list equally likely."""
    cuts = np.sort(_smallest(uniforms(keys, total - 1), parts - 1) + 1, axis=1)
    edges = np.pad(cuts, ((0, 0), (1, 1)), constant_values=((0, 0), (0, total)))
    return np.diff(edges, axis=1)


def _choose(keys: Keys, eligible: Bool[np.ndarray, "rows window"], count: int) -> Bool[np.ndarray, "rows window"]:
    """`count` eligible places of each row at random, or all where there are fewer."""
    order = uniforms(keys, eligible.shape[1]) + ~eligible
    chosen = np.zeros(eligible.shape, bool)
    np.put_along_axis(chosen, _smallest(order, count), True, axis=1)
    return chosen & eligible


def _smallest(values: np.ndarray, count: int) -> np.ndarray:
    return np.argpartition(values, count, axis=1)[:, :count] if count < values.shape[1] else _all_places(values)


def _all_places(values: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.arange(values.shape[1]), values.shape)


def _documents(tokens: Windows, eos: int) -> tuple[Windows, Windows]:
    """Segment number and position of each token, where a document ends with EOS."""
    first = np.zeros(tokens.shape, bool)
    first[:, 0] = True
    first[:, 1:] = tokens[:, :-1] == eos
    index = np.arange(tokens.shape[1], dtype=np.int32)
    began = np.maximum.accumulate(np.where(first, index, 0), axis=1)
    return np.cumsum(first, axis=1, dtype=np.int32), (index - began).astype(np.int32)


def _one_segment(tokens: Windows) -> tuple[Windows, Windows]:
    """Segment number and position of each token, where a row is one segment."""
    positions = np.tile(np.arange(tokens.shape[1], dtype=np.int32), (len(tokens), 1))
    return np.ones_like(positions), positions


def _stack_features(stack: str, inputs: Windows, segments: Windows, positions: Windows) -> Features:
    return {f"{stack}_input_tokens": inputs, f"{stack}_segment_ids": segments, f"{stack}_positions": positions}


def _shift_right(tokens: np.ndarray, start: int) -> np.ndarray:
    return np.pad(tokens[:, :-1], ((0, 0), (1, 0)), constant_values=start)


def _with_eos(tokens: np.ndarray, eos: int) -> np.ndarray:
    return np.pad(tokens, ((0, 0), (0, 1)), constant_values=eos)
