"""Sentences end at the same places of a text whatever the vocabulary is."""

import pydoc_data.topics

import numpy as np
import pytest

from t5like import config
from t5like.data.packing.sentences import Sentences
from t5like.data.vocabulary import Bytes, Vocabulary, train_pieces

TEXTS = {
    "English": ["It is true.", "Is it?", "Yes!", "“So be it.”", "(And so on.)", "The end"],
    "points that end nothing": ["Mr. J. Smith paid 3.14 dollars, e.g. in cash.", "Then he left v2.0.1 alone."],
    "marks in a row": ["What?!", "No...", 'He said "go."', "Fine."],
    "Chinese": ["床前明月光，疑是地上霜。", "举头望明月？", "低头思故乡！”", "白日依山尽。"],
}
LEARNED = [pydoc_data.topics.topics["class"], *(" ".join(sentences) for sentences in TEXTS.values())]
KINDS = ("unigram", "bpe", "byte_bpe", "wordpiece", "bytes")


@pytest.fixture(scope="module", params=KINDS)
def vocabulary(request) -> Vocabulary:
    if request.param == "bytes":
        return Vocabulary(Bytes())
    whole = {} if request.param == "byte_bpe" else {"coverage": 1.0}
    return Vocabulary(train_pieces(config.Vocabulary(kind=request.param, size=500, **whole), LEARNED))


def sentences_of(text: str, vocabulary: Vocabulary) -> list[str]:
    tokens = np.array(vocabulary.encode_document(text))
    parts = np.split(tokens, Sentences(vocabulary).ends(tokens))
    return [decoded.replace(" ", "") for part in parts if (decoded := vocabulary.decode(part).strip())]


@pytest.mark.parametrize("name", TEXTS)
def test_sentences_of_a_text_are_found(vocabulary, name):
    if vocabulary.pieces.continuation and name != "Chinese":
        pytest.skip("WordPiece does not spell spaces, so quotes and initials are told from the next sentence by chance")
    joined = ("" if name == "Chinese" else " ").join(TEXTS[name])
    assert sentences_of(joined, vocabulary) == [sentence.replace(" ", "") for sentence in TEXTS[name]]


def test_wordpieces_have_sentences_too(vocabulary):
    text = "It is true. Is it? Yes! He paid 3.14 dollars. The end"
    expected = ["It is true.", "Is it?", "Yes!", "He paid 3.14 dollars.", "The end"]
    assert sentences_of(text, vocabulary) == [sentence.replace(" ", "") for sentence in expected]


def test_text_without_capitals_has_sentences():
    lower = Vocabulary(train_pieces(config.Vocabulary(kind="wordpiece", size=300, lowercase=True), LEARNED[:2]))
    assert sentences_of("It is true. Is it? Yes.", lower) == ["itistrue.", "isit?", "yes."]


def test_a_line_feed_ends_a_sentence_and_belongs_to_it():
    vocabulary = Vocabulary(Bytes())
    assert sentences_of("one\ntwo.\n\nthree", vocabulary) == ["one", "two.", "three"]
    tokens = np.array(vocabulary.encode_document("one\ntwo.\n\nthree"))
    assert Sentences(vocabulary).ends(tokens).tolist() == [4, 10, 16]


def test_long_texts_are_read_in_parts_with_the_same_result(monkeypatch):
    vocabulary = Vocabulary(Bytes())
    tokens = np.array(vocabulary.encode_document("One is here. Two is there.\n" * 40))
    whole = Sentences(vocabulary).ends(tokens)
    monkeypatch.setattr("t5like.data.packing.sentences.AT_ONCE", 27 * 3)
    np.testing.assert_array_equal(Sentences(vocabulary).ends(tokens), whole)
    assert len(whole) == 80 and Sentences(vocabulary).ends(tokens[:0]).tolist() == []
