"""Filters run in their order, change or drop a document, and say why; leaks from evaluation sets are found."""

import json

import pytest

from t5like import config
from t5like.data.cleaning import Cleaned, Cleaner, Dropped
from t5like.data.sources import Document

SENTENCE = "the quick brown fox jumps over the lazy dog while seven cats sleep on a warm roof"
GEDICHT = "床前明月光疑是地上霜举头望明月低头思故乡"


def document(*parts: str) -> Document:
    return Document(parts, group="", file=0, record=0)


def clean(filters, *parts: str) -> Cleaned | Dropped:
    return Cleaner(filters)(document(*parts))


def test_without_filters_a_document_stays_as_it_is():
    assert clean((), "text") == Cleaned(document("text"))


@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        ({}, "cafe\u0301", "café"),
        ({}, "ＡＢＣ１２３", "ＡＢＣ１２３"),
        ({"form": "NFKC"}, "ＡＢＣ１２３，ﬁn", "ABC123,fin"),
        ({}, "one\r\ntwo\rthree\x00\x1b[0m\tfour\x85", "one\ntwo\nthree[0m\tfour"),
        ({"control": False}, "one\r\ntwo\x00", "one\r\ntwo\x00"),
    ],
)
def test_text_comes_into_one_unicode_form(settings, text, expected):
    assert clean((config.UnicodeForm(**settings),), text, text).document.parts == (expected, expected)


def test_a_document_of_control_characters_alone_goes():
    found = clean((config.UnicodeForm(),), "\x00\x01", " ")
    assert isinstance(found, Dropped) and found.reason == "unicode: nothing but control characters"


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (("abcd",), "length: 4 characters, below 5"),
        (("字" * 5,), ""),
        (("abc", "def"), ""),
        (("abcdef", "gh"), "length: 8 characters, above 7"),
    ],
)
def test_documents_that_are_too_short_or_too_long_go(parts, reason):
    found = clean((config.Length(least=5, most=7),), *parts)
    assert (found.reason if isinstance(found, Dropped) else "") == reason


def test_filters_run_in_their_order_and_the_first_that_drops_is_named():
    long = config.Length(least=4)
    nfkc = config.UnicodeForm(form="NFKC")
    assert clean((long, nfkc), "ﬃx") == Dropped(0, "length: 2 characters, below 4", document("ﬃx"))
    assert clean((nfkc, long), "ﬃx") == Cleaned(document("ffix"))
    assert clean((nfkc, long), "ﬃ") == Dropped(1, "length: 3 characters, below 4", document("ffi"))


def test_lines_that_c4_removes_are_counted():
    good = "\n".join(["Here are five or six words."] * 3)
    assert clean((config.C4Rules(),), f"Home | About\n{good}\nBack") == Cleaned(document(good), lines_removed=2)


def notes(filter: config.Overlap, *parts: str) -> tuple[tuple[int, str], ...]:
    found = clean((filter,), *parts)
    assert isinstance(found, Cleaned)
    return found.notes


def evaluation(folder, name: str, *texts: str) -> config.Source:
    path = folder / f"{name}.jsonl"
    path.write_text("\n".join(json.dumps({"q": text, "a": "yes"}) for text in texts))
    return config.Source(kind="jsonl", path=str(path), name=name, fields=("q", "a"))


@pytest.mark.parametrize("drop", [False, True])
def test_a_leak_is_reported_with_its_set_and_an_example_and_dropped_if_wanted(tmp_path, drop):
    sets = (evaluation(tmp_path, "other", SENTENCE[::-1]), evaluation(tmp_path, "foxes", "x", f"So: {SENTENCE}?"))
    leaking = f"They wrote: «The QUICK, brown-{SENTENCE[16:]}» and more."
    found = clean((config.Length(), config.Overlap(sources=sets, drop=drop)), "no leak here", leaking)
    reason = "overlap with foxes: the quick, brown-fox jumps over the lazy dog while seven cats sleep"
    if drop:
        assert isinstance(found, Dropped) and (found.filter, found.reason) == (1, reason)
    else:
        assert isinstance(found, Cleaned) and found.notes == ((1, reason),)


@pytest.mark.parametrize(
    ("training", "leaks"),
    [
        (" ".join(SENTENCE.split()[:13]), True),
        (" ".join(SENTENCE.split()[:12]), False),
        (" ".join(SENTENCE.split()[1:13]) + " other", False),
        (GEDICHT[:7] + "，" + GEDICHT[7:13], True),
        (GEDICHT[:12], False),
        ("", False),
    ],
)
def test_thirteen_words_or_chinese_characters_in_a_row_are_a_leak(tmp_path, training, leaks):
    sets = (evaluation(tmp_path, "set", SENTENCE, GEDICHT),)
    assert bool(notes(config.Overlap(sources=sets), training)) == leaks


@pytest.mark.parametrize(("words", "leaks"), [(7, False), (8, True), (12, True)])
def test_short_evaluation_texts_count_as_a_whole_from_eight_words_on(tmp_path, words, leaks):
    short = " ".join(SENTENCE.split()[:words])
    sets = (evaluation(tmp_path, "set", short),)
    assert bool(notes(config.Overlap(sources=sets), f"Before {short} after")) == leaks
    assert not notes(config.Overlap(sources=sets), f"Before {short[4:]} after")


def test_all_sets_that_have_the_leaking_words_are_named(tmp_path):
    sets = tuple(evaluation(tmp_path, name, SENTENCE) for name in ("one", "two"))
    (note,) = notes(config.Overlap(sources=sets), SENTENCE)
    assert note[1].startswith("overlap with one, two: the quick")


def test_evaluation_sets_without_long_texts_leak_nothing(tmp_path):
    assert clean((config.Overlap(sources=(evaluation(tmp_path, "set", "short"),)),), SENTENCE) == Cleaned(
        document(SENTENCE)
    )
