"""The words that are masked together are those of the text, however a tokenizer cuts it."""

import builtins
import dataclasses
import itertools
import json
import pydoc_data.topics
import re

import numpy as np
import pytest
from examples import settings, streams_of, vocabulary
from settings import sentence
from small import small_config

from t5like import config
from t5like.config import presets
from t5like.data.objectives import words
from t5like.data.objectives.words import require_segmenter, word_begins
from t5like.data.ragged import Ragged
from t5like.data.vocabulary import Bytes, Vocabulary, train_pieces
from t5like.runs.changes import with_words_of
from t5like.runs.directory import RunDirectory

CHINESE = "清晨的港口笼罩在薄雾里，几条早归的渔船靠在岸边。水手们坐在石墙上修补渔网。"
TEXTS = [pydoc_data.topics.topics["class"], "\n".join(CHINESE + "用法写" + CHINESE), "it is,not so:you say; naïve"]


def made(kind: str) -> Vocabulary:
    if kind == "bytes":
        return Vocabulary(Bytes())
    return Vocabulary(train_pieces(config.Vocabulary(kind=kind, size=500, train_characters=20_000), TEXTS))


def divided(vocabulary: Vocabulary, text: str, chinese: bool = False) -> list[str]:
    """The words of a text by its tokens."""
    tokens = np.array([token for token in vocabulary.encode(text) if not vocabulary.is_special[token]])
    first = np.arange(len(tokens)) == 0
    begins = word_begins(tokens, first, vocabulary, chinese)
    spelt = [vocabulary.pieces.spelt(int(token)) for token in tokens]
    starts = [*np.flatnonzero(begins).tolist(), len(tokens)]
    return [b"".join(spelt[a:b]).decode().strip(" ") for a, b in itertools.pairwise(starts)]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "byte_bpe", "bytes"])
def test_a_word_does_not_join_what_stands_before_it(kind):
    found = divided(made(kind), "one,two three\nnaïve 用Python写，so it is")
    assert [word for word in found if word] == [
        *("one", ",", "two", "three", "\n", "naïve", "用", "Python", "写", "，", "so", "it", "is")
    ]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "byte_bpe", "bytes", "wordpiece"])
def test_words_of_chinese_are_those_of_its_dictionary(kind):
    pytest.importorskip("rjieba")
    found = divided(made(kind), "渔船靠在岸边，and水手们 修补渔网", chinese=True)
    assert [word for word in found if word] == ["渔船", "靠", "在", "岸边", "，", "and", "水手", "们", "修补", "渔网"]


def test_wordpiece_knows_its_words():
    tokens = made("wordpiece")
    assert divided(tokens, "the classes, unusualness 用法") == ["the", "classes", ",", "unusualness", "用", "法"]


@pytest.mark.parametrize("chinese", [False, True])
def test_an_example_does_not_depend_on_those_beside_it(chinese):
    """Windows of bytes are cut within characters."""
    pytest.importorskip("rjieba")
    tokens, alone = made("bytes"), []
    whole = np.array(tokens.encode("渔船水手abc" * 40))
    width = 50
    for start in range(0, len(whole) - width, width):
        window = whole[start : start + width]
        alone.append(word_begins(window, np.arange(width) == 0, tokens, chinese))
    together = whole[: width * len(alone)]
    found = word_begins(together, np.arange(len(together)) % width == 0, tokens, chinese)
    np.testing.assert_array_equal(found, np.concatenate(alone))


def test_whole_words_of_the_text_are_masked():
    data = settings("masked", 64, density=0.3, whole_words=True)
    line = np.array(vocabulary().encode("the statement,clause:expression is,not(self)")[:40], np.int32)
    part = Ragged(np.tile(line, 200), np.full(200, len(line)))
    chosen = streams_of(data, (part,))["encoder_loss_weights"].values.reshape(200, -1) == 1
    begins = word_begins(line, np.arange(len(line)) == 0, vocabulary(), False)
    word = np.cumsum(begins)
    assert chosen.any() and all((row[word == n] == row[word == n][0]).all() for row in chosen for n in set(word))


def test_a_missing_segmenter_is_a_sentence_before_anything_is_done(monkeypatch):
    real = builtins.__import__

    def missing(name, *rest):
        if name == "rjieba":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    words._segmenter.cache_clear()
    require_segmenter(settings("masked", whole_words=True))
    said = sentence(require_segmenter, settings("masked", whole_words=True, words="chinese"))
    assert re.search(r"^data\.objective\.words='chinese' needs rjieba, .* with the extra `zh`\.$", said)


def test_a_run_that_began_before_goes_on_with_the_words_of_pieces(tmp_path):
    """Whether its preset or its directory is given."""
    objective = config.Objective(kind="masked", whole_words=True)
    base = small_config("bert", data__objective=objective, train__directory=str(tmp_path))
    presets.write(base, tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["data"]["objective"]["words"], stored["data"]["objective"]["suffix_first_rate"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    (tmp_path / "checkpoints" / "3" / "state").mkdir(parents=True)
    run = RunDirectory(tmp_path)
    assert presets.read(tmp_path).data.objective.words == "pieces"
    assert with_words_of(run, base).data.objective.words == "pieces"
    chosen = dataclasses.replace(base, data=dataclasses.replace(base.data, objective=config.Objective(kind="masked")))
    assert with_words_of(run, chosen) == chosen
