"""Sentences come out of CoNLL's columns as lists, however the file is cut, and ragged ones are named."""

import itertools

import numpy as np
import pytest
from settings import sentence
from test_formats import write
from test_forms import values
from test_sources import read_all, read_parts

from t5like import config
from t5like.data.sources import Part, rows_of
from t5like.data.sources.faults import Faults

CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

# NN B-NP O
1 CD I-NP O
"""
UNIVERSAL = """# sent_id = 1
# text = Vámonos al mar.
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\t_\t0\troot\t_\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t_\t_
2.1\tx\t_\t_\t_\t_\t_\t_\t_\t_
3\tmar\tmar\tNOUN\t_\t_\t1\tobl\t_\tSpaceAfter=No

"""


def test_conll_gives_sentences_as_lists_for_words_tags_and_each_column(tmp_path):
    path = write(tmp_path, "eng.train.conll", CONLL)
    first, second = values(kind="files", path=path)
    assert (first["words"], first["tags"], first["text"]) == (["EU", "rejects"], ["B-ORG", "O"], "EU rejects")
    assert (first["0"], first["1"], first["-1"]) == (first["words"], ["NNP", "VBZ"], first["tags"])
    assert second["words"] == ["#", "1"]  # a token, for the line has the columns of one
    named = values(kind="conll", path=path, columns=("token", "tags", "chunk", "ner"))
    assert (named[0]["words"], named[0]["tags"], named[0]["ner"]) == (["EU", "rejects"], ["NNP", "VBZ"], ["B-ORG", "O"])
    assert [document.parts for document in read_all(kind="conll", path=path)] == [("EU rejects",), ("# 1",)]


def test_conll_u_gives_words_and_parts_of_speech_and_the_text_that_it_names(tmp_path):
    (row,) = values(kind="files", path=write(tmp_path, "es.conllu", UNIVERSAL))
    assert (row["words"], row["tags"]) == (["Vamos", "nos", "mar"], ["VERB", "PRON", "NOUN"])
    assert (row["text"], row["deprel"]) == ("Vámonos al mar.", ["root", "obj", "obl"])


def test_chinese_characters_with_tags_are_joined_without_spaces_and_comments_are_skipped(tmp_path):
    content = "# id 1\tdomain=zh\n床\tB-N\r\n前\tE-N\r\n，\tO\r\nTang\tS\r\n\r\n \r\n月\tS\r\n"
    one, two = values(kind="conll", path=write(tmp_path, "a.bmes", content))
    assert (one["text"], one["tags"], two["words"]) == ("床前， Tang", ["B-N", "E-N", "O", "S"], ["月"])
    (bare,) = values(kind="conll", path=write(tmp_path, "b.bio", "a\nb\n"))
    assert bare["words"] == ["a", "b"] and "tags" not in bare


@pytest.mark.parametrize(
    ("content", "settings", "said"),
    [
        ("a O\nb\n\nc O\n", {}, "line 2, has 1 column where 2 the file begins with."),
        ("a O\n\nb B X\n", {}, "line 3, has 3 columns where 2 the file begins with."),
        ("a O\n", {"columns": ("words",)}, "line 1, has 2 columns where 1 are named."),
        ("a O\n" * 30, {"most_bytes": 20}, "line 1, is longer than data.sources.N.most_bytes=20: raise it"),
    ],
)
def test_a_sentence_that_is_ragged_or_too_long_is_named_by_its_line_and_may_be_skipped(
    tmp_path, content, settings, said
):
    settings |= {"kind": "conll", "path": write(tmp_path, "a.conll", content)}
    assert f"a.conll, {said}" in sentence(values, **settings)
    faults = Faults()
    found = list(rows_of(config.Source(on_error="skip", **settings), "train", faults=faults))
    assert faults.count == 1 and len(found) == content.count("\n\n")


@pytest.mark.parametrize("seed", range(3))
def test_any_cutting_of_a_conll_file_gives_the_same_sentences(tmp_path, seed):
    draw = np.random.default_rng(seed)
    lines = [str(draw.choice(["", "a O", "词 B-N", "-DOCSTART- O"])) for _ in range(60)]
    content = ("\r\n" if seed else "\n").join(["x O", *lines])
    source = config.Source(kind="conll", path=write(tmp_path, "a.conll", content))
    size = len(content.encode())
    cuts = [0, *sorted(draw.integers(0, size, 9).tolist()), size]
    parts = (Part(source.path, *pair) for pair in itertools.pairwise(cuts))
    whole = read_parts(source, Part(source.path))
    found = [document for part in parts for document in read_parts(source, part)]
    assert whole and [(d.parts, d.record) for d in found] == [(d.parts, d.record) for d in whole]
