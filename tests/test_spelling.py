"""The text that tokens add to an answer is the text that the vocabulary decodes."""

import numpy as np
import pytest
from small_vocabularies import KINDS, vocabulary_of

from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.infer.spelling import spelling_of


@pytest.mark.parametrize("kind", KINDS)
def test_any_sequence_of_tokens_is_spelt_as_it_is_decoded(kind):
    """Special tokens among them, and parts of characters. For these, libraries write different numbers of U+FFFD, and
    the decoder of Llama's tokenizer.json nothing else for a run of bytes of which one is wrong."""
    vocabulary, draw = vocabulary_of(kind), np.random.default_rng(1)
    spelling = spelling_of(vocabulary, vocabulary.size + 3)
    special = np.array([*vocabulary.special.values()])
    for number in range(600):
        ids = draw.integers(0, vocabulary.size + 3, draw.integers(1, 8))
        if number % 2:
            ids = np.where(draw.random(len(ids)) < 0.3, draw.choice(special, len(ids)), ids)
        text = spelling.read(ids.tolist())[0].decode("utf-8", "replace")
        if kind != "llama" or "\ufffd" not in text:
            assert text.replace("\ufffd", "") == vocabulary.decode(ids).replace("\ufffd", "")


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_either_language_are_spelt_in_bytes(kind):
    vocabulary = vocabulary_of(kind)
    spelling = spelling_of(vocabulary, vocabulary.size)
    for text in ("The river rises in the hills.", "床前明月光，疑是地上霜。", "a床b <extra_id_0> the"):
        ids = vocabulary.encode(text)
        assert spelling.read(ids)[0].decode() == vocabulary.decode(ids)


def test_contexts_that_differ_in_nothing_are_one():
    assert len(spelling_of(vocabulary_of("bytes"), 300).adds) > len(spelling_of(plain(), 300).adds) == 1


def plain() -> Vocabulary:
    vocabulary = vocabulary_of("bytes")
    return Vocabulary(vocabulary.pieces)


def test_a_tokenizer_whose_text_depends_on_what_follows_is_refused(monkeypatch):
    vocabulary = Vocabulary(vocabulary_of("bytes").pieces)
    real = Vocabulary.decode
    monkeypatch.setattr(Vocabulary, "decode", lambda self, ids: real(self, ids).removesuffix("a") + "!")
    with pytest.raises(UserError, match=r"^The text of this vocabulary's tokens depends on those behind them, so no "):
        spelling_of(vocabulary, 260)
