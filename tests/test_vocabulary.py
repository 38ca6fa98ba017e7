"""Text becomes numbers as in T5 and ByT5, and comes back unchanged."""

import inspect
import json
import pydoc_data.topics

import numpy as np
import pytest

from t5like import config
from t5like.data.vocabulary import Bytes, Vocabulary, make_vocabulary, open_vocabulary, train_pieces
from t5like.errors import UserError

ENGLISH = [pydoc_data.topics.topics[name] for name in ("if", "for", "class", "lambda", "strings")]
CHINESE = ["床前明月光，疑是地上霜。\n举头望明月，低头思故乡。", "白日依山尽，黄河入海流。\n欲穷千里目，更上一层楼。"]
CODE = [inspect.getsource(inspect)[:20_000]]
KINDS = ("unigram", "bpe", "byte_bpe", "bytes")
SENTENCEPIECE = KINDS[:2]
LEARNED = 600


def train(kind: str, size: int = LEARNED, texts: list[str] | None = None):
    return train_pieces(config.Vocabulary(kind=kind, size=size), texts or ENGLISH + 20 * CHINESE + CODE)


@pytest.fixture(scope="module")
def pieces():
    return {kind: train(kind) for kind in KINDS[:3]} | {"bytes": Bytes()}


@pytest.fixture(params=KINDS)
def vocabulary(request, pieces):
    return Vocabulary(pieces[request.param], ("[MASK]", "[CLS]"), 10)


@pytest.fixture(params=SENTENCEPIECE)
def learned(request, pieces):
    return Vocabulary(pieces[request.param], ("[MASK]", "[CLS]"), 10)


@pytest.mark.parametrize("vocabulary", [*SENTENCEPIECE, "bytes"], indirect=True)
def test_control_pieces_are_those_of_t5(vocabulary):
    assert (vocabulary.pad, vocabulary.eos, vocabulary.unk, vocabulary.start) == (0, 1, 2, 0)
    assert [vocabulary.name(number) for number in range(3)] == ["<pad>", "</s>", "<unk>"]
    assert "<s>" not in [vocabulary.name(number) for number in range(vocabulary.size)]


def test_sentinels_descend_from_the_last_piece(learned):
    assert learned.size == LEARNED + 2 + 10
    assert learned.sentinels.tolist() == list(range(LEARNED + 11, LEARNED + 1, -1))
    assert [learned.name(number) for number in learned.sentinels.tolist()] == [f"<extra_id_{n}>" for n in range(10)]
    assert (learned.name(LEARNED), learned.name(LEARNED + 1)) == ("[MASK]", "[CLS]")


def test_a_line_feed_is_a_piece(learned):
    assert [learned.name(number) for number in learned.encode("\n\n")][-2:] == ["\n", "\n"]


def test_bytes_are_numbered_as_in_byt5():
    vocabulary = Vocabulary(Bytes(), ("[MASK]",), 11)
    assert vocabulary.encode_document("né") == [ord("n") + 3, 0xC3 + 3, 0xA9 + 3, 1]
    assert vocabulary.sentinels.tolist() == list(range(258, 247, -1))
    assert vocabulary.size == 260 and vocabulary.special["[MASK]"] == 259
    # Every character's UTF-8 leaves the bytes of the sentinels alone.
    most = max(max(chr(code).encode()) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    assert most + 3 < vocabulary.sentinels.min()


@pytest.mark.parametrize("kind", KINDS)
def test_the_config_counts_the_pieces_that_the_vocabulary_has(pieces, kind):
    settings = config.Vocabulary(kind=kind, size=pieces[kind].size, extra=("[MASK]",), sentinels=7)
    assert Vocabulary(pieces[kind], settings.extra, settings.sentinels).size == settings.pieces


TEXTS = [
    *ENGLISH,
    *CHINESE,
    *CODE,
    "def f(x):\n\tif x:\n\t\treturn  1\n\n\n    # two  spaces,   three\n",
    "tabs\t\t\tand\r\nWindows\r",
    " leading and trailing \n",
    "\n\n\n",
    " ",
    "\t",
    "",
    "😀 👩‍👩‍👧‍👦 🇨🇭 e\u0301 é ﬁ Ａ \u3000 \u2028 \u200b \ufeff \ufffd \0",
    "日本語 العربية עברית ไทย 𐍈",
    "x" * 20_000,
    "<pad> </s> <unk> <s> <0x41> [MASK] <extra_id_0><extra_id_9>",
]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_text_comes_back_unchanged(vocabulary, text):
    ids = vocabulary.encode_document(text)
    assert vocabulary.decode(ids) == text
    assert ids[-1] == vocabulary.eos and not vocabulary.is_special[ids[:-1]].any()


def test_sentencepieces_sign_for_a_space_comes_back_as_a_space(learned):
    assert learned.decode(learned.encode_document("a\u2581b")) == "a b"


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_bytes_of_adds_up_to_the_length_of_the_text(vocabulary, text):
    # SentencePiece spells one more space, before the text.
    more = 1 if text and vocabulary.pieces.file == "spiece.model" else 0
    assert vocabulary.bytes_of[vocabulary.encode_document(text)].sum() == len(text.encode()) + more


def test_special_pieces_spell_no_text(vocabulary):
    assert vocabulary.bytes_of.shape == (vocabulary.size,) and vocabulary.bytes_of.dtype == np.int32
    assert not vocabulary.bytes_of[[vocabulary.eos, vocabulary.unk, *vocabulary.special.values()]].any()


@pytest.mark.parametrize("vocabulary", [*SENTENCEPIECE, "bytes"], indirect=True)
def test_names_in_a_prompt_are_special_pieces_whatever_the_spaces(vocabulary):
    mask, first, last = (vocabulary.special[name] for name in ("[MASK]", "<extra_id_0>", "<extra_id_9>"))
    expected = [*vocabulary.encode("The"), first, *vocabulary.encode("sat on"), last, mask, *vocabulary.encode(".")]
    assert vocabulary.encode("The<extra_id_0>sat on<extra_id_9>[MASK].") == expected
    assert vocabulary.encode("The  <extra_id_0> sat on <extra_id_9> [MASK]  .") == expected
    assert vocabulary.decode(expected) == "The <extra_id_0> sat on <extra_id_9> [MASK] ."


@pytest.mark.parametrize("vocabulary", ["byte_bpe"], indirect=True)
def test_a_space_after_a_name_begins_the_next_piece_of_byte_level_bpe(vocabulary):
    (gap,) = vocabulary.encode("<extra_id_0>")
    expected = [*vocabulary.pieces.encode("The"), gap, *vocabulary.pieces.encode(" sat")]
    assert vocabulary.encode("The <extra_id_0> sat") == vocabulary.encode("The<extra_id_0> sat") == expected
    assert vocabulary.decode(expected) == "The <extra_id_0> sat"


@pytest.mark.parametrize("kind", KINDS)
def test_code_around_the_marks_of_fill_in_the_middle_keeps_its_spaces(pieces, kind):
    vocabulary = Vocabulary(pieces[kind], config.FIM)
    prefix, middle, suffix = (vocabulary.special[name] for name in config.FIM)
    encode = vocabulary.pieces.encode
    expected = [prefix, *encode("def f(x):\n    "), suffix, *encode("  # 明月"), middle]
    text = "<|fim_prefix|>def f(x):\n    <|fim_suffix|>  # 明月<|fim_middle|>"
    assert vocabulary.encode(text) == expected
    assert vocabulary.decode(expected) == text


def test_longer_names_win_over_those_they_begin_with(pieces):
    vocabulary = Vocabulary(pieces["bpe"], ("[M", "[M]", "a.c"), 100)
    assert vocabulary.encode("[M][M<extra_id_12>") == [vocabulary.special[n] for n in ("[M]", "[M", "<extra_id_12>")]
    assert vocabulary.special["a.c"] not in vocabulary.encode("abc")


@pytest.mark.parametrize("extra", [("[MASK]", "[MASK]"), ("",), ("[MASK]", "<extra_id_7>")])
def test_names_of_special_pieces_must_differ(extra):
    with pytest.raises(UserError, match=r"^data\.vocabulary\.extra=.* must be names that differ, none of them empty"):
        config.Vocabulary(extra=extra)


def test_a_vocabulary_without_special_pieces_has_none(pieces):
    vocabulary = Vocabulary(pieces["bpe"])
    assert vocabulary.encode("<extra_id_0> x") == vocabulary.encode_document("<extra_id_0> x")[:-1]
    assert vocabulary.size == LEARNED and not vocabulary.special


def test_decoding_ends_documents_and_drops_padding(vocabulary):
    padding = [] if vocabulary.pieces.control.pad is None else [vocabulary.pad]
    ids = [*vocabulary.encode("two"), vocabulary.eos, *padding, *vocabulary.encode(" words"), *padding]
    assert vocabulary.decode(np.array(ids)).split() == ["two", "words"]


def test_rows_beyond_the_vocabulary_are_named_and_decoded_as_nothing(vocabulary):
    assert vocabulary.name(vocabulary.size) == "<unused>"
    assert vocabulary.decode([*vocabulary.encode("x"), vocabulary.size]) == "x"


def test_a_saved_vocabulary_is_the_same_after_opening(tmp_path, vocabulary):
    vocabulary.save(tmp_path / "vocabulary")
    opened = open_vocabulary(tmp_path / "vocabulary")
    text = "The <extra_id_0> 明月 [CLS]\n"
    assert opened.encode(text) == vocabulary.encode(text)
    assert (opened.size, opened.special, opened.hash) == (vocabulary.size, vocabulary.special, vocabulary.hash)
    np.testing.assert_array_equal(opened.bytes_of, vocabulary.bytes_of)
    assert not list((tmp_path / "vocabulary").glob("*.partial"))


def test_a_folder_without_a_vocabulary_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"holds no vocabulary: vocabulary\.json is missing\.$"):
        open_vocabulary(tmp_path)


def test_another_model_in_a_saved_vocabulary_is_a_sentence(tmp_path, pieces):
    Vocabulary(pieces["bpe"]).save(tmp_path)
    (tmp_path / "spiece.model").write_bytes(pieces["unigram"].serialized)
    with pytest.raises(UserError, match=r"spiece\.model has changed since it was saved"):
        open_vocabulary(tmp_path)


def test_documents_in_a_batch_are_encoded_as_one_by_one(vocabulary):
    rows = vocabulary.encode_documents(TEXTS)
    assert all(row.dtype == np.int32 for row in rows)
    assert [row.tolist() for row in rows] == [vocabulary.encode_document(text) for text in TEXTS]
    assert vocabulary.encode_documents([]) == []


def test_halves_of_surrogate_pairs_in_documents_become_the_replacement_character(vocabulary):
    broken, fine = vocabulary.encode_documents(["a\ud83d b", "明月"])
    assert (vocabulary.decode(broken), vocabulary.decode(fine)) == ("a\ufffd b", "明月")


def test_half_a_surrogate_pair_in_a_prompt_is_a_sentence(vocabulary):
    with pytest.raises(UserError, match=r"^The text is not valid UTF-8 at character 2: mend it there\.$"):
        vocabulary.encode("ab\udcff")


def test_every_piece_is_ordinary_or_special(vocabulary):
    assert sorted([*vocabulary.ordinary, *np.flatnonzero(vocabulary.is_special)]) == list(range(vocabulary.size))
    assert vocabulary.is_special[[vocabulary.eos, *vocabulary.special.values()]].all()
    assert vocabulary.ordinary.size >= vocabulary.pieces.size - 13


@pytest.mark.parametrize("vocabulary", ["unigram", "bpe", "byte_bpe"], indirect=True)
def test_words_are_found_in_english_and_chinese(vocabulary):
    ids = np.array(vocabulary.encode("The statement returns, 霜月\tand"))
    words = map(vocabulary.decode, np.split(ids, np.flatnonzero(vocabulary.begins_word[ids])))
    assert [word.strip() for word in words if word.strip()] == ["The", "statement", "returns", ",", "霜", "月", "and"]


def test_bytes_of_a_word_belong_together(pieces):
    vocabulary = Vocabulary(pieces["bytes"])
    ids = np.array(vocabulary.encode("né it, 月"))
    words = [vocabulary.decode(part) for part in np.split(ids, np.flatnonzero(vocabulary.begins_word[ids]))]
    assert words == ["né", " it", ",", " ", "月"]


def test_names_that_the_file_has_are_no_extra_ones(pieces):
    with pytest.raises(UserError, match=r"^data\.vocabulary\.extra=.*the vocabulary has <\|endoftext\|> of its own\.$"):
        Vocabulary(pieces["byte_bpe"], ("<|endoftext|>",))


def test_a_size_that_is_not_the_tokenizers_is_a_sentence(pieces):
    settings = config.Vocabulary(kind="bpe", size=700, extra=("[A]",), sentinels=3)
    with pytest.raises(UserError, match=rf" has {LEARNED} pieces: set data\.vocabulary\.size={LEARNED}\.$"):
        make_vocabulary(pieces["bpe"], settings)
    fitting = make_vocabulary(pieces["bpe"], config.Vocabulary(kind="bpe", size=LEARNED, extra=("[A]",), sentinels=3))
    assert (fitting.size, len(fitting.sentinels)) == (LEARNED + 4, 3)


def test_the_saved_description_lists_what_is_not_learned(tmp_path, learned):
    learned.save(tmp_path)
    description = json.loads((tmp_path / "vocabulary.json").read_text())
    assert (description["extra"], description["sentinels"]) == (["[MASK]", "[CLS]"], 10)
