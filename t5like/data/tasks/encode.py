"""Examples to the token sequences of models with a head, with their labels and the way back to words and characters.

A sequence is framed as the vocabulary frames a text, [CLS] first [SEP] second [SEP] where it has these, and is already
cut to a row. Long texts of words and long contexts become several sequences, so that no word and no answer is lost.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from t5like.config import Data
from t5like.config.tasks import Task
from t5like.data.example import Example, Gold
from t5like.data.tasks.examples import label_number
from t5like.data.vocabulary import Vocabulary

Offsets = list[tuple[int, int]]
"""First character and the one behind the last, of each token."""


class Encoded(NamedTuple):
    """A row's worth of an example: sequences of two segments each, labels, and the way back."""

    tokens: list[int]
    widths: list[int]
    """Tokens of the first and of the second segment of each sequence, frame included."""
    labels: list[int]
    """Numbers as the store keeps them (see `labels_of`)."""
    anchors: list[int]
    """The token that stands for each word of this row; empty but for tags."""
    spans: list[tuple[int, int]]
    """The characters of the context that each token covers, (-1, -1) for other tokens; empty but for spans."""
    cut: bool = False
    """True if a text lost its end."""


@dataclass(frozen=True)
class Framing:
    """The special tokens around one text, and between two."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    behind: tuple[int, ...]

    def size(self, pair: bool) -> int:
        """Special tokens of a sequence."""
        return len(self.before) + len(self.behind) + len(self.between) * pair

    def join(self, first: Sequence[int], second: Sequence[int] | None) -> tuple[list[int], list[int]]:
        """The tokens of a sequence, and the widths of its two segments."""
        if second is None:
            tokens = [*self.before, *first, *self.behind]
            return tokens, [len(tokens), 0]
        segments = [*self.before, *first, *self.between], [*second, *self.behind]
        return [*segments[0], *segments[1]], [len(segment) for segment in segments]


def framing_of(vocabulary: Vocabulary) -> Framing:
    """CLS and SEP where the vocabulary has them, else the frame that it was imported with, else EOS behind texts."""
    cls, sep = vocabulary.role("cls"), vocabulary.role("sep")
    if cls is not None and sep is not None:
        return Framing((cls,), (sep,), (sep,))
    if frame := vocabulary.frame:
        return Framing(frame.before, frame.behind or (vocabulary.eos,), frame.behind)
    return Framing((), (vocabulary.eos,), (vocabulary.eos,))


def encode_example(example: Example, task: Task, data: Data, vocabulary: Vocabulary) -> list[Encoded]:
    """The rows of an example for the objective of `data`; several only for tags and spans."""
    match data.objective.kind:
        case "token_classification":
            return list(_tagged(example, task, data.length, vocabulary))
        case "span":
            return list(_windows(example, task, data.length, vocabulary))
        case "multiple_choice":
            return [_choices(example, data.length, vocabulary)]
    first, second = texts(example, task, vocabulary)
    framing = framing_of(vocabulary)
    room = data.length - framing.size(second is not None)
    kept = _longest_first(first, second, room)
    tokens, widths = framing.join(*kept)
    cut = len(first) + len(second or ()) > room
    return [Encoded(tokens, widths, labels_of(example, task), [], [], cut)]


def cut_texts(data: Data, question: int, target: int) -> tuple[bool, bool]:
    """True for a question, and for a target, of so many tokens, EOS included, that the rows of `data` cut."""
    if "encoder" in data.lengths:
        return question > data.lengths["encoder"], target > data.lengths["decoder"]
    before, after = question - 1, target - 1
    kept = min(after, data.length - 1 - min(before, data.length // 2))
    return before > data.length - 1 - kept, after > kept


def texts(example: Example, task: Task, vocabulary: Vocabulary) -> tuple[list[int], list[int] | None]:
    """The tokens of an example's one or two texts, without special ones."""
    given = [example.input, *([example.second] if task.is_paired else [])]
    encoded = [_plain(text, vocabulary) for text in given]
    return encoded[0], encoded[1] if task.is_paired else None


def labels_of(example: Example, task: Task) -> list[int]:
    """The numbers that stand for a target in the store: that of a class, 0 or 1 for each of several labels, or the
    two halves, high and low, of a float32's 32 bits. Zeros where there is no target."""
    target = example.target
    if task.kind == "regress":
        bits = int(np.float32(target if isinstance(target, int | float) else 0.0).view(np.uint32))
        return [bits >> 16, bits & 0xFFFF]
    if task.multi_label:
        return [int(isinstance(target, tuple) and label in target) for label in task.labels]
    return [0 if target is None else label_number(task, str(target), example.where)]


def numbers_of(halves: Int[np.ndarray, "rows twice"]) -> np.ndarray:
    """The float32 numbers of their halves: [16256, 0] -> [1.0]."""
    bits = (halves[:, ::2].astype(np.uint32) << 16) | halves[:, 1::2].astype(np.uint32)
    return bits.view(np.float32)


def _plain(text: str, vocabulary: Vocabulary) -> list[int]:
    """The tokens of a text in which names of special tokens are text like any other."""
    return vocabulary.encode_document(text)[:-1]


def _longest_first(first: list[int], second: list[int] | None, room: int) -> tuple[list[int], list[int] | None]:
    """Both texts, of which the longer loses its end until they fit, as in BERT."""
    if second is None:
        return first[:room], None
    over = len(first) + len(second) - room
    if over <= 0:
        return first, second
    shorter = min(len(first), len(second))
    longer = room - shorter
    if longer < shorter:
        return first[: (room + 1) // 2], second[: room // 2]
    return (first[:longer], second) if len(first) > len(second) else (first, second[:longer])


def _tagged(example: Example, task: Task, length: int, vocabulary: Vocabulary) -> Iterator[Encoded]:
    """The words in rows; the first token of each has its label plus 1, the others 0."""
    text, starts = joined(example.words)
    ids, spans = vocabulary.encode_with_offsets(text, names=False)
    framing = framing_of(vocabulary)
    room, first_tokens = length - framing.size(False), _first_tokens(example.words, starts, spans)
    targets = example.target if isinstance(example.target, tuple) else None
    word = 0
    while word < len(example.words):
        begin = first_tokens[word]
        last = word + 1
        while last < len(example.words) and _end(first_tokens, last, len(ids)) - begin <= room:
            last += 1
        piece = ids[begin : min(_end(first_tokens, last - 1, len(ids)), begin + room)]
        tokens, widths = framing.join(piece, None)
        before = len(framing.before)
        anchors = [before + min(first_tokens[w] - begin, max(len(piece) - 1, 0)) for w in range(word, last)]
        labels = [0] * len(tokens)
        for number, anchor in zip(range(word, last), anchors, strict=True):
            if targets:
                labels[anchor] = 1 + label_number(task, str(targets[number]), example.where)
        yield Encoded(tokens, widths, labels, anchors, [], last == word + 1 and len(piece) == room < len(ids))
        word = last


def _end(first_tokens: list[int], word: int, count: int) -> int:
    """The token behind the last of a word."""
    return first_tokens[word + 1] if word + 1 < len(first_tokens) else count


def joined(words: Sequence[str]) -> tuple[str, list[int]]:
    """The text of words and where each begins: spaces stand between them, but not between two Chinese characters."""
    text, starts = "", list[int]()
    for word in words:
        if text and word and not (is_wide(text[-1]) and is_wide(word[0])):
            text += " "
        starts.append(len(text))
        text += word
    return text, starts


def is_wide(character: str) -> bool:
    """True for characters of scripts that are written without spaces, and for their marks."""
    return "\u2e80" <= character <= "\u9fff" or "\uf900" <= character <= "\ufaff" or "\uff00" <= character <= "\uffef"


def _first_tokens(words: Sequence[str], starts: list[int], spans: Offsets) -> list[int]:
    """The first token of each word: the first that covers a character of it, or, of a word without any, the next."""
    found, token = list[int](), 0
    for word, start in zip(words, starts, strict=True):
        while token < len(spans) - 1 and spans[token][1] <= start:
            token += 1
        at = token
        while at < len(spans) - 1 and spans[at][0] == spans[at][1] and spans[at + 1][0] <= start + len(word):
            at += 1  # a token of no character, such as a space that was added
        found.append(max(at if spans and spans[at][0] < start + max(len(word), 1) else token, *found[-1:], 0))
    return found


def _windows(example: Example, task: Task, length: int, vocabulary: Vocabulary) -> Iterator[Encoded]:
    """The question with overlapping windows of the context; the answer's first and last token, or 0 0 where a window
    has none, as in BERT."""
    framing = framing_of(vocabulary)
    question = _plain(example.input, vocabulary)[: max(length // 2 - framing.size(True), 1)]
    ids, spans = vocabulary.encode_with_offsets(example.second, names=False)
    room = max(length - framing.size(True) - len(question), 1)
    step = max(room - min(task.overlap, room // 2), 1)
    answer = example.target[0] if isinstance(example.target, tuple) and example.target else None
    first = 0
    while True:
        part = spans[first : first + room]
        tokens, widths = framing.join(question, ids[first : first + room])
        before = widths[0]
        places: Offsets = [(-1, -1)] * before + part + [(-1, -1)] * (len(tokens) - before - len(part))
        labels = _positions(answer, part, before)
        yield Encoded(tokens, widths, labels, [], places)
        if first + room >= len(ids):
            return
        first += step


def _positions(answer: object, spans: Offsets, before: int) -> list[int]:
    """The first and the last token of the answer in a window whose tokens cover `spans`."""
    if not isinstance(answer, Gold) or answer.start is None:
        return [0, 0]
    start, stop = answer.start, answer.start + len(answer.text)
    if not spans or start < spans[0][0] or stop > spans[-1][1]:
        return [0, 0]
    inside = [n for n, (begin, end) in enumerate(spans) if begin < stop and end > start]
    return [before + inside[0], before + inside[-1]] if inside else [0, 0]


def _choices(example: Example, length: int, vocabulary: Vocabulary) -> Encoded:
    """A sequence for each candidate, of equal shares of the row."""
    framing, tokens, widths, cut = framing_of(vocabulary), list[int](), list[int](), False
    question = " ".join(text for text in (example.second, example.input) if text)
    first, room = _plain(question, vocabulary), length // len(example.candidates) - framing.size(True)
    for candidate in example.candidates:
        second = _plain(candidate, vocabulary)
        cut = cut or len(first) + len(second) > room
        sequence, sizes = framing.join(*_longest_first(first, second, max(room, 2)))
        tokens += sequence
        widths += sizes
    right = example.target if isinstance(example.target, int) else 0
    return Encoded(tokens, widths, [right], [], [], cut)
