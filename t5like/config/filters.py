"""The filters that documents pass before they are tokenised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from t5like.config.checks import require, require_fields
from t5like.config.sources import Source


@dataclass(frozen=True, kw_only=True)
class UnicodeForm:
    """Bring text into one Unicode form, so that equal characters are equal code points; drop nothing."""

    kind: Literal["unicode"] = "unicode"
    form: Literal["NFC", "NFKC"] = "NFC"
    """NFKC also turns full-width letters and digits into plain ones."""
    control: bool = True
    """Remove control characters other than tab and line feed; \\r\\n and \\r become \\n."""

    def __post_init__(self) -> None:
        require_fields("data.filters.N", self)


@dataclass(frozen=True, kw_only=True)
class Length:
    """Drop documents that are too short or too long, in characters."""

    kind: Literal["length"] = "length"
    least: int = 1
    most: int | None = None

    def __post_init__(self) -> None:
        require_fields("data.filters.N", self)
        require(
            0 <= self.least <= (self.most or self.least),
            f"A length filter from {self.least} to {self.most} characters keeps nothing.",
        )


@dataclass(frozen=True, kw_only=True)
class C4Rules:
    """C4's rules (Raffel et al. 2020): lines without a closing punctuation mark or with three dots at their end, short
    lines, lines with a word of more than 1,000 characters and boilerplate lines go; documents with too few sentences,
    braces, placeholder text or words of the list below go. The other two steps of C4 are `Language` and
    `RepeatedLines`."""

    kind: Literal["c4"] = "c4"
    language: Literal["en", "zh"] = "en"
    least_words: int = 5
    """Words (in Chinese: characters) of a line."""
    least_sentences: int = 3
    """Sentences of a document."""
    forbidden: tuple[str, ...] = ()
    """Words that no document may hold; C4 used a list of obscene words, which is the user's to choose."""

    def __post_init__(self) -> None:
        require_fields("data.filters.N", self)


@dataclass(frozen=True, kw_only=True)
class GopherRules:
    """Gopher's quality rules (Rae et al. 2021): word counts, mean word length, symbols, bullets, ellipses, letters,
    stop words, and repeated lines, paragraphs and n-grams."""

    kind: Literal["gopher"] = "gopher"
    language: Literal["en", "zh"] = "en"
    least_words: int = 50
    most_words: int = 100_000
    least_stop_words: int = 2
    """Different stop words that a document holds at least."""
    repetition: bool = True
    """Drop documents that repeat themselves."""

    def __post_init__(self) -> None:
        require_fields("data.filters.N", self)


@dataclass(frozen=True, kw_only=True)
class Language:
    """Keep documents of some languages, told by py3langid; needs the extra `language`."""

    kind: Literal["language"] = "language"
    languages: tuple[str, ...] = ("en",)
    """ISO 639-1 codes of the languages that stay: en, zh, de, ..."""
    least_probability: float = 0.5
    """Probability that all these languages have together, at least. py3langid knows 140; longer texts make it surer."""

    def __post_init__(self) -> None:
        require_fields("data.filters.N", self)
        require(
            bool(self.languages) and 0 <= self.least_probability < 1,
            "A filter of kind 'language' needs languages, and a least_probability from 0 to below 1.",
        )


@dataclass(frozen=True, kw_only=True)
class RepeatedLines:
    """Keep each line where it occurs first among all documents that stay, compared without case; documents with too
    few sentences left go. Like filters of duplicates, it looks at what passes all others, and after these."""

    kind: Literal["repeated_lines"] = "repeated_lines"
    language: Literal["en", "zh"] = "en"
    """Language whose sentences are counted."""
    least_sentences: int = 3
    """Sentences that are left of a document, as in C4; 0 keeps all that have any text."""

    def __post_init__(self) -> None:
        require_fields("data.filters.N", self)
        require(self.least_sentences >= 0, f"data.filters.N.least_sentences={self.least_sentences} must be 0 or more.")


@dataclass(frozen=True, kw_only=True)
class ExactDuplicates:
    """Keep the first of documents with the same text, in all splits together. Filters of duplicates look at what
    passes all other filters, wherever they stand in `data.filters`."""

    kind: Literal["exact_duplicates"] = "exact_duplicates"

    def __post_init__(self) -> None:
        require_fields("data.filters.N", self)


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Keep the first of documents whose sets of word n-grams overlap, estimated by MinHash (Lee et al. 2022);
    like ExactDuplicates, after all other filters."""

    kind: Literal["near_duplicates"] = "near_duplicates"
    similarity: float = 0.8
    """Jaccard similarity from which two documents count as one."""
    ngram: int = 5
    """Words (in Chinese: characters) of an n-gram."""
    permutations: int = 128
    """Length of a signature."""

    def __post_init__(self) -> None:
        require_fields("data.filters.N", self)
        require(
            0.1 <= self.similarity <= 1 and self.ngram > 0 and 16 <= self.permutations <= 1024,
            "A filter of near duplicates needs a similarity between 0.1 and 1, an ngram above 0 and 16 to 1024 "
            "permutations.",
        )


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Find training documents that share an n-gram of words with evaluation sets (Brown et al. 2020)."""

    kind: Literal["overlap"] = "overlap"
    sources: tuple[Source, ...] = ()
    """The evaluation sets; reports name them."""
    ngram: int = 13
    """Words (in Chinese: characters) in a row that count as a leak."""
    drop: bool = False
    """Drop such documents; they are reported in any case."""

    def __post_init__(self) -> None:
        require_fields("data.filters.N", self)
        require(bool(self.sources) and self.ngram > 0, "A filter of kind 'overlap' needs sources and an ngram above 0.")


Together = ExactDuplicates | NearDuplicates | RepeatedLines
"""Filters that look at all documents at once."""
Filter = (
    UnicodeForm | Length | Language | C4Rules | GopherRules | RepeatedLines | ExactDuplicates | NearDuplicates | Overlap
)
