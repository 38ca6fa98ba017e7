"""Evaluation sets that leak into the training text: n-grams of words that both have (Brown et al. 2020, appendix C).

Words are compared without case and punctuation, and a Han character is a word. An evaluation text with fewer words
than an n-gram counts as a whole if it has at least eight, and is left out otherwise. GPT-3's further rule, that an
n-gram found in more than ten training documents is no leak but a phrase, would need all documents at once.
"""

import functools

import numpy as np
from jaxtyping import Bool, UInt64

from t5like import config
from t5like.data import sources
from t5like.data.cleaning.words import Ngrams, words_of

LEAST_WORDS = 8
"""Words of the shortest evaluation text that is looked for."""


class EvaluationSets:
    """The n-grams of the evaluation sets of one filter; they are read when the first document is looked at."""

    def __init__(self, filter: config.Overlap):
        self._filter = filter

    def leak(self, parts: tuple[str, ...]) -> str:
        """The evaluation sets that share an n-gram with a document, and the first such n-gram; empty if none does."""
        for part in parts:
            text = part.casefold()
            words = words_of(text)
            all_ngrams = Ngrams(words)
            for length, known in self._together.items():
                ngrams = all_ngrams.all(length)
                leaking = np.flatnonzero(_among(ngrams, known))
                if len(leaking):
                    first = int(leaking[0])
                    example = text[words.starts[first] : words.stops[first + length - 1]]
                    return f"overlap with {self._names(ngrams[leaking], length)}: {example}"
        return ""

    def _names(self, ngrams: UInt64[np.ndarray, " ngrams"], length: int) -> str:
        sets = zip(self._filter.sources, self._each, strict=True)
        found = [s for s, known in sets if length in known and _among(ngrams, known[length]).any()]
        return ", ".join(source.name or source.dataset or source.path for source in found)

    @functools.cached_property
    def _each(self) -> list[dict[int, UInt64[np.ndarray, " ngrams"]]]:
        """For each set, by length, the sorted hashes of its n-grams."""
        return [_read_ngrams(source, self._filter.ngram) for source in self._filter.sources]

    @functools.cached_property
    def _together(self) -> dict[int, UInt64[np.ndarray, " ngrams"]]:
        lengths = sorted({length for known in self._each for length in known}, reverse=True)
        return {n: np.unique(np.concatenate([known[n] for known in self._each if n in known])) for n in lengths}


def _read_ngrams(source: config.Source, ngram: int) -> dict[int, UInt64[np.ndarray, " ngrams"]]:
    found: dict[int, list[np.ndarray]] = {}
    for unit in sources.units((source,)):
        for document in sources.read(source, unit):
            for part in document.parts:
                words = words_of(part.casefold())
                length = min(ngram, len(words.starts))
                if length >= min(ngram, LEAST_WORDS):
                    found.setdefault(length, []).append(Ngrams(words).all(length))
    return {length: np.unique(np.concatenate(arrays)) for length, arrays in found.items()}


def _among(ngrams: UInt64[np.ndarray, " ngrams"], known: UInt64[np.ndarray, " known"]) -> Bool[np.ndarray, " ngrams"]:
    """Flag the hashes that are among the sorted, known ones."""
    nearest = np.minimum(np.searchsorted(known, ngrams), len(known) - 1)
    return known[nearest] == ngrams
