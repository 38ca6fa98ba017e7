"""The filters of `data.filters` that look at one document at a time.

    cleaner = Cleaner(data.filters)          # once in each process; evaluation sets are read when they are needed
    result = cleaner(document)               # Cleaned(document, notes, lines_removed), or Dropped(filter, reason, ...)

The filters run in their order, except those of duplicates and of repeated lines, which need all documents: they are in
`duplicates.py` and `repeated_lines.py` and look at what passes all others. A result depends on the filters and the
document alone.
"""

import dataclasses
import re
import unicodedata
from dataclasses import dataclass

from t5like import config
from t5like.data.cleaning.language import Languages
from t5like.data.cleaning.overlap import EvaluationSets
from t5like.data.cleaning.quality import clean_c4, gopher_reason
from t5like.data.sources import Document

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Cleaned:
    """A document that no filter dropped, as the filters changed it."""

    document: Document
    notes: tuple[tuple[int, str], ...] = ()
    """Reports although the document stays: the number of the filter and a reason."""
    lines_removed: int = 0
    """Lines that C4's rules took out."""


@dataclass(frozen=True)
class Dropped:
    """A document that a filter dropped, and why."""

    filter: int
    """Number in `data.filters`."""
    reason: str
    document: Document
    """As the filters before left it."""


class Cleaner:
    """The filters of a run, ready to use."""

    def __init__(self, filters: tuple[config.Filter, ...]):
        self._filters = filters
        self._languages = {n: Languages(f) for n, f in enumerate(filters) if isinstance(f, config.Language)}
        self._evaluation = {n: EvaluationSets(f) for n, f in enumerate(filters) if isinstance(f, config.Overlap)}

    def __call__(self, document: Document) -> Cleaned | Dropped:
        notes: list[tuple[int, str]] = []
        removed = 0
        for number, filter in enumerate(self._filters):
            reason = ""
            match filter:
                case config.UnicodeForm():
                    parts = tuple(normalise(filter, part) for part in document.parts)
                    document = dataclasses.replace(document, parts=parts)
                    reason = "" if any(part.strip() for part in parts) else "unicode: nothing but control characters"
                case config.Length():
                    reason = _length_reason(filter, document)
                case config.Language():
                    reason = self._languages[number].reason(document.parts)
                case config.C4Rules():
                    text, lines, reason = clean_c4(filter, document.parts[0])
                    removed += lines
                    document = dataclasses.replace(document, parts=(text, *document.parts[1:]))
                case config.GopherRules():
                    reason = gopher_reason(filter, "\n".join(document.parts))
                case config.Overlap():
                    leak = self._evaluation[number].leak(document.parts)
                    if leak and not filter.drop:
                        notes.append((number, leak))
                    reason = leak if filter.drop else ""
            if reason:
                return Dropped(number, reason, document)
        return Cleaned(document, tuple(notes), removed)


def normalise(filter: config.UnicodeForm, text: str) -> str:
    """The text in a Unicode form, with \\n at the ends of lines and without other control characters but tabs."""
    text = unicodedata.normalize(filter.form, text)
    if filter.control and CONTROL.search(text):
        text = CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return text


def _length_reason(filter: config.Length, document: Document) -> str:
    length = sum(map(len, document.parts))
    if length < filter.least:
        return f"length: {length:,} characters, below {filter.least:,}"
    if filter.most is not None and length > filter.most:
        return f"length: {length:,} characters, above {filter.most:,}"
    return ""
