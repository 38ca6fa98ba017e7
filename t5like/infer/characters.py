"""Whole characters in token ids. What a vocabulary of bytes, a byte-level BPE, or a SentencePiece that spells rare
characters in bytes makes of a text may be cut within a character; what people are shown is not.

Where every token is a whole character or more, all of this leaves everything as it is.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from t5like.data.vocabulary import Vocabulary

Tokens = Int[np.ndarray, " _"]
Flags = Bool[np.ndarray, " _"]


def characters_of(vocabulary: Vocabulary, ids: Sequence[int] | Tokens) -> Tokens:
    """The number of the run of characters that each token belongs to: a token whose first byte goes on with a character
    is in the run of the one before it. E5 BA 8A | 61 gives 0 0 0 1."""
    firsts = (_spelt(vocabulary, number)[:1] for number in np.asarray(ids).tolist())
    begins = np.array([not first or not 0x80 <= first[0] < 0xC0 for first in firsts], bool)
    return np.cumsum(begins) - bool(begins[:1].all())


def only_whole(vocabulary: Vocabulary, ids: Sequence[int] | Tokens) -> Tokens:
    """The tokens without those of characters that are not whole, as at the borders of a window."""
    ids = np.asarray(ids, np.int64)
    return ids[_is_whole(vocabulary, ids)]


def until_whole(vocabulary: Vocabulary, ids: Tokens) -> Tokens:
    """The tokens of an answer without the beginning of a character at its end, for the rest of which was no room."""
    runs = characters_of(vocabulary, ids)
    last = b"".join(_spelt(vocabulary, number) for number in ids[runs == runs.max(initial=0)].tolist())
    try:
        last.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            return ids[runs < runs[-1]]
    return ids


def whole_cut(vocabulary: Vocabulary, ids: Sequence[int] | Tokens, cut: int) -> int:
    """The nearest cut at or before `cut` that is between two characters."""
    runs = characters_of(vocabulary, ids)
    while 0 < cut < len(runs) and runs[cut] == runs[cut - 1]:
        cut -= 1
    return cut


def whole_spans(vocabulary: Vocabulary, inputs: Tokens, targets: Tokens) -> tuple[Tokens, Tokens]:
    """Input and target of an encoder-decoder, whose spans are widened to whole characters.

    With the bytes of 床 as E5 BA 8A, sentinels 99 and 98, and EOS 1:

        inputs   E5 99 8A 61 98 1      targets  99 BA 98 62 1
        become   99 61 98 1                     99 E5 BA 8A 98 62 1

    A target without sentinels, as a prefix language model's, begins earlier where it began within a character.
    """
    if not np.isin(targets, vocabulary.sentinels).any():
        text = np.concatenate([inputs[:-1], targets])
        cut = whole_cut(vocabulary, text, len(inputs) - 1)
        parts = text[:cut], inputs[-1:], text[cut:-1], targets[-1:]
        first, ends, rest, last = (only_whole(vocabulary, part) for part in parts)
        return np.concatenate([first, ends]), np.concatenate([rest, last])
    tokens, hidden = _interleaved(vocabulary, inputs, targets)
    whole, wider = _is_whole(vocabulary, tokens), _widened(vocabulary, tokens, hidden)
    if whole.all() and (wider == hidden).all():
        return inputs, targets
    tokens, hidden = tokens[whole], wider[whole]
    begins = hidden & ~np.concatenate([[False], hidden[:-1]])
    before = np.flatnonzero(begins)
    marks = vocabulary.sentinels[: len(before)]
    seen = np.insert(tokens, before, marks)[~np.insert(hidden, before, False)]
    said = np.insert(tokens, before, marks)[np.insert(hidden, before, True)]
    return np.append(seen, inputs[-1]), np.append(said, targets[-1])


def whole_masks(vocabulary: Vocabulary, ids: Tokens, originals: Tokens) -> Tokens:
    """The input of an encoder, where the tokens of a character are all masked or all there; `originals` is the text."""
    mask = vocabulary.require("mask")
    runs = characters_of(vocabulary, originals)
    many = np.bincount(runs)[runs] > 1
    hidden = _widened(vocabulary, originals, (ids == mask) & many)
    kept = np.where(many | ~_is_whole(vocabulary, ids) & (ids != mask), originals, ids)
    return np.where(hidden, mask, kept)[_is_whole(vocabulary, originals)]


def _spelt(vocabulary: Vocabulary, number: int) -> bytes:
    """The bytes of a token that is text."""
    ordinary = number < vocabulary.pieces.size and not vocabulary.is_special[number]
    return vocabulary.pieces.spelt(number) if ordinary else b""


def _is_whole(vocabulary: Vocabulary, ids: Tokens) -> Flags:
    """True for the tokens of runs that are whole characters."""
    if not len(ids):
        return np.zeros(0, bool)
    runs = characters_of(vocabulary, ids)
    spelt = [b"" for _ in range(runs[-1] + 1)]
    for run, number in zip(runs.tolist(), ids.tolist(), strict=True):
        spelt[run] += _spelt(vocabulary, number)
    return np.array([_decodes(each) for each in spelt])[runs]


def _decodes(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _widened(vocabulary: Vocabulary, ids: Tokens, hidden: Flags) -> Flags:
    """True for all tokens of runs of which one is hidden."""
    runs = characters_of(vocabulary, ids)
    return (np.bincount(runs, hidden) > 0)[runs]


def _interleaved(vocabulary: Vocabulary, inputs: Tokens, targets: Tokens) -> tuple[Tokens, Flags]:
    """The text that an input and a target were made of, without EOS, and True where the target has it."""
    texts = (inputs[:-1], targets[:-1])
    seen, said = (np.split(text, np.flatnonzero(np.isin(text, vocabulary.sentinels))) for text in texts)
    parts = [(seen[0], False)]  # the target begins with a sentinel, so that said[0] is empty
    for number in range(1, max(len(seen), len(said))):
        parts += [(said[number][1:], True)] if number < len(said) else []
        parts += [(seen[number][1:], False)] if number < len(seen) else []
    return np.concatenate([part for part, _ in parts]), np.concatenate([np.full(len(p), h) for p, h in parts])
