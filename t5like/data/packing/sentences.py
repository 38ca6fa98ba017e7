"""The ends of sentences in tokenised documents.

The rules read the text that the tokens spell, so they are the same for every kind of vocabulary. A sentence ends

- at a line feed,
- after Chinese marks such as 。 and after ! and ? before a Chinese character, closing quotes included,
- after . ! ? and closing quotes if a space and no lower-case letter follow; a point after an initial or a title such
  as "Mr." does not count, nor one between digits. Text without capitals may go on with any letter.
"""

import re

import numpy as np
from jaxtyping import Int

from t5like.data.ragged import slices, starts_of
from t5like.data.vocabulary import Vocabulary
from t5like.data.vocabulary.tables import is_chinese

CLOSING = "(?:[\"')\\]]| ?(?:”|’|»|」|』|》|）|】))*".encode()
CHINESE, ELLIPSIS = "。！？．｡", "…"
LINES = rb"(?:[ \t]*\n)+"
IDEOGRAPH = rb"(?=[\xe3-\xe9\xef\xf0])"
"""The first byte of one, or of its punctuation, follows."""
TITLES = (b"Mr", b"Mrs", b"Ms", b"Dr", b"Prof", b"St", b"vs", b"No")
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
    """The text of a token, with the space before a word that WordPiece does not spell; EOS is a line feed."""
    if number == vocabulary.eos:
        return b"\n"
    if vocabulary.is_special[number]:
        return b""
    pieces = vocabulary.pieces
    name = pieces.name(number) if pieces.continuation else ""
    apart = name and not name.startswith(pieces.continuation) and not is_chinese(name[0])
    return b" " + pieces.spelt(number) if apart else pieces.spelt(number)


def _pattern(cased: bool) -> re.Pattern[bytes]:
    """Matches from the mark that ends a sentence to where the next one begins, spaces before that left out.

    The engine finds one of a few bytes much faster than one of several alternatives: so the first byte of a mark is
    taken before the alternatives, each of which looks back at it.
    """
    ellipsis, goes_on = ELLIPSIS.encode(), rb"(?=\s+[^a-z\s])" if cased else rb"(?=\s+\S)"
    titles = b"".join(rb"(?<!\b%b\.)" % title for title in TITLES)
    point = rb"(?<=\.)(?<!\b[A-Z]\.)%b(?!(?<=[0-9] \.) [0-9])|(?<=[!?])|%b" % (titles, _rest(ELLIPSIS))
    western = rb"(?:%b)(?:[.!?]|%b)*%b(?:%b|%b)" % (point, ellipsis, CLOSING, LINES, goes_on)
    mark = rb"%b|%b%b|(?<=[!?])%b" % (b"|".join(map(_rest, CHINESE)), _rest(ELLIPSIS), ellipsis, IDEOGRAPH)
    more = rb"%b|%b|[!?]%b" % ("|".join(CHINESE).encode(), ellipsis, IDEOGRAPH)
    chinese = rb"(?:%b)(?:%b)*%b(?:%b)?" % (mark, more, CLOSING, LINES)
    first = b"".join({character.encode()[:1] for character in CHINESE + ELLIPSIS})
    return re.compile(rb"[.!?\n%b](?:(?<=\n)(?:%b)?|%b|%b)" % (first, LINES, western, chinese))


def _rest(character: str) -> bytes:
    """A pattern of the bytes of a character whose first one was taken."""
    return rb"(?<=%b)%b" % (character.encode()[:1], character.encode()[1:])
