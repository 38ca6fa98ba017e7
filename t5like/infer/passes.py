"""Passes that score the tokens of a text: for each the rows of tokens that a network reads, and the tokens whose
log-probabilities count there."""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from t5like.config.objective import Objective
from t5like.config.spans import Denoising
from t5like.data.objectives.words import word_begins
from t5like.data.vocabulary import Frame, Vocabulary

Tokens = Int[np.ndarray, " _"]
Spans = list[tuple[int, int]]
"""First token, and the one behind the last, of each span."""


class Pass(NamedTuple):
    """A row of the network. `stacks` are the token ids that each stack reads; token `numbers[n]` of the text, whose id
    is `tokens[n]`, is scored at the position `at[n]` of the last stack."""

    stacks: Mapping[str, Tokens]
    at: Tokens
    tokens: Tokens
    numbers: Tokens


def continuation(before: list[int], given: list[int], text: list[int], encoder: list[int] | None = None) -> list[Pass]:
    """The pass of a decoder that reads a text from left to right, behind tokens that are given.

    With the start 2 before, 7 8 given and the text 9 6, the decoder reads 2 7 8 9 and scores 9 and 6 at the positions 2
    and 3. With nothing before or given, the first token of the text has no score.
    """
    row = np.array([*before, *given, *text], np.int32)
    first = max(len(row) - len(text), 1)
    if first >= len(row):
        return []
    at = np.arange(first - 1, len(row) - 1)
    stacks = {} if encoder is None else {"encoder": np.array(encoder, np.int32)}
    return [Pass({**stacks, "decoder": row[:-1]}, at, row[first:], at - at[0] + len(text) - len(at))]


def spans_filled(ids: list[int], spans: Spans, way: Denoising, frame: Frame, vocabulary: Vocabulary) -> Iterator[Pass]:
    """A pass for each span of a text, which the encoder of a T5 reads as a sentinel, and the decoder scores behind it.

    With tokens 10..13, the span 11 12, the sentinel 99, the start 0 and EOS 1, the encoder reads 10 99 13 1, and the
    decoder reads 0 99 11 and scores 11 and 12 at the positions 1 and 2.
    """
    mode, mark = _mode(way, vocabulary), _mark(way, ids, vocabulary)
    for start, stop in spans:
        encoder = frame.around([*mode, *ids[:start], *mark, *ids[stop:]])
        for each in continuation([vocabulary.start], mark, ids[start:stop], encoder):
            yield each._replace(numbers=each.numbers + start)


def rest_written(ids: list[int], cut: int, way: Denoising, frame: Frame, vocabulary: Vocabulary) -> Iterator[Pass]:
    """The pass of an encoder-decoder that reads the first `cut` tokens of a text and writes the others, behind a
    sentinel where it has learned these.

    With tokens 10..13, the cut 2, the sentinel 99, the start 0 and EOS 1, the encoder reads 10 11 99 1, and the decoder
    reads 0 99 12 and scores 12 and 13 at the positions 1 and 2.
    """
    mode, mark = _mode(way, vocabulary), _mark(way, ids, vocabulary)
    encoder = frame.around([*mode, *ids[:cut], *mark])
    for each in continuation([vocabulary.start], mark, ids[cut:], encoder):
        yield each._replace(numbers=each.numbers + cut)


def masked(
    ids: list[int], pll: Literal["original", "within_word_l2r"], frame: Frame, vocabulary: Vocabulary
) -> Iterator[Pass]:
    """A pass for each token of a text, which an encoder reads as a mask: the tokens of its pseudo-log-likelihood.

    With CLS 2, SEP 3, the mask 4 and the text 10 11 12 of which 11 12 are a word, the encoder reads 2 4 11 12 3, then
    2 10 4 12 3, or with `within_word_l2r` 2 10 4 4 3, then 2 10 11 4 3. Special tokens have no score.
    """
    mask, row = vocabulary.require("mask"), np.array(frame.around(ids), np.int32)
    before = len(frame.before)
    for start, stop in words_of(ids, vocabulary):
        for number in range(start, stop):
            read = row.copy()
            last = number + 1 if pll == "original" else stop
            read[before + number : before + last] = mask
            at = np.array([number])
            yield Pass({"encoder": read}, before + at, np.array(ids, np.int32)[at], at)


def words_of(ids: list[int], vocabulary: Vocabulary) -> Spans:
    """The words of a text (`objectives.words`): ▁one ▁tw o [SEP] ▁a are (0, 1), (1, 3) and (4, 5). An unknown piece is
    a word of its own."""
    tokens = np.array(ids, np.int64)
    ordinary = np.flatnonzero(~vocabulary.is_special[tokens])
    begins = tokens == vocabulary.unk
    if ordinary.size:
        first = np.diff(ordinary, prepend=-2) > 1
        begins[ordinary] = word_begins(tokens[ordinary].astype(np.int32), first, vocabulary, chinese=False)
    return _spans(begins, _scored(tokens, vocabulary))


def spans_of_length(ids: list[int], length: int, vocabulary: Vocabulary) -> Spans:
    """Spans of `length` tokens, or fewer at the end of a text and before special tokens, which are in none."""
    scored = _scored(np.array(ids, np.int64), vocabulary)
    # [tokens]: the number of tokens since the last special one: F T T F T give 0 1 2 0 1.
    count = np.cumsum(scored)
    count -= np.maximum.accumulate(np.where(scored, 0, count))
    return _spans(scored & ((count - 1) % length == 0), scored)


def way_of(objective: Objective, by: str) -> Denoising | None:
    """The way in which a run has learned to write the end of a text, or a span of one; None of spans if it has not.

    UL2's denoiser without a mean span, whose mode goes before the text, writes ends without a sentinel.
    """
    if objective.kind not in ("span_corruption", "ul2"):
        return Denoising("", 0.5, None, False, 1.0) if by == "prefix" else None
    ways = objective.denoisings
    fitting = [way for way in ways if (way.mean_span is None) == (by == "prefix")]
    return fitting[0] if fitting else ways[0]


def _scored(tokens: Tokens, vocabulary: Vocabulary) -> Bool[np.ndarray, " _"]:
    """True for tokens that stand for text, unknown text too."""
    return ~vocabulary.is_special[tokens] | (tokens == vocabulary.unk)


def _spans(begins: Bool[np.ndarray, " _"], scored: Bool[np.ndarray, " _"]) -> Spans:
    """The runs of tokens that are scored, cut where a span begins."""
    starts = np.flatnonzero(begins & scored)
    edges = np.flatnonzero(np.append(begins | ~scored, True))
    stops = edges[np.searchsorted(edges, starts, side="right")]
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _mode(way: Denoising, vocabulary: Vocabulary) -> list[int]:
    return [vocabulary.special[way.mode]] if way.mode else []


def _mark(way: Denoising, ids: list[int], vocabulary: Vocabulary) -> list[int]:
    """The first sentinel that the text does not have; none where spans are simply missing."""
    unused = (int(sentinel) for sentinel in vocabulary.sentinels if sentinel not in ids)
    return list(unused)[:1] if way.sentinels else []
