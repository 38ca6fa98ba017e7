"""Automata of bytes say of every text what a search in it says."""

import itertools
import random
import re

import pytest

from t5like.data.vocabulary.tables import is_chinese
from t5like.infer.patterns import Pattern, both, stopped_by, without, words_of

STRINGS = [["ab"], ["aa", "aba"], ["b", "abab"], ["bab", "ab", "ba"], ["aaa", "ab", "caa"]]
TEXTS = ["".join(letters) for length in range(7) for letters in itertools.product("abc", repeat=length)]


def states(pattern: Pattern, text: str) -> list[int]:
    """The state after each byte."""
    return [pattern.after(text[:end].encode()) for end in range(len(text) + 1)]


@pytest.mark.parametrize("strings", STRINGS)
def test_a_text_stops_with_the_first_string_that_is_complete_and_never_holds_a_forbidden_one(strings):
    encoded = [string.encode() for string in strings]
    stop, never = stopped_by(encoded), without(encoded)
    for text in TEXTS:
        found = any(string in text for string in strings)
        assert stop.stops[stop.after(text.encode())] == found
        assert (never.after(text.encode()) < 0) == found


@pytest.mark.parametrize(("left", "right"), [*itertools.pairwise(STRINGS)])
def test_two_patterns_at_once_are_each_of_them(left, right):
    never, stop = without([s.encode() for s in left]), stopped_by([s.encode() for s in right])
    joined = both(never, stop)
    for text in TEXTS:
        for end in range(len(text) + 1):
            state = joined.after(text[:end].encode())
            assert (state < 0) == any(string in text[:end] for string in left)
            if state < 0:
                break
            assert joined.stops[state] == any(string in text[:end] for string in right)
            if joined.stops[state]:
                break


@pytest.mark.parametrize(
    "words", [["yes", "no", "not"], ["ab", "abab", "b"], ["正面", "负面", "正"], ["a正", "正b", "b"]]
)
def test_a_text_of_words_has_spaces_between_them_or_none_between_chinese_ones(words):
    pattern, draw = words_of(words), random.Random(0)
    either = "|".join(map(re.escape, words))
    chinese = "[\u4e00-\u9fff]"
    whole = re.compile(rf" ?(?:{either})(?:(?: |(?<={chinese})(?={chinese}))(?:{either}))*")
    assert all(map(is_chinese, "正负面"))
    for number in range(3000):
        if number % 2:
            text = "".join(draw.choice(words) + draw.choice([" ", "", ""]) for _ in range(draw.randint(1, 4)))
        else:
            text = "".join(draw.choice("".join(words) + " ") for _ in range(draw.randint(1, 6)))
        state = pattern.after(text.encode())
        assert (state >= 0 and bool(pattern.ends[state])) == bool(whole.fullmatch(text)), text
