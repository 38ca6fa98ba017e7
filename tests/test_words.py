"""Words and the hashes of their n-grams, against regular expressions and sets."""

import re
import subprocess
import sys

import numpy as np
import pytest

from t5like.data.cleaning.words import Ngrams, hash_rows, words_of

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff\u3040-\u30ff"
WORD = re.compile(rf"[{HAN}]|[^\W_{HAN}]+")
VISIBLE = re.compile(rf"[{HAN}]|[^\s{HAN}]+")
TEXTS = [
    "",
    " ",
    "word",
    "Two  words, and 3 more!\n(in a_bracket)\tüber",
    "春眠不觉晓，处处闻啼鸟。",
    "mixed中文and English 夜来x風雨\U00020000声",
    "😀 emoji 👍🏽ok",
    "… ... #",
]


def cut(text: str, symbols: bool = False) -> list[str]:
    words = words_of(text, symbols)
    return [text[start:stop] for start, stop in zip(words.starts, words.stops, strict=True)]


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_those_of_a_regular_expression(text):
    assert cut(text) == WORD.findall(text)
    assert cut(text, symbols=True) == VISIBLE.findall(text)


def test_random_texts_are_cut_as_by_a_regular_expression():
    random = np.random.default_rng(0)
    for _ in range(300):
        text = "".join(random.choice(list("ab 中文,\n1_"), random.integers(0, 30)))
        assert cut(text) == WORD.findall(text)
        assert cut(text, symbols=True) == VISIBLE.findall(text)


def test_marks_belong_to_the_letters_before_them():
    assert cut("नमस्ते दुनिया") == ["नमस्ते", "दुनिया"]


@pytest.mark.parametrize("length", [1, 2, 5])
def test_ngrams_have_the_same_hash_exactly_where_their_words_are_the_same(length):
    random = np.random.default_rng(0)
    text = " ".join(random.choice(["a", "b", "ab", "ba", "aa", "中"], 2000))
    ngrams = Ngrams(words_of(text)).all(length)
    words = WORD.findall(text)
    runs = [tuple(words[n : n + length]) for n in range(len(words) - length + 1)]
    assert len(ngrams) == len(runs)
    assert len(set(zip(runs, ngrams.tolist(), strict=True))) == len(set(runs)) == len(set(ngrams.tolist()))


def test_an_ngram_has_the_same_hash_wherever_it_stands():
    alone = Ngrams(words_of("over the lazy dog")).all(4)
    for far in (100, 140_000):
        words = words_of("x" * far + " jumps over, the lazy dog")
        assert alone.tolist() == Ngrams(words).at(np.array([2]), 4).tolist()


def test_a_text_with_fewer_words_than_an_ngram_has_none():
    assert len(Ngrams(words_of("three words only")).all(4)) == len(Ngrams(words_of("")).all(1)) == 0


def test_rows_have_the_same_hash_exactly_where_they_are_the_same():
    rows = np.random.default_rng(0).integers(0, 3, (500, 5)).astype(np.uint32)
    hashes = hash_rows(rows).tolist()
    different = {tuple(row) for row in rows.tolist()}
    assert (
        len(different) == len(set(hashes)) == len({(tuple(r), h) for r, h in zip(rows.tolist(), hashes, strict=True)})
    )


def test_hashes_are_the_same_in_each_process():
    program = "from t5like.data.cleaning.words import *; print(Ngrams(words_of('the same 哈希')).all(2).tolist())"

    def printed(seed: str) -> str:
        command = [sys.executable, "-c", program]
        return subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True).stdout

    assert printed("1") == printed("2") == f"{Ngrams(words_of('the same 哈希')).all(2).tolist()}\n"
