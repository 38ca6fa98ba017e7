"""Constraints of an answer's text are never broken, however a vocabulary cuts it into tokens."""

import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Int
from small_vocabularies import KINDS, vocabulary_of

from t5like.config.constraints import Constraints
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.infer import automaton
from t5like.infer.automaton import Automaton, follow, permitted, without_ends
from t5like.infer.constrained import automaton_of, cut, prefix_tokens, written_forms

ROWS, MOST, STATES, WIDTH = 300, 20, 256, 576


class Tokens(NamedTuple):
    """The tokens that may be chosen, and those that end an answer."""

    allowed: np.ndarray
    ends: np.ndarray


def tokens_of(vocabulary: Vocabulary) -> Tokens:
    allowed, ends = np.arange(WIDTH) < vocabulary.size, np.arange(WIDTH) == vocabulary.eos
    allowed[vocabulary.pad] = not vocabulary.is_special[vocabulary.pad]
    return Tokens(allowed | ends, ends)


def built(vocabulary: Vocabulary, **options: Any) -> Automaton:
    found = automaton_of(Constraints(**options), vocabulary, *tokens_of(vocabulary))
    assert found is not None
    return found


@jax.jit
def sampled(held: Automaton, allowed: Array, ends: Array, key: Array) -> Int[Array, "rows most"]:
    """Answers of a model that has no opinion, -1 behind their end: one program for all tests."""

    def step(carried, drawn):
        states, ended = carried
        number, key = drawn
        mask = permitted(held, states, MOST - number) & allowed[None]
        rank = jnp.cumsum(mask, axis=1)  # of each token among those that may come, of which one is drawn
        wanted = jnp.floor(jax.random.uniform(key, (ROWS, 1)) * rank[:, -1:].astype(jnp.float32))
        token = jnp.argmax(rank > wanted.astype(rank.dtype), axis=1).astype(jnp.int32)
        token = jnp.where(mask.any(1), token, -9)  # a wall
        after = follow(held, states, token)
        return (after, ended | ends[token] | held.stops[after]), jnp.where(ended, -1, token)

    begin = jnp.full((ROWS,), held.start), jnp.zeros((ROWS,), bool)
    drawn = jnp.arange(MOST, dtype=jnp.int32), jax.random.split(key, MOST)
    return jax.lax.scan(step, begin, drawn)[1].T


def samples(vocabulary: Vocabulary, **options: Any) -> list[list[int]]:
    """The tokens of answers, ends included."""
    table, stops, needed, start = built(vocabulary, **options)
    more = STATES - len(stops)
    table = jnp.pad(table, ((0, more), (0, 0)), constant_values=-1)
    same = Automaton(table, jnp.pad(stops, (0, more)), jnp.pad(needed, (0, more)), start)
    answers = np.asarray(sampled(same, *map(jnp.asarray, tokens_of(vocabulary)), jax.random.key(0)))
    assert answers.min() >= -1
    return [row[row >= 0].tolist() for row in answers]


QUICK = ("unigram", "wordpiece")
CASES: tuple[dict[str, Any], ...] = (
    dict(stop=("e", "上"), bad_words=("a", "明月", " t")),
    dict(bad_words=("th", "in", "的", ".", "地上霜"), prefix="The river"),
    dict(allowed_words=("yes", "no", "not", "the north")),
    dict(allowed_words=("月光", "月", "故乡"), stop=("乡月",)),
    dict(allowed_words=("a", "in", "ab"), bad_words=("a a", "in ab"), prefix="The river", stop=("ab a",)),
)


@pytest.mark.parametrize("kind", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in KINDS])
def test_no_sample_breaks_a_constraint(kind):
    """10,200 samples in all."""
    vocabulary = vocabulary_of(kind)
    for options in CASES:
        if kind == "t5" and {"月光"} & {*options.get("allowed_words", ())}:
            continue  # the original has no Chinese
        constraints = Constraints(**options)
        begin = [*prefix_tokens(constraints, vocabulary)]
        for answer in samples(vocabulary, **options):
            ended = answer[-1] == vocabulary.eos
            tokens = begin + answer[: len(answer) - ended]
            text, before = vocabulary.decode(tokens), vocabulary.decode(tokens[:-1])
            stops = written_forms(constraints.stop, vocabulary)
            stopped = any(stop in text for stop in stops)
            assert ended or stopped or len(answer) == MOST
            assert not any(stop in before for stop in stops)
            shown = cut(text, constraints, vocabulary)
            assert text.startswith(constraints.prefix)
            assert not any(bad in shown for bad in written_forms(constraints.bad_words, vocabulary)), shown
            if constraints.allowed_words and not stopped:
                assert_words(text[len(constraints.prefix) :], constraints.allowed_words, kind)


def assert_words(text: str, words: tuple[str, ...], kind: str) -> None:
    """Also of answers that were as long as they may be. WordPiece writes spaces between Chinese characters."""
    text = text.strip(" ") if kind != "wordpiece" else re.sub("(?<=[\u4e00-\u9fff]) (?=[\u4e00-\u9fff])", "", text)
    either = "|".join(sorted(words, key=len, reverse=True))
    joint = " |(?<=[\u4e00-\u9fff])(?=[\u4e00-\u9fff])"
    assert re.fullmatch(rf" ?(?:{either})(?:(?:{joint})(?:{either}))*", text), text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["the river rises in the hills", "床前明月光疑是地上霜"])
def test_an_answer_stops_within_the_piece_that_completes_a_stop_string(kind, text):
    """All parts of a text of two to four characters, most of which begin and end within pieces."""
    vocabulary = vocabulary_of(kind)
    ids = vocabulary.encode(text)
    if vocabulary.unk in ids:
        pytest.skip("the vocabulary has no Chinese")
    written = vocabulary.decode(ids)
    spanning = 0
    for begin in range(0, len(text) - 4, 3):
        stop = text[begin : begin + 2 + begin // 3 % 3]
        options = Constraints(stop=(stop,))
        held = built(vocabulary, stop=(stop,))
        table, stops = np.asarray(held.table), np.asarray(held.stops)
        state, read = int(held.start), 0
        while not stops[state]:
            state, read = int(table[state, ids[read]]), read + 1
        forms = written_forms(options.stop, vocabulary)
        assert any(form in vocabulary.decode(ids[:read]) for form in forms)
        assert not any(form in vocabulary.decode(ids[: read - 1]) for form in forms)
        place = min(written.find(form) for form in forms if form in written)
        assert cut(vocabulary.decode(ids[:read]), options, vocabulary) == written[:place]
        kept = Constraints(stop=(stop,), include_stop_str_in_output=True)
        assert any(cut(written, kept, vocabulary) == written[:place] + form for form in forms)
        spanning += not any(vocabulary.decode([token]).strip() == stop.strip() for token in ids)
    assert spanning


def test_answers_end_in_time():
    """Near the longest answer only what can still become a whole word may come."""
    vocabulary = vocabulary_of("bytes")
    held = built(vocabulary, allowed_words=("abcdef",))
    start = held.start[None]
    left = lambda n: np.flatnonzero(permitted(held, start, jnp.int32(n))[0]).tolist()  # noqa: E731
    assert left(5) == [] and left(6) == [ord("a") + 3] and left(7) == [ord(" ") + 3, ord("a") + 3]


def test_it_may_be_too_early_for_an_end_but_never_for_all_tokens():
    mask = jnp.array([[True, True, False], [True, True, False], [False, True, False]])
    ends, early = jnp.array([False, True, True]), jnp.array([True, False, True])
    assert without_ends(mask, ends, early).tolist() == [[True, False, False], [True, True, False], [False, True, False]]


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        ("bytes", dict(bad_words=("ca", "cb"), allowed_words=("cab", "cb")), "nothing"),
        ("wordpiece", dict(bad_words=("th", "me"), allowed_words=("the", "me")), "nothing"),
        (
            "t5",
            dict(prefix="The  river ", stop=("x",)),
            "--prefix 'The  river ' is no text of this vocabulary, in which ",
        ),
        ("t5", dict(allowed_words=("床",)), "--allowed_words '床' is no text of this vocabulary, in which it becomes "),
        (
            "bytes",
            dict(bad_words=("a\u0301",), prefix="a\u0301"),
            "--prefix 'a\u0301' has 'a\u0301' of --bad_words in it.",
        ),
    ],
)
def test_constraints_that_nothing_keeps_to_are_refused(kind, options, sentence):
    if sentence == "nothing":
        sentence = "The constraints leave nothing to choose: no answer but an empty one keeps to "
    with pytest.raises(UserError) as error:
        built(vocabulary_of(kind), **options)
    assert str(error.value).startswith(sentence)


def test_a_forbidden_word_in_every_piece_leaves_nothing():
    vocabulary = vocabulary_of("bytes")
    allowed, ends = tokens_of(vocabulary)
    only = (np.arange(WIDTH) == ord("a") + 3) | ends
    with pytest.raises(UserError, match=r"^The constraints leave nothing to choose: "):
        automaton_of(Constraints(bad_words=("a",)), vocabulary, only & allowed, ends)


def test_a_table_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(automaton, "LARGEST", 2**14)
    with pytest.raises(
        UserError, match=r"^The constraints need a table of more than \d+ states for a vocabulary of 576 "
    ):
        built(vocabulary_of("bytes"), allowed_words=("a long word", "another long one"))
