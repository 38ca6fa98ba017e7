"""Published tokenizers load from their files with the control pieces that they name, and encode as the originals."""

import json
import pydoc_data.topics

import numpy as np
import pytest
import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from t5like import config
from t5like.data.vocabulary import Vocabulary, make_vocabulary, open_vocabulary, train_pieces
from t5like.data.vocabulary.files import byte_level, load_pieces
from t5like.data.vocabulary.hugging_face import HuggingFace, byte_of_character
from t5like.data.vocabulary.pieces import Control
from t5like.errors import UserError

LINES = pydoc_data.topics.topics["class"].split("\n") + ["床前明月光，疑是地上霜。"] * 5
LONG = "\n".join(
    [
        *LINES,
        "  two  spaces\n\n\n end ",
        "\ta \tb\n \n c  \u3000d\u00a0 e ▁ f▁ g",
        "x" * 3000,
        "明" * 3000,
        "月，明" * 999,
        "",
    ]
    * 3
)
BERT = [
    "[PAD]",
    "[unused0]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "cat",
    "##s",
    "sat",
    ".",
    "明",
    "月",
    "é",
    "e",
]


def sentencepiece_model(path, **options):
    defaults = {"vocab_size": 360, "model_type": "bpe", "byte_fallback": True, "minloglevel": 2}
    prefix = str(path.with_suffix(""))
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_prefix=prefix, **(defaults | options))
    return path


def pieces_of(kind, size=500, **options):
    return train_pieces(config.Vocabulary(kind=kind, size=size, **options), LINES)


def gpt2_folder(folder, special=("<|endoftext|>",)):
    """vocab.json and merges.txt as GPT-2 is published."""
    model = json.loads(pieces_of("byte_bpe").serialized)["model"]
    vocab = model["vocab"] | {name: len(model["vocab"]) + n for n, name in enumerate(special)}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    merges = [" ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return folder


def bert_file(folder, names=BERT):
    (folder / "vocab.txt").write_text("\n".join([*names, ""]), encoding="utf-8")
    return folder / "vocab.txt"


def t5_tokenizer(path, sentinels=range(9, -1, -1)):
    """A tokenizer.json as T5's: a unigram model, metaspace, and sentinels after the learned pieces."""
    learned = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁the", -3.0), ("▁cat", -4.0), ("s", -5.0)]
    tokenizer = tokenizers.Tokenizer(models.Unigram(learned, unk_id=2))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>", *(f"<extra_id_{n}>" for n in sentinels)])
    tokenizer.enable_truncation(4)
    tokenizer.save(str(path))
    return path


def test_a_model_as_llamas_keeps_its_control_pieces(tmp_path):
    pieces = load_pieces(sentencepiece_model(tmp_path / "tokenizer.model"))
    assert pieces.control == Control(pad=None, eos=2, unk=0, start=1)
    vocabulary = Vocabulary(pieces, ("[MASK]",), 2)
    assert (vocabulary.pad, vocabulary.eos, vocabulary.unk, vocabulary.start) == (0, 2, 0, 1)
    assert vocabulary.is_special[:3].all() and not vocabulary.is_special[3:-3].any()
    assert vocabulary.decode(vocabulary.encode_document("A class 明月")) == "A class 明月"
    padded = load_pieces(sentencepiece_model(tmp_path / "padded.model", pad_id=3))
    assert padded.control == Control(pad=3, eos=2, unk=0, start=1)


def test_a_model_as_t5s_normalises_as_it_says(tmp_path):
    model = sentencepiece_model(tmp_path / "spiece.model", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    vocabulary, bare = Vocabulary(load_pieces(model)), sentencepiece.SentencePieceProcessor(model_file=str(model))
    assert vocabulary.encode_document(LONG) == [*bare.encode(LONG), 1]
    assert vocabulary.decode(vocabulary.encode("Ａ  b\nc")) == "A b c"


def test_sentinels_within_a_model_as_mt5s_are_used_and_are_no_text(tmp_path):
    names = [f"▁<extra_id_{n}>" for n in (2, 1, 0)]
    options = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "user_defined_symbols": names}
    pieces = load_pieces(sentencepiece_model(tmp_path / "a.model", **options))
    assert pieces.serialized == (tmp_path / "a.model").read_bytes()
    vocabulary = make_vocabulary(pieces, config.Vocabulary(kind="file", path="a", size=357, sentinels=3))
    assert vocabulary.sentinels.tolist() == [5, 4, 3] and vocabulary.size == 360
    assert 4 in vocabulary.encode("A <extra_id_1> b")
    ids = vocabulary.encode_document("A <extra_id_1> b")
    assert not {3, 4, 5} & set(ids) and vocabulary.decode(ids) == "A <extra_id_1> b"


@pytest.mark.parametrize("kind", ["bpe", "byte_bpe", "wordpiece"])
@pytest.mark.parametrize("part", [1, 7, 1000])
def test_long_texts_that_are_cut_have_the_pieces_of_the_whole(kind, part, monkeypatch):
    monkeypatch.setattr("t5like.data.vocabulary.pieces.PART", part)
    learned = pieces_of(kind)
    if learned.file == "spiece.model":
        whole = sentencepiece.SentencePieceProcessor(model_proto=learned.serialized).encode(LONG)
    else:
        whole = tokenizers.Tokenizer.from_str(learned.serialized.decode()).encode(LONG, add_special_tokens=False).ids
    assert len(LONG) > 20_000
    assert learned.encode(LONG) == whole


def test_gpt2s_files_give_its_pieces(tmp_path):
    vocabulary = Vocabulary(load_pieces(gpt2_folder(tmp_path)))
    assert vocabulary.eos == vocabulary.start == vocabulary.unk == vocabulary.size - 1 and vocabulary.pad == 0
    assert not vocabulary.is_special[0]
    text = "  A class\n\tof 床前明月光 😀 <|endoftext|> \r\n"
    trained = Vocabulary(pieces_of("byte_bpe"))
    assert vocabulary.encode_document(text) == trained.encode_document(text)
    assert vocabulary.decode(vocabulary.encode_document(text)) == text
    assert vocabulary.encode("a<|endoftext|>")[-1] == vocabulary.eos
    assert (tmp_path / "merges.txt").exists() and load_pieces(tmp_path / "merges.txt").size == vocabulary.size


def test_robertas_files_give_its_control_pieces(tmp_path):
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    vocabulary = Vocabulary(load_pieces(gpt2_folder(tmp_path, special) / "vocab.json"))
    names = [vocabulary.name(n) for n in (vocabulary.pad, vocabulary.eos, vocabulary.unk, vocabulary.start)]
    assert names == ["<pad>", "</s>", "<unk>", "<s>"] and "<mask>" in vocabulary.special


def test_berts_file_gives_its_pieces(tmp_path):
    vocabulary = Vocabulary(load_pieces(bert_file(tmp_path)))
    assert (vocabulary.pad, vocabulary.unk, vocabulary.start, vocabulary.eos) == (0, 2, 3, 4)
    names = [vocabulary.name(number) for number in vocabulary.encode("[CLS] the cats sat明月. é The [MASK]")]
    assert names == ["[CLS]", "the", "cat", "##s", "sat", "明", "月", ".", "é", "[UNK]", "[MASK]"]
    assert vocabulary.is_special.tolist() == [True] * 6 + [False] * 9
    assert vocabulary.begins_word[vocabulary.encode("cats")].tolist() == [True, False]
    assert vocabulary.bytes_of[vocabulary.encode("cats 明")].tolist() == [3, 1, 3]
    assert vocabulary.decode([3, *vocabulary.encode_document("the cats"), 0, 0]) == "[CLS] the cats"


def test_a_piece_that_ends_a_character_begins_no_word():
    last = next(character for character, byte in byte_of_character().items() if byte == "月".encode()[-1])
    names = {name: number for number, name in enumerate([*byte_of_character(), f"{last},"])}
    vocabulary = Vocabulary(HuggingFace(byte_level(names, [(last, ",")]).to_str().encode()))
    assert vocabulary.pieces.spelt(256) == "月,".encode()[2:]
    assert not vocabulary.begins_word[256] and vocabulary.begins_word[names[","]]


@pytest.mark.parametrize("beside", [False, True])
def test_lower_case_is_asked_for_or_read_beside_berts_file(tmp_path, beside):
    if beside:
        (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    pieces = load_pieces(bert_file(tmp_path), lowercase=not beside)
    assert [pieces.name(number) for number in pieces.encode("The É")] == ["the", "e"]


def test_t5s_tokenizer_json_uses_the_sentinels_that_it_holds(tmp_path):
    pieces = load_pieces(t5_tokenizer(tmp_path / "tokenizer.json"))
    settings = config.Vocabulary(kind="file", path="t5", size=7, sentinels=10, extra=("[A]",))
    vocabulary = make_vocabulary(pieces, settings)
    assert vocabulary.sentinels.tolist() == list(range(16, 6, -1)) and vocabulary.special["[A]"] == 17
    assert (vocabulary.pad, vocabulary.eos, vocabulary.unk, vocabulary.start) == (0, 1, 2, 0)
    text = "the cats the cats the"  # longer than the truncation that the file asks for
    assert vocabulary.encode(text) == [4, 5, 6, 4, 5, 6, 4]
    assert vocabulary.decode(vocabulary.encode(text)) == text
    with pytest.raises(UserError, match=r"sentinels=5, but the vocabulary has 10 of its own"):
        make_vocabulary(pieces, config.Vocabulary(kind="file", path="t5", size=7, sentinels=5))
    with pytest.raises(UserError, match=r"set data\.vocabulary\.sentinels=10\.$"):
        make_vocabulary(pieces, config.Vocabulary(kind="file", path="t5", size=7, sentinels=0))
    with pytest.raises(UserError, match=r"^t5 has 7 pieces: set data\.vocabulary\.size=7\.$"):
        make_vocabulary(pieces, config.Vocabulary(kind="file", path="t5", size=17, sentinels=10))


def test_missing_sentinels_between_others_are_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"sentinels up to <extra_id_2>, but some below it are missing"):
        Vocabulary(load_pieces(t5_tokenizer(tmp_path / "tokenizer.json", [2, 0])))


def test_the_end_of_a_text_is_the_piece_that_the_config_beside_names(tmp_path):
    t5_tokenizer(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": {"content": "<extra_id_9>"}, "bos_token": "</s>"}')
    pieces = load_pieces(tmp_path)
    assert pieces.control == Control(pad=0, eos=7, unk=2, start=1)
    Vocabulary(pieces).save(tmp_path / "saved")
    opened = open_vocabulary(tmp_path / "saved")
    assert opened.pieces.control == pieces.control == load_pieces(tmp_path / "saved").control


@pytest.mark.parametrize("kind", ["bpe", "byte_bpe", "wordpiece"])
def test_a_saved_folder_loads_as_a_file(tmp_path, kind):
    vocabulary = Vocabulary(pieces_of(kind), ("[A]",), 3)
    vocabulary.save(tmp_path)
    assert load_pieces(tmp_path).serialized == vocabulary.pieces.serialized
    assert open_vocabulary(tmp_path).special == vocabulary.special


def test_wordpiece_keeps_words_and_chinese_characters_but_not_spaces():
    vocabulary = Vocabulary(pieces_of("wordpiece", coverage=1.0))
    text = "A  class   definition\n床前明月光，疑是地上霜。"
    back = vocabulary.decode(vocabulary.encode_document(text))
    assert back != text and "".join(back.split()) == "".join(text.split())


def broken(folder, name, content):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("spiece.model", b"", r"spiece\.model is not a SentencePiece model\.$"),
        ("spiece.model", b"{}" * 500, r"spiece\.model is not a SentencePiece model\.$"),
        ("tokenizer.json", "{}", r"tokenizer\.json is not a tokenizer\.json of Hugging Face's tokenizers: "),
        ("tokenizer.json", b"\xff", r"tokenizer\.json is not a tokenizer\.json of Hugging Face's tokenizers: "),
        ("vocab.txt", b"\xff\xfe", r"vocab\.txt is not valid UTF-8 at byte 0\.$"),
        ("vocab.txt", "the\n[UNK]\n", r"\[CLS\] \[SEP\] must be lines of it\.$"),
        ("vocab.txt", "[UNK]\n[CLS]\n[SEP]\na\nb\na\n", r"has the piece 'a' twice"),
        ("vocab.json", "{}", r" needs both vocab\.json and merges\.txt\.$"),
        ("notes.md", "", r"notes\.md is none of the files that a vocabulary can come from"),
    ],
)
def test_a_broken_file_is_a_sentence(tmp_path, name, content, message):
    with pytest.raises(UserError, match=message):
        load_pieces(broken(tmp_path, name, content))


@pytest.mark.parametrize(
    ("vocab", "merges", "message"),
    [
        ("{", "", r"vocab\.json is not valid JSON"),
        ("[]", "", r"vocab\.json must hold a JSON object\.$"),
        ('{"a": 0}', "", r"are no byte-level BPE as GPT-2 has it: pieces of single bytes are missing\.$"),
        (None, "zq qz\n", r"do not belong together"),
    ],
)
def test_broken_files_of_gpt2_are_a_sentence(tmp_path, vocab, merges, message):
    gpt2_folder(tmp_path)
    if vocab is not None:
        broken(tmp_path, "vocab.json", vocab)
    broken(tmp_path, "merges.txt", merges)
    with pytest.raises(UserError, match=message):
        load_pieces(tmp_path)


def test_missing_files_are_sentences(tmp_path):
    with pytest.raises(UserError, match=r"^There is no file or folder .*none\.model to take a vocabulary from\.$"):
        load_pieces(tmp_path / "none.model")
    with pytest.raises(UserError, match=r"holds no vocabulary: spiece\.model, tokenizer\.json, .* are what is looked"):
        load_pieces(tmp_path)


def test_a_tokenizer_without_an_end_of_text_is_a_sentence(tmp_path):
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match=r"no piece that ends a text, .*name its own as eos_token in tokenizer_config"):
        load_pieces(tmp_path / "tokenizer.json")
    with pytest.raises(UserError, match=r"no end-of-text piece \(eos_id\)"):
        load_pieces(sentencepiece_model(tmp_path / "a.model", eos_id=-1))


def test_rows_that_a_tokenizer_leaves_out_are_special(tmp_path):
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1, "</s>": 2, "b": 5}, unk_token="[UNK]"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    vocabulary = Vocabulary(load_pieces(tmp_path))
    assert vocabulary.size == 6 and np.flatnonzero(vocabulary.is_special).tolist() == [1, 2, 3, 4]
