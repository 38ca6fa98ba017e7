"""Lengths of examples in tokens, and the length of a row that cuts few of them."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from t5like import config
from t5like.config.tasks import ANY_TEXT, Task
from t5like.data.example import Example
from t5like.data.tasks.encode import framing_of, joined
from t5like.data.tasks.examples import prompt_of, target_text
from t5like.data.vocabulary import Vocabulary, make_vocabulary, train_pieces
from t5like.errors import UserError

Count = Callable[[Sequence[str]], list[int]]
"""Gives the tokens of each text, without special ones."""
CUT = 0.01
"""Largest share of the examples that a chosen length cuts."""
LONGEST = 2048
"""Longest row that is chosen."""
LEARNED_FROM = 300_000
"""Characters from which pieces are learned to count by."""
PART = 1024
"""Examples that are measured at once."""


class Lengths(NamedTuple):
    """Tokens of each example, special ones included: of all that is read, and of what is written, 0 with a head."""

    read: np.ndarray
    written: np.ndarray

    def of_rows(self, kind: str) -> np.ndarray:
        """The tokens that each example takes of a row of `data.length`."""
        return self.read + self.written - 1 if kind == "prompt_target" else self.read


def counter(vocabulary: Vocabulary) -> Count:
    """Counts the tokens of a vocabulary."""
    return lambda texts: [len(ids) - 1 for ids in vocabulary.encode_documents(texts)] if texts else []


def estimate(settings: config.Vocabulary | None = None) -> Count:
    """Estimates the tokens of a vocabulary that is not there yet: those of bytes exactly, otherwise one for a Chinese
    character and for some letters, fewer the smaller the vocabulary is."""
    if settings is not None and settings.kind == "bytes":
        return lambda texts: [len(text.encode()) for text in texts]
    letters = 4.0 if settings is None else min(max(math.log2(settings.size) / 3 - 0.9, 1.0), 4.0)
    wide = lambda text: sum(character > "\u2e80" for character in text)  # noqa: E731
    return lambda texts: [math.ceil((len(text) - wide(text)) / letters) + wide(text) for text in texts]


def counter_of_learned(settings: config.Vocabulary, examples: Sequence[Example], task: Task) -> Count:
    """Counts the tokens of a vocabulary that is learned later, by one that is learned from the first characters of the
    examples: that is smaller if there are many, so that its texts are rather longer."""
    if settings.kind == "bytes":
        return estimate(settings)
    texts = [text for example in examples for text in (prompt_of(task, example), target_text(task, example))]
    characters = min(sum(map(len, texts)), settings.train_characters, LEARNED_FROM)
    size = min(settings.size, 256 + characters // 25)
    try:
        pieces = train_pieces(dataclasses.replace(settings, size=size, train_characters=LEARNED_FROM), texts)
    except UserError:  # which is raised again, with the settings at fault, where all of the text is learned from
        return estimate(settings)
    return counter(make_vocabulary(pieces, settings))


def measure(examples: Sequence[Example], task: Task, kind: str, count: Count, vocabulary: Vocabulary | None) -> Lengths:
    """The lengths of examples as the objective `kind` sees them."""
    special = 3 if vocabulary is None else framing_of(vocabulary).size(task.is_paired or bool(task.candidates))
    read: list[int] = []
    written: list[int] = []
    for start in range(0, len(examples), PART):
        part = examples[start : start + PART]
        if kind in ANY_TEXT:
            read += [n + 1 for n in count([prompt_of(task, example) for example in part])]
            written += [n + 1 for n in count([target_text(task, example) for example in part])]
        elif kind == "multiple_choice":
            read += _choices(part, count, special)
        else:
            first = count([joined(e.words)[0] if e.words else e.input for e in part])
            second = count([e.second for e in part]) if task.is_paired else [0] * len(part)
            read += [a + b + special for a, b in zip(first, second, strict=True)]
    return Lengths(np.array(read, int), np.array(written or [0] * len(read), int))


def _choices(examples: Sequence[Example], count: Count, special: int) -> list[int]:
    """The tokens of a row in which the candidates have equal shares."""
    questions = count([" ".join(text for text in (e.second, e.input) if text) for e in examples])
    candidates = iter(count([text for e in examples for text in e.candidates]))
    longest = [max(next(candidates) for _ in e.candidates) for e in examples]
    return [
        len(e.candidates) * (question + most + special)
        for e, question, most in zip(examples, questions, longest, strict=True)
    ]


def fitting(lengths: np.ndarray, most: int | None = None, least: int = 8, share: float = CUT) -> int:
    """The length of a row that cuts no more than a share of the examples, rounded up, but at most `most`."""
    needed = int(np.sort(lengths)[-1 - int(share * len(lengths))]) if len(lengths) else least
    step = least if needed <= 128 else 32 if needed <= 512 else 128
    return min(max(-(-needed // step) * step, least), most or LONGEST, LONGEST)


def share_cut(lengths: np.ndarray, length: int) -> float:
    """The share of examples that are longer than a row."""
    return float(np.mean(lengths > length)) if len(lengths) else 0.0
