"""Where the sentences of tokenised documents end.

The rules read the text that the tokens spell, so they are the same for every kind of vocabulary. A sentence ends

- at a line feed,
- after 。 ！ ？ and their kind, or ! and ? before a Chinese character, closing quotes included,
- after . ! ? and closing quotes if a space and no lower-case letter follow; a point after an initial or a title such
  as "Mr." does not count, nor one between digits. Text without capitals may go on with any letter.
"""

import re

import numpy as np
from jaxtyping import Int

from t5like.data.ragged import slices, starts_of
from t5like.data.vocabulary import Vocabulary
from t5like.data.vocabulary.tables import is_chinese

CLOSING = "(?:[\"')\\]]|”|’|»|」|』|》|）|】)*"
TITLES = ("Mr", "Mrs", "Ms", "Dr", "Prof", "St", "vs", "No")
AT_ONCE = 2**20
"""Tokens that are spelt at once."""


class Sentences:
    """Finds the ends of sentences in the tokens of one vocabulary."""

    def __init__(self, vocabulary: Vocabulary):
        spelt = [_spelt(vocabulary, number) for number in range(vocabulary.size)]
        self._bytes = np.frombuffer(b"".join(spelt), np.uint8)
        self._lengths = np.array(list(map(len, spelt)), np.int64)
        self._starts = starts_of(self._lengths)
        self._end = _pattern(cased=any(map(bytes.isascii, spelt)) and any(re.search(rb"[A-Z]", one) for one in spelt))

    def ends(self, tokens: Int[np.ndarray, " tokens"]) -> Int[np.ndarray, " ends"]:
        """The number of tokens up to the end of each sentence, ascending; an EOS ends one."""
        found = [self._ends(tokens[at : at + AT_ONCE]) + at for at in range(0, len(tokens), AT_ONCE)]
        return np.unique(np.concatenate(found)) if found else np.zeros(0, np.int64)

    def _ends(self, tokens: Int[np.ndarray, " tokens"]) -> Int[np.ndarray, " ends"]:
        lengths = self._lengths[tokens]
        text = slices(self._bytes, self._starts[tokens], lengths).tobytes()
        bytes_before = np.fromiter((match.end() for match in self._end.finditer(text)), np.int64)
        return np.searchsorted(np.cumsum(lengths), bytes_before) + 1


def _spelt(vocabulary: Vocabulary, number: int) -> bytes:
    """The text of a piece, with the space before a word that WordPiece does not spell; EOS is a line feed."""
    if number == vocabulary.eos:
        return b"\n"
    if vocabulary.is_special[number]:
        return b""
    pieces = vocabulary.pieces
    name = pieces.name(number) if pieces.continuation else ""
    apart = name and not name.startswith(pieces.continuation) and not is_chinese(name[0])
    return b" " + pieces.spelt(number) if apart else pieces.spelt(number)


def _pattern(cased: bool) -> re.Pattern[bytes]:
    """Matches from the mark that ends a sentence to where the next one begins, spaces before that left out."""
    not_before = "".join(rf"(?<!\b{title})" for title in TITLES)
    point = rf"(?:(?<!\b[A-Z]){not_before}\.(?!(?<=[0-9] \.) [0-9])|[!?]|…)(?:[.!?]|…)*"
    goes_on = r"(?=\s+[^a-z\s])" if cased else r"(?=\s+\S)"
    lines = r"(?:[ \t]*\n)+"
    chinese = r"(?:。|！|？|．|｡|…(?=…)|(?<=…)…|[!?](?=[CJK]))+"
    text = rf"{point}{CLOSING}(?:{lines}|{goes_on})|{chinese}{CLOSING}(?:{lines})?|{lines}"
    # The first bytes of ideographs and of their punctuation.
    return re.compile(text.encode().replace(b"[CJK]", rb"[\xe3-\xe9\xef\xf0]"))
