"""The text that each token adds to an answer, byte by byte as `Vocabulary.decode` would have it.

It depends on what stands before: SentencePiece drops the space before the first piece, WordPiece puts one before all
others, and spaces stand around the names of special tokens. All of this is a few contexts, and a table of them:

    T5's SentencePiece     ▁the        ing        <extra_id_0>      </s>
    before an answer       "the"       "ing"      "<extra_id_0>"    ""
    after text             " the"      "ing"      " <extra_id_0>"   ""
    after a sentinel       " the"      " ing"     " <extra_id_0>"   ""

The texts of tokens are asked of the tokenizer itself, alone and after another one, so that no decoder of any kind is
written here a second time.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError

BEGIN, WITHIN = 0, 1
"""Contexts of a run of ordinary tokens, between special ones: before its text, and within it."""
CONTEXTS = ((0, 0, BEGIN), (0, 0, WITHIN), (1, 0, WITHIN), (1, 0, BEGIN), (1, 1, BEGIN), (1, 1, WITHIN))
"""Contexts of an answer: if it has text, if a space comes before what follows a special token, and that of the run."""


class Spelling(NamedTuple):
    """The bytes that each token adds to an answer in each context; an answer begins in context 0.

    `texts` are all different, the first one is empty; `adds` has the number of one for each context and token, and
    `then` the context after the token. A token of part of a character adds its bytes.
    """

    texts: tuple[bytes, ...]
    adds: Int[np.ndarray, "contexts vocab"]
    then: Int[np.ndarray, "contexts vocab"]

    def read(self, ids: Sequence[int]) -> tuple[bytes, int]:
        """The text of tokens, in bytes, and the context after them."""
        text, context = b"", 0
        for token in ids:
            text += self.texts[self.adds[context, token]]
            context = int(self.then[context, token])
        return text, context


class _Runs(NamedTuple):
    """The texts of ordinary tokens at the beginning of a run and within it, and the contexts after them."""

    tokens: list[int]
    texts: tuple[list[bytes], list[bytes]]
    then: Int[np.ndarray, "2 tokens"]


@functools.lru_cache(maxsize=4)
def spelling_of(vocabulary: Vocabulary, rows: int) -> Spelling:
    """The spelling of a vocabulary for a model with so many rows; those without a token add nothing.

    Raises:
      UserError: the text of a token depends on more than its context, as in tokenizers with a mark for ends of words.
    """
    index: dict[bytes, int] = {b"": 0}
    adds = np.zeros((len(CONTEXTS), rows), np.int32)
    then = np.tile(np.arange(len(CONTEXTS), dtype=np.int32)[:, None], rows)
    number = lambda texts: np.array([index.setdefault(text, len(index)) for text in texts], np.int32)  # noqa: E731
    runs, specials = _runs(vocabulary), _specials(vocabulary)
    spaces = [[b" " + text if text else text for text in texts] for texts in runs.texts]
    numbers = [[number(texts) for texts in each] for each in (runs.texts, spaces)]
    for context, (written, spaced, run) in enumerate(CONTEXTS):
        adds[context, runs.tokens] = numbers[spaced][run]
        filled = [CONTEXTS.index((1, 0, at)) for at in (BEGIN, WITHIN)]
        empty = [CONTEXTS.index((written, spaced, at)) for at in (BEGIN, WITHIN)]
        after = np.array([empty, filled])[(adds[context, runs.tokens] > 0).astype(int), runs.then[run]]
        then[context, runs.tokens] = after
        for token, (name, left, right) in specials.items():
            (adds[context, token],) = number([b" " * bool(written and (spaced or left)) + name])
            then[context, token] = CONTEXTS.index((1, int(right), BEGIN))
    found = _merged(Spelling(tuple(index), adds, then))
    _require_contexts(vocabulary, found)
    return found


def _runs(vocabulary: Vocabulary) -> _Runs:
    """Ask the tokenizer for the text of each of its tokens alone, and after one that is text."""
    pieces, apart = vocabulary.pieces, {vocabulary.pieces.control.pad, vocabulary.eos, *vocabulary.special.values()}
    tokens = [number for number in range(pieces.size) if number not in apart]
    alone = pieces.decode_each([[number] for number in tokens])
    anchor = next((n for n, text in zip(tokens, alone, strict=True) if text.isascii() and text.strip()), tokens[0])
    before = pieces.decode([anchor])
    after = [text[len(before) :] for text in pieces.decode_each([[anchor, number] for number in tokens])]
    texts = _bytes(vocabulary, tokens, alone), _bytes(vocabulary, tokens, after)
    then = np.ones((2, len(tokens)), np.int32)
    # What keeps a run at its beginning: pieces without text, and for SentencePiece those of bytes.
    probe = next((n for n, (a, b) in enumerate(zip(*texts, strict=True)) if a and a != b), None)
    if probe is not None:
        follows = texts[BEGIN][probe].decode("utf-8", "replace")
        silent = [n for n, text in enumerate(texts[BEGIN]) if not text or len(text) == 1]
        pairs = pieces.decode_each([[tokens[n], tokens[probe]] for n in silent])
        for n, text, pair in zip(silent, pieces.decode_each([[tokens[n]] for n in silent]), pairs, strict=True):
            then[BEGIN, n] = BEGIN if pair == text + follows else WITHIN
    return _Runs(tokens, texts, then)


def _bytes(vocabulary: Vocabulary, tokens: list[int], texts: list[str]) -> list[bytes]:
    """The bytes of tokens' texts; of parts of characters those that they spell."""
    pairs = zip(tokens, texts, strict=True)
    return [("\ufffd" in text and vocabulary.pieces.spelt(n)) or text.encode() for n, text in pairs]


def _specials(vocabulary: Vocabulary) -> dict[int, tuple[bytes, bool, bool]]:
    """The names of special tokens, and the sides on which a space keeps them from other text."""
    found: dict[int, tuple[bytes, bool, bool]] = {}
    for token in vocabulary.special.values():
        if token not in (vocabulary.pieces.control.pad, vocabulary.eos):
            shown = vocabulary.name(token)
            found[token] = (shown.encode(), *vocabulary.spaces(shown))
    return found


def _merged(spelling: Spelling) -> Spelling:
    """The spelling with one context for each set of them that differ in nothing, and without those that are never
    reached."""
    groups = _numbered([row.tobytes() for row in spelling.adds])
    while True:
        finer = _numbered([(groups[n], groups[row].tobytes()) for n, row in enumerate(spelling.then)])
        if finer.max() == groups.max():
            break
        groups = finer
    first = [int(np.flatnonzero(groups == group)[0]) for group in range(groups.max() + 1)]
    adds, then = spelling.adds[first], groups[spelling.then[first]]
    reached, new = {0}, {0}
    while new:
        new = {int(context) for old in new for context in np.unique(then[old])} - reached
        reached |= new
    kept = sorted(reached)
    renumbered = np.full(len(first), -1, np.int32)
    renumbered[kept] = np.arange(len(kept))
    used, numbers = np.unique(np.append(0, adds[kept]), return_inverse=True)
    texts = tuple(spelling.texts[number] for number in used.tolist())
    return Spelling(texts, numbers[1:].reshape(adds[kept].shape).astype(np.int32), renumbered[then[kept]])


def _numbered(values: Sequence[object]) -> Int[np.ndarray, " values"]:
    """Equal values get the same number, the first one 0."""
    index: dict[object, int] = {}
    return np.array([index.setdefault(value, len(index)) for value in values], np.int32)


def _require_contexts(vocabulary: Vocabulary, spelling: Spelling) -> None:
    """Raises `UserError` unless sequences of tokens, drawn at random, have the text that their spelling says."""
    draw = np.random.default_rng(0)
    whole = np.array([_is_whole(text) for text in spelling.texts])
    known = np.flatnonzero(whole[spelling.adds[:, : vocabulary.size]].all(0))
    special = np.array([*vocabulary.special.values()], np.int64)
    for _ in range(64):
        ids = draw.choice(known, 8)
        if len(special):
            ids = np.where(draw.random(8) < 0.2, draw.choice(special, 8), ids)
        if vocabulary.decode(ids) != spelling.read(ids.tolist())[0].decode("utf-8", "replace"):
            raise UserError(
                "The text of this vocabulary's tokens depends on those behind them, so no constraint of an answer's "
                "text can be kept: leave out --stop, --bad_words, --allowed_words, --regex and --json_schema."
            )


def _is_whole(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
