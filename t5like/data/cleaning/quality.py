"""Rules that tell good text from bad: those of C4, which also take out lines, and those of Gopher.

Both were written for English. Their Chinese forms count a Han character as a word, know Chinese punctuation and stop
words, and take n-grams twice as long, since a Chinese word has about two characters.
"""

import re
from typing import Literal

import numpy as np
from jaxtyping import Int, UInt64

from t5like import config
from t5like.data.cleaning.words import DIGIT, HAN, Ngrams, Words, words_of

TERMINAL = {"en": tuple(".!?\"”'’"), "zh": tuple('。！？….!?"”』」’')}
"""Ends of a line of running text: a terminal punctuation mark or an end quotation mark."""
SENTENCE = {
    "en": re.compile(r"[.!?]+[\"”'’)\]]*(?=\s|$)"),
    "zh": re.compile(r"[。！？…]+[”』」’）]*|[.!?]+[\"”'’)\]]*(?=\s|$)"),
}
CITATION = re.compile(r"\[(?:\d*|citation needed|edit|需要引用|来源请求|來源請求)\]", re.IGNORECASE)
LONGEST_WORD = 1000
"""Characters of a word, the most."""
BOILERPLATE = (
    "javascript",
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
    "使用条款",
    "使用條款",
    "隐私政策",
    "隱私政策",
    "隐私权政策",
    "使用cookie",
)

STOP_WORDS = {
    "en": ("the", "be", "to", "of", "and", "that", "have", "with"),
    "zh": tuple("的了是在和我有不这這他也就之其而以"),
}
BULLETS = (*"•‣▪▫◦●○■□▶►·–", "- ", "* ", "+ ")
ELLIPSES = ("...", "…")
TOP_NGRAMS = ((2, 0.20), (3, 0.18), (4, 0.16))
"""Share of the characters that the most frequent n-gram may cover (Gopher, table A1)."""
DUPLICATE_NGRAMS = ((5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10))
"""Share of the characters that n-grams may cover which occurred before."""


def clean_c4(filter: config.C4Rules, text: str) -> tuple[str, int, str]:
    """C4's rules for a page (Raffel et al. 2020, section 2.2): its good lines, how many went, and why the page goes.

    A line stays if it ends in a terminal mark, but not in three dots, has enough words and none of more than 1,000
    characters, and names no JavaScript, cookies or terms of use. Wikipedia's citation marks are cut out. A page goes if
    it has a curly bracket, "lorem ipsum", a forbidden word or too few sentences; the reason is empty if it stays.

    Where the paper says more than the code that made C4 (`tensorflow_datasets.text.c4_utils`) this is the paper's: any
    quotation mark at the end, and brackets and placeholders in lines that go. The code's sentences are NLTK's. Its
    limit of 190,000 characters is a filter of lengths; its other two steps are `language.py` and `repeated_lines.py`.
    """
    kept, removed = [], 0
    for line in text.split("\n"):
        long = len(line) > LONGEST_WORD and _has_long_word(filter, line)
        line = CITATION.sub("", line).strip() if "[" in line else line.strip()
        if line and not long and _ends_well(filter, line) and _enough_words(filter, line):
            kept.append(line)
        elif line:
            removed += 1
    folded = text.casefold()
    if _has_boilerplate(folded):
        plain = [line for line in kept if not _has_boilerplate(line.casefold())]
        kept, removed = plain, removed + len(kept) - len(plain)
    page = "\n".join(kept)
    return page, removed, _c4_reason(filter, folded, page)


def _ends_well(filter: config.C4Rules, line: str) -> bool:
    return line.endswith(TERMINAL[filter.language]) and not line.endswith("...")


def _has_long_word(filter: config.C4Rules, line: str) -> bool:
    """True if a word is too long; in Chinese a Han character is a word."""
    if filter.language == "en":
        return max(map(len, line.split()), default=0) > LONGEST_WORD
    return int(words_of(line, symbols=True).lengths.max(initial=0)) > LONGEST_WORD


def _has_boilerplate(folded: str) -> bool:
    return any(phrase in folded for phrase in BOILERPLATE)


def _enough_words(filter: config.C4Rules, line: str) -> bool:
    if filter.language == "en":
        return len(line.split(None, filter.least_words)) >= filter.least_words
    return len(line) >= filter.least_words and len(words_of(line).starts) >= filter.least_words


def _c4_reason(filter: config.C4Rules, folded: str, page: str) -> str:
    if "{" in folded:
        return "c4: a curly bracket"
    if "lorem ipsum" in folded:
        return "c4: lorem ipsum"
    if word := _forbidden(filter, folded):
        return f"c4: the forbidden word {word!r}"
    sentences = count_sentences(page, filter.language)
    if sentences < filter.least_sentences:
        return f"c4: {sentences} of {filter.least_sentences} sentences"
    return ""


def count_sentences(text: str, language: Literal["en", "zh"]) -> int:
    """Ends of sentences in a text."""
    return sum(1 for _ in SENTENCE[language].finditer(text))


def _forbidden(filter: config.C4Rules, text: str) -> str | None:
    """The first forbidden word of the text; one without Han characters stands on its own, not within a word."""
    for word in filter.forbidden:
        folded = word.casefold()
        if folded in text:
            within = bool((words_of(folded).classes == HAN).any())
            if within or re.search(rf"(?<!\w){re.escape(folded)}(?!\w)", text):
                return word
    return None


def gopher_reason(filter: config.GopherRules, text: str) -> str:
    """The reason for which Gopher's rules (Rae et al. 2021, section A.1.1) drop a document; empty where they do not."""
    words = words_of(text, symbols=filter.language == "en")
    return _quality(filter, text, words) or (_repetition(filter, text, words) if filter.repetition else "")


def _quality(filter: config.GopherRules, text: str, words: Words) -> str:
    count = len(words.starts)
    if not filter.least_words <= count <= filter.most_words:
        return f"gopher: {count:,} words, not {filter.least_words:,} to {filter.most_words:,}"
    if not count:
        return ""
    mean = float(words.lengths.mean())
    if filter.language == "en" and not 3 <= mean <= 10:
        return f"gopher: words of {mean:.1f} characters in the mean, not 3 to 10"
    for name, found in (("hash signs", text.count("#")), ("ellipses", sum(map(text.count, ELLIPSES)))):
        if found > 0.1 * count:
            return f"gopher: {found:,} {name} for {count:,} words"
    letters = int(np.logical_or.reduceat(words.classes > DIGIT, words.starts).sum())
    if letters < 0.8 * count:
        return f"gopher: {letters:,} of {count:,} words with a letter"
    return _lines(text) or _stop_words(filter, text)


def _lines(text: str) -> str:
    lines = [line.strip() for line in text.split("\n") if line and not line.isspace()]
    bullets = sum(line.startswith(BULLETS) for line in lines)
    if bullets > 0.9 * len(lines):
        return f"gopher: {bullets:,} of {len(lines):,} lines with a bullet"
    ellipses = sum(line.endswith(ELLIPSES) for line in lines)
    if ellipses > 0.3 * len(lines):
        return f"gopher: {ellipses:,} of {len(lines):,} lines with an ellipsis at their end"
    return ""


def _stop_words(filter: config.GopherRules, text: str) -> str:
    found = 0
    folded = text.casefold()
    for word in STOP_WORDS[filter.language]:
        found += word in folded and (filter.language == "zh" or bool(re.search(rf"\b{word}\b", folded)))
        if found >= filter.least_stop_words:
            return ""
    return f"gopher: {found} of {filter.least_stop_words} stop words" if filter.least_stop_words else ""


def _repetition(filter: config.GopherRules, text: str, words: Words) -> str:
    for name, pieces in (("lines", text.split("\n")), ("paragraphs", re.split(r"\n\s*\n", text))):
        pieces = [stripped for piece in pieces if (stripped := piece.strip())]
        seen = set(pieces)
        if len(pieces) - len(seen) > 0.3 * len(pieces):
            return f"gopher: {len(pieces) - len(seen):,} of {len(pieces):,} {name} repeated"
        total, once = sum(map(len, pieces)), sum(map(len, seen))
        if total - once > 0.2 * total:
            return f"gopher: {total - once:,} of {total:,} characters in repeated {name}"
    return _repeated_ngrams(words, 1 if filter.language == "en" else 2)


def _repeated_ngrams(words: Words, scale: int) -> str:
    """The table's limits on n-grams; every n-gram is looked for among those whose beginning recurs already."""
    ngrams, ends = Ngrams(words), np.concatenate(([0], np.cumsum(words.lengths)))
    total, recurring = int(ends[-1]), np.arange(len(words.starts))
    for length, limit in TOP_NGRAMS + DUPLICATE_NGRAMS:
        top, length = length <= TOP_NGRAMS[-1][0], length * scale
        recurring = recurring[: np.searchsorted(recurring, len(ends) - length)]
        groups = _Groups(recurring, ngrams.at(recurring, length))
        recurring = groups.members()
        if not len(recurring):
            return ""
        if top:
            first, count = groups.largest()
            share = count * int(ends[first + length] - ends[first]) / total
        else:
            share = _covered(groups.repeats(), length, ends) / total
        if share > limit:
            what = f"the most frequent {length}-gram" if top else f"repeated {length}-grams"
            return f"gopher: {min(share, 1):.0%} of the characters in {what}"
    return ""


class _Groups:
    """Positions with equal n-grams, in the order of the n-grams' hashes and then of the text."""

    def __init__(self, positions: Int[np.ndarray, " positions"], ngrams: UInt64[np.ndarray, " positions"]):
        order = np.argsort(ngrams, kind="stable")
        self._positions, ngrams = positions[order], ngrams[order]
        self._again = np.zeros(len(order) + 1, bool)
        np.equal(ngrams[1:], ngrams[:-1], out=self._again[1:-1])

    def repeats(self) -> Int[np.ndarray, " repeats"]:
        """Flag the n-grams that occurred before."""
        return self._positions[self._again[:-1]]

    def members(self) -> Int[np.ndarray, " members"]:
        """Flag the n-grams that occur more than once, in the order of the text."""
        return np.sort(self._positions[self._again[:-1] | self._again[1:]])

    def largest(self) -> tuple[int, int]:
        """The first position of the most frequent n-gram, and how often it occurs."""
        starts = np.flatnonzero(~self._again)
        counts = starts[1:] - starts[:-1]
        largest = int(np.argmax(counts))
        return int(self._positions[starts[largest]]), int(counts[largest])


def _covered(positions: Int[np.ndarray, " repeats"], length: int, ends: Int[np.ndarray, " words_and_one"]) -> int:
    """Characters of the words in the n-grams at these positions, each counted once."""
    covered = np.zeros(len(ends), np.int64)
    covered[positions] += 1
    covered[positions + length] -= 1
    return int(np.diff(ends)[np.cumsum(covered[:-1]) > 0].sum())
