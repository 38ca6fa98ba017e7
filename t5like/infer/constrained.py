"""Options of a constrained answer, for a vocabulary: the tokens of its prefix, its automaton, the end of its text."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from t5like.config.constraints import Constraints
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.infer.automaton import Automaton, build
from t5like.infer.patterns import anything, both, stopped_by, without, words_of
from t5like.infer.spelling import spelling_of


def prefix_tokens(options: Constraints, vocabulary: Vocabulary) -> tuple[int, ...]:
    """The tokens of `options.prefix`, with which an answer begins.

    Raises:
      UserError: the vocabulary has no tokens for that text.
    """
    tokens = tuple(vocabulary.encode(options.prefix))
    if (back := vocabulary.decode(tokens)) != options.prefix:
        raise UserError(
            f"--prefix {options.prefix!r} is no text of this vocabulary, in which it becomes {back!r}: give a prefix "
            "that stays as it is."
        )
    return tokens


def automaton_of(
    options: Constraints,
    vocabulary: Vocabulary,
    allowed: Bool[np.ndarray, " vocab"],
    ends: Bool[np.ndarray, " vocab"],
) -> Automaton | None:
    """The automaton of answers behind their prefix, or None where no option constrains their text.

    Args:
      allowed: tokens that may be chosen at all, ends among them.
      ends: tokens that end an answer.

    Raises:
      UserError: no answer keeps to the options, or a word is no text of the vocabulary.
    """
    if not (options.stop or options.bad_words or options.allowed_words):
        return None
    spelling = spelling_of(vocabulary, len(allowed))
    written, context = spelling.read(prefix_tokens(options, vocabulary))
    pattern = anything()
    if options.stop:
        pattern = stopped_by(_encoded(written_forms(options.stop, vocabulary)))
    if options.bad_words:
        pattern = both(pattern, without(_encoded(written_forms(options.bad_words, vocabulary))))
    begin = pattern.after(written)
    if begin < 0 or pattern.stops[begin]:
        raise UserError(f"--prefix {options.prefix!r} has a string of --stop or --bad_words in it: leave one out.")
    words = [_spelt_word(word, vocabulary) for word in options.allowed_words]
    behind = words_of(words) if words else anything()
    return build(both(pattern, behind, (begin, 0)), spelling, allowed, ends, context)


def cut(text: str, options: Constraints, vocabulary: Vocabulary) -> str:
    """The text of an answer up to the first of the stop strings that is complete, or with it."""
    found = [(text.find(stop), len(stop)) for stop in written_forms(options.stop, vocabulary) if stop in text]
    if not found:
        return text
    end, begin = min((at + length, at) for at, length in found)
    return text[: end if options.include_stop_str_in_output else begin]


def written_forms(strings: Sequence[str], vocabulary: Vocabulary) -> list[str]:
    """The strings, and for WordPiece also what becomes of them: `结束` is written `结 束`, and `END` perhaps `end`."""
    plain = [string for string in strings if string == string.strip() and vocabulary.pieces.continuation]
    encoded = [tokens for tokens in map(vocabulary.encode, plain) if vocabulary.unk not in tokens]
    return list(dict.fromkeys([*strings, *filter(None, map(vocabulary.decode, encoded))]))


def _spelt_word(word: str, vocabulary: Vocabulary) -> str:
    """A word as texts of the vocabulary have it.

    Raises:
      UserError: they cannot have it.
    """
    tokens = vocabulary.encode(word)
    back = vocabulary.decode(tokens)
    if vocabulary.unk in tokens or (back != word and not vocabulary.pieces.continuation):
        raise UserError(
            f"--allowed_words {word!r} is no text of this vocabulary, in which it becomes {back!r}: give words that "
            "stay as they are."
        )
    return back


def _encoded(strings: Sequence[str]) -> list[bytes]:
    return [string.encode() for string in strings]
