"""Each token knows the characters of the original text that it stands for, whatever the tokenizer made of these."""

import pathlib

import numpy as np
import pytest
from test_vocabulary import CHINESE, ENGLISH, KINDS, train

from t5like.data.vocabulary import Bytes, Vocabulary, load_pieces
from t5like.data.vocabulary.offsets import character_of_byte, trimmed
from t5like.data.vocabulary.pieces import PART
from t5like.errors import UserError

GOLDEN = pathlib.Path(__file__).parent / "golden"
FILES = ("t5_1_1/spiece.model", "mt5/spiece.model", "llama/tokenizer.json", "gpt2/vocab.json", "bert_model/vocab.txt")
PARTS = [
    *(
        "The ",
        "the",
        " ",
        "  ",
        "don't",
        "x",
        ".",
        ",",
        "\n",
        "\r\n",
        "\t",
        "\0",
        "\u3000",
        "\u00a0",
        "\u200b",
        "\ufeff",
    ),
    *(
        "床前明月光",
        "，",
        "。",
        "渔船",
        "😀",
        "👩‍👩‍👧",
        "🇨🇭",
        "e\u0301",
        "é",
        "É",
        "ﬁ",
        "¼",
        "Ａ",
        "１",
        "…",
        "¨",
        "ﷺ",
        "\u2028",
    ),
    *("한국", "ไทย", "𐍈", "\ufffd", "\u2581", "##s", "<extra_id_0>", " [MASK] ", "</s>", "<pad>", "[CLS]", "<0x41>"),
]


@pytest.fixture(scope="module")
def vocabularies() -> dict[str, Vocabulary]:
    """One of each kind that is learned here, and one of each that is read from a file."""
    learned = {kind: Bytes() if kind == "bytes" else train(kind, 400, [*ENGLISH[:2], *CHINESE]) for kind in KINDS}
    learned["wordpiece"] = train("wordpiece", 400, [*ENGLISH[:2], *CHINESE])
    read = {name: load_pieces(GOLDEN / name) for name in FILES}
    return {
        name: Vocabulary(pieces, ("[NEW]",), 0 if name in FILES else 3) for name, pieces in (learned | read).items()
    }


def random_text(seed: int) -> str:
    draw = np.random.default_rng(seed)
    parts = [*PARTS, chr(int(draw.integers(0x20, 0xD000))), chr(int(draw.integers(0xE000, 0x30000)))]
    return "".join(draw.choice(parts, int(draw.integers(0, 30))).tolist())


@pytest.mark.parametrize("kind", [*KINDS, "wordpiece", *FILES])
def test_offsets_come_with_the_ids_of_encode_and_run_forward_through_the_text(vocabularies, kind):
    vocabulary = vocabularies[kind]
    for text in ["", " ", *map(random_text, range(150)), "词 word. " * PART]:
        for names, ids in ((True, vocabulary.encode(text)), (False, vocabulary.encode_document(text)[:-1])):
            found, spans = vocabulary.encode_with_offsets(text, names)
            assert found == ids and len(spans) == len(ids)
            assert all(0 <= begin <= end <= len(text) for begin, end in spans)
            assert sorted(begin for begin, _ in spans) == [begin for begin, _ in spans], (text, spans)
            seen = {place for begin, end in spans for place in range(begin, end)}
            if not kind.startswith(("bert", "wordpiece")):  # these drop marks and what they do not know
                missed = [text[place] for place in range(len(text)) if place not in seen]
                assert not "".join(missed).strip("\0\u200b\ufeff\u2581 \u2028") or kind in FILES, (text, missed)


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_of_a_vocabulary_that_changes_no_text_has_the_characters_that_it_spells(vocabularies, kind):
    vocabulary = vocabularies[kind]
    for text in [*map(random_text, range(60)), "词 word. " * PART]:
        text = text.replace("\u2581", "")  # which SentencePiece spells as a space
        ids, spans = vocabulary.encode_with_offsets(text, names=False)
        spelt = [vocabulary.pieces.spelt(number) for number in ids]
        more = sum(map(len, spelt)) - len(text.encode())  # SentencePiece puts a space before a text
        characters = [*[0] * more, *character_of_byte(text).tolist()]
        place, expected = 0, []
        for piece in spelt:
            begin, last = characters[place], characters[place + len(piece) - 1]
            expected.append(trimmed(text, begin, last + 1) if place + len(piece) > more else (0, 0))
            place += len(piece)
        assert spans == expected


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("t5_1_1/spiece.model", " ﬁx", [("▁fi", 1, 2), ("x", 2, 3)]),
        ("t5_1_1/spiece.model", "x¼", [("▁", 0, 0), ("x", 0, 1), ("1", 1, 2), ("<unk>", 1, 2), ("4", 1, 2)]),
        (
            "bert_model/vocab.txt",
            "  Cafe\u0301 床",
            [("c", 2, 3), ("##a", 3, 4), ("##f", 4, 5), ("##e", 5, 6), ("[UNK]", 8, 9)],
        ),
        ("gpt2/vocab.json", "x 床", [("x", 0, 1), ("Ġ", 1, 2), ("å", 2, 3), ("º", 2, 3), ("Ĭ", 2, 3)]),
        ("bytes", "é\n", [("<0xC3>", 0, 1), ("<0xA9>", 0, 1), ("<0x0A>", 1, 2)]),
        ("bytes", "a <extra_id_0> b", [("<0x61>", 0, 1), ("<extra_id_0>", 2, 14), ("<0x62>", 15, 16)]),
    ],
)
def test_offsets_are_those_of_the_text_as_it_was_before_it_was_normalised(vocabularies, kind, text, expected):
    ids, spans = vocabularies[kind].encode_with_offsets(text)
    assert [(vocabularies[kind].name(number), *span) for number, span in zip(ids, spans, strict=True)] == expected


def test_half_a_surrogate_pair_is_a_sentence_in_a_prompt_and_a_mark_in_a_document(vocabularies):
    with pytest.raises(UserError, match="not valid UTF-8 at character 1"):
        vocabularies["unigram"].encode_with_offsets("a\ud800b")
    ids, spans = vocabularies["unigram"].encode_with_offsets("a\ud800b", names=False)
    assert ids == vocabularies["unigram"].encode_document("a\ud800b")[:-1] and spans[-1] == (2, 3)
