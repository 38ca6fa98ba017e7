"""Learned vocabularies have the size that was asked for, the same bytes each time, and say what they are worth."""

import inspect
import json
import lzma
import os
import pathlib
import pydoc_data.topics
import re

import numpy as np
import pytest
from etils import epath

from t5like import config
from t5like.data.vocabulary import Bytes, Vocabulary, open_vocabulary, train_pieces
from t5like.data.vocabulary.report import as_text, learn, report, shown
from t5like.errors import UserError

TEXTS = [*(pydoc_data.topics.topics[name] for name in ("if", "class", "lambda", "strings")), inspect.getsource(json)]
CHINESE = ["床前明月光，疑是地上霜。\n举头望明月，低头思故乡。", "白日依山尽，黄河入海流。\n欲穷千里目，更上一层楼。"]
KINDS = ("unigram", "bpe", "wordpiece", "byte_bpe")


def train(kind: str, size: int = 900, texts: list[str] | None = None, **options):
    return train_pieces(config.Vocabulary(kind=kind, size=size, **options), texts or TEXTS + CHINESE)


@pytest.fixture(scope="module", params=KINDS)
def vocabulary(request):
    return Vocabulary(train(request.param), ("[A]",), 3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_text_gives_the_same_bytes(kind):
    first, *others = (train(kind) for _ in range(4))
    assert first.size == 900
    assert {other.serialized for other in others} == {first.serialized}


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_too_large_for_its_text_names_the_largest(kind):
    texts = ["the cat sat on the mat and looked at the other cats"] * 20
    with pytest.raises(
        UserError, match=r"size=5000 cannot be reached with 1,020 characters of text: they hold"
    ) as error:
        train(kind, 5000, texts)
    most = re.search(r"at most (\d+) pieces; lower data\.vocabulary\.size or add text\.$", str(error.value))
    assert most and train(kind, int(most[1]), texts).size == int(most[1])
    with pytest.raises(UserError, match=r"lower data\.vocabulary\.size or add text"):
        train(kind, int(most[1]) + 1, texts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_vocabulary_too_small_for_its_characters_names_the_smallest(kind):
    with pytest.raises(UserError, match="bytes and single characters alone need") as error:
        train(kind, 100)
    least = re.search(r"need (\d+) pieces; raise data\.vocabulary\.size to \1 or more", str(error.value))
    assert (kind == "byte_bpe") != ("or lower data.vocabulary.coverage=0.9995, so that rare" in str(error.value))
    assert least and train(kind, int(least[1])).size == int(least[1])
    with pytest.raises(UserError, match=r"raise data\.vocabulary\.size"):
        train(kind, int(least[1]) - 1)


def test_a_vocabulary_that_read_too_little_names_the_field_that_says_so():
    settings = config.Vocabulary(kind="unigram", size=30_000, train_characters=600)
    with pytest.raises(UserError, match=r"with 600 characters .*; raise data\.vocabulary\.train_characters, which all"):
        train_pieces(settings, ["床前明月光，疑是地上霜。" * 100])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("texts", [[], [""], ["\n \n", "\t"]])
def test_no_text_is_a_sentence(kind, texts):
    with pytest.raises(
        UserError, match=r"^There is no text to learn a vocabulary from: every document .* is empty or held out\.$"
    ):
        train_pieces(config.Vocabulary(kind=kind), texts)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_first_characters_are_learned_from(kind):
    def texts():
        yield from TEXTS
        yield "x" * 10_000
        raise AssertionError("too much is read")

    most = sum(map(len, TEXTS)) + 5
    assert (
        train(kind, texts=texts(), train_characters=most).serialized == train(kind, texts=[*TEXTS, "x" * 5]).serialized
    )


def test_wordpiece_has_the_special_pieces_of_bert_first():
    pieces = train("wordpiece")
    assert [pieces.name(number) for number in range(5)] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert pieces.control == (0, 3, 1, 2)
    assert "##" in "".join(pieces.name(number) for number in pieces.encode("definitionsxq"))


def test_byte_level_bpe_has_the_end_of_text_last_as_gpt2():
    pieces = train("byte_bpe")
    assert pieces.name(899) == "<|endoftext|>" and pieces.control == (None, 899, 899, 899)
    assert sorted(map(pieces.spelt, range(256))) == sorted(bytes([byte]) for byte in range(256))


def test_wordpiece_spells_every_ascii_character_and_drops_the_rare_ones():
    pieces = train("wordpiece", coverage=0.99, texts=[*TEXTS, *CHINESE, "龘"])
    ascii_text = "".join(map(chr, range(33, 127)))
    assert pieces.control.unk not in pieces.encode(f"{ascii_text} Zq9")
    assert pieces.encode("龘") == [pieces.control.unk]
    whole = train("wordpiece", coverage=1.0, texts=[*TEXTS, *CHINESE, "龘"])
    assert whole.control.unk not in whole.encode("龘")


def test_wordpiece_in_lower_case_has_no_capitals_and_no_accents():
    pieces = train("wordpiece", lowercase=True, texts=[*TEXTS, "Ünïcode É"])
    assert pieces.encode("THE Élan") == pieces.encode("the elan")
    ordinary = (pieces.name(number) for number in range(5, pieces.size))
    assert not any(character.isupper() for name in ordinary for character in name)


def test_lower_case_is_for_wordpiece():
    with pytest.raises(UserError, match=r"^data\.vocabulary\.lowercase=True has no effect with .*, only with 'wordp"):
        config.Vocabulary(kind="bpe", lowercase=True)


def test_the_report_counts_what_is_encoded(vocabulary):
    text, chinese = "class A: return 1\n", "床前明月光，疑是地上霜。"
    found = report(vocabulary, [text])
    tokens = len(vocabulary.encode(text))
    assert (found.pieces, found.tokens, found.unit) == (904, tokens, "word")
    assert found.tokens_per_unit == tokens / 4 and found.bytes_per_token == len(text) / tokens
    assert found.unknown == 0 and found.byte_fallback == 0
    assert found.unchanged == (0 if vocabulary.pieces.continuation else 1)
    assert {(900, "[A]"), (901, "<extra_id_2>"), (903, "<extra_id_0>")} <= set(found.special)
    found = report(vocabulary, [chinese, "a"])
    assert (found.unit, found.texts, found.characters) == ("character", 2, 13)
    assert found.tokens_per_unit == (len(vocabulary.encode(chinese)) + len(vocabulary.encode("a"))) / 13


def test_the_report_tells_unknown_text_from_text_spelt_in_bytes(vocabulary):
    found = report(vocabulary, ["龘 龘"])
    unknown = bool(vocabulary.pieces.continuation)
    assert (found.unknown == 1) == unknown and ((found.byte_fallback or 0) > 0.5) != unknown


def test_the_report_names_the_longest_pieces_first(vocabulary):
    longest = report(vocabulary, []).longest
    lengths = [
        len(vocabulary.pieces.spelt(number).decode("utf-8", "ignore")) for number in vocabulary.ordinary.tolist()
    ]
    assert len(longest[0].removeprefix("##")) == max(lengths) and len(longest) == 20


def test_a_report_without_text_has_no_figures(vocabulary):
    found = report(vocabulary, [])
    assert found.tokens_per_unit is found.bytes_per_token is found.unknown is found.unchanged is None
    assert "held-out text     none, so there are no figures" in as_text(found)
    assert report(vocabulary, [""]).tokens_per_unit is None


def test_the_report_reads_as_lines():
    lines = as_text(report(Vocabulary(Bytes(), ("[MASK]",), 5), ["né a"])).splitlines()
    assert lines[:-2] == [
        "260 pieces",
        "held-out text     1 texts, 4 characters, 5 tokens",
        "tokens            2.500 a word",
        "bytes             1.000 a token",
        "unknown           0.0000% of the tokens",
        "byte by byte      40.0000% of the tokens hold parts of characters",
        "come back         100.0000% of the texts, unchanged",
    ]
    assert lines[-1] == (
        "special pieces    0 <pad>  1 </s>  2 <unk>  254 <extra_id_4>  ...  258 <extra_id_0>  259 [MASK]"
    )


def test_a_text_is_shown_piece_by_piece():
    assert shown(Vocabulary(Bytes(), ("[MASK]",)), "a é\n[MASK]\u200b").splitlines() == [
        *("100  a", " 35  ␣", "198  <0xC3>", "172  <0xA9>", " 13  \\n", "259  [MASK]  (special)"),
        *("229  <0xE2>", "131  <0x80>", "142  <0x8B>", "9 pieces, 11 characters, 14 bytes"),
        "comes back as: a␣é\\n␣[MASK]␣\\u200b",
    ]
    assert shown(Vocabulary(Bytes()), "").splitlines() == ["0 pieces, 0 characters, 0 bytes", "comes back unchanged"]


def test_what_is_unknown_is_shown_as_such():
    lines = shown(Vocabulary(train("wordpiece")), "class 龘").splitlines()
    assert lines[-4].split()[1] == "class" and lines[-3].split(maxsplit=1)[1] == "[UNK]  (unknown text)"
    assert lines[-1] == "comes back as: class␣[UNK]"


@pytest.mark.parametrize("kind", KINDS)
def test_learning_saves_what_it_reports(tmp_path, kind):
    settings = config.Vocabulary(kind=kind, size=700, extra=("[A]",), sentinels=2)
    found = learn(settings, iter(TEXTS), CHINESE, epath.Path(tmp_path / "new"))
    opened = open_vocabulary(epath.Path(tmp_path / "new"))
    assert opened.size == settings.pieces == found.pieces
    assert found == report(opened, CHINESE)


@pytest.fixture(scope="module")
def poems():
    folder = pathlib.Path(os.environ.get("T5LIKE_DATA", "")) / "pretrain_zh_poetry"
    if not os.environ.get("T5LIKE_DATA") or not folder.exists():
        pytest.skip("T5LIKE_DATA names no folder with pretrain_zh_poetry")
    with lzma.open(folder / "tang_shi.jsonl.xz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for _, line in zip(range(3000), lines, strict=False)]


@pytest.mark.parametrize("kind", KINDS)
def test_poems_come_back_and_have_pieces_of_several_characters(poems, kind):
    vocabulary, held_out = Vocabulary(train(kind, 5200, poems[:2500] + TEXTS)), poems[2500:]
    rows = vocabulary.encode_documents(held_out)
    known = [vocabulary.unk not in row[:-1] for row in rows]
    back = [vocabulary.decode(row) for row in rows]
    if not vocabulary.pieces.continuation:
        assert back == held_out and all(known)
        used = (vocabulary.pieces.spelt(number) for number in set(np.concatenate(rows).tolist()))
        assert sum(len(spelt.decode("utf-8", "ignore").strip()) > 1 for spelt in used) > 50
        return
    # WordPiece keeps characters and no spaces; the rarest characters are unknown.
    assert sum(known) > 100
    for text, again in ((text, again) for text, again, whole in zip(held_out, back, known, strict=True) if whole):
        assert "".join(again.split()) == "".join(text.split())
