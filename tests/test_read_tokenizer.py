"""Tokenizers of Hugging Face folders are read with the originals' numbers and the pieces that the configs name."""

import io
import json
import pathlib
import pydoc_data.topics

import pytest
import sentencepiece

from t5like.convert.fast_tokenizer import fast_tokenizer
from t5like.convert.tokenizer import read_tokenizer
from t5like.data.vocabulary import Bytes, Frame, Vocabulary, open_vocabulary
from t5like.data.vocabulary.hugging_face import byte_of_character
from t5like.data.vocabulary.pieces import Control, SentencePiece
from t5like.errors import UserError

GOLDEN = pathlib.Path(__file__).parent / "golden"
LINES = pydoc_data.topics.topics["class"].split("\n")
PIECES = 200
SENTINELS = [f"<extra_id_{number}>" for number in range(7)]
BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "Cat", "é", "e", "明月", "明", "月"]


@pytest.fixture(scope="module")
def model():
    """A serialized SentencePiece model as T5's."""
    numbers, written = dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1), io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=written, vocab_size=PIECES, minloglevel=2, **numbers
    )
    return written.getvalue()


@pytest.fixture
def folder(tmp_path, model):
    (tmp_path / "spiece.model").write_bytes(model)
    return tmp_path


def put(folder, name, **content):
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize("folder", sorted(file.parent for file in GOLDEN.glob("*/tokens.json")), ids=lambda f: f.name)
def test_published_folders_are_read_with_the_numbers_of_the_originals(folder):
    vocabulary = read_tokenizer(folder, json.loads((folder / "config.json").read_text()))
    kept = json.loads((folder / "tokens.json").read_text())
    own = kept.get("sentencepiece_ids", kept["ids"])
    for text, ids, raw in zip(kept["texts"], kept["ids"], own, strict=True):
        if "</s>" in text:
            continue  # text to us, a control piece to transformers
        if "extra_id" not in text:  # what transformers has in other numbers than SentencePiece is SentencePiece's
            assert vocabulary.encode(text) == raw, text
        elif folder.name not in (
            "byt5",
            "mt5",
        ):  # transformers gives ByT5 other sentinels, and splits glued ones of mT5
            assert vocabulary.encode(text) == ids, text


def test_sentinels_among_added_pieces_have_the_numbers_that_the_folder_gives_them(folder):
    numbers = {name: PIECES + 6 - number for number, name in enumerate(SENTINELS)}
    put(folder, "added_tokens.json", **numbers)
    older = read_tokenizer(folder, {"model_type": "umt5", "vocab_size": 220})
    (folder / "added_tokens.json").unlink()
    decoder = {str(number): {"content": name} for name, number in numbers.items()}
    put(folder, "tokenizer_config.json", added_tokens_decoder=decoder)
    newer = read_tokenizer(folder, {"model_type": "umt5", "vocab_size": 220})
    assert older.special == newer.special == numbers and older.size == newer.size == PIECES + 7


def test_only_a_t5_has_sentinels_that_nothing_names(folder):
    counts = [len(read_tokenizer(folder, {"model_type": kind}).sentinels) for kind in ("t5", "mt5", "umt5", "llama")]
    assert counts == [100, 0, 0, 0]


def test_added_pieces_before_sentinels_are_named_ones(folder):
    added = {"[A]": PIECES, "[B]": PIECES + 1, "<extra_id_1>": PIECES + 2, "<extra_id_0>": PIECES + 3}
    put(folder, "added_tokens.json", **added)
    vocabulary = read_tokenizer(folder, {"model_type": "t5"})
    assert vocabulary.special == added and vocabulary.size == PIECES + 4


def test_pieces_that_were_added_behind_sentinels_are_text_at_their_numbers(folder, model):
    put(folder, "added_tokens.json", **{"[A]": PIECES + 100, "{": PIECES + 101})
    put(folder, "tokenizer_config.json", additional_special_tokens=[f"<extra_id_{n}>" for n in range(100)] + ["[A]"])
    vocabulary = read_tokenizer(folder, {"model_type": "t5", "eos_token_id": 1})
    assert vocabulary.size == PIECES + 102 and vocabulary.frame == Frame((), (1,))
    assert vocabulary.sentinels.tolist() == [*range(PIECES + 99, PIECES - 1, -1)]
    plain = SentencePiece(model).encode
    assert vocabulary.encode("a class") == plain("a class")
    assert vocabulary.encode("a{class") == [*plain("a"), PIECES + 101, *plain("class")]
    assert vocabulary.encode("a <extra_id_0> class") == [*plain("a"), PIECES + 99, *plain("class")]
    assert PIECES + 101 in vocabulary.encode_document("a{class [A]")  # it is text; what is special is found in prompts
    assert PIECES + 100 not in vocabulary.encode_document("a{class [A]")
    assert vocabulary.encode("[A]") == [PIECES + 100]


def test_added_pieces_among_sentinels_are_read_from_a_tokenizer_json_too(folder, model):
    put(folder, "added_tokens.json", **{"<extra_id_0>": PIECES, "[A]": PIECES + 1})
    tokenizer = fast_tokenizer(Vocabulary(SentencePiece(model)))
    tokenizer.add_special_tokens(["<extra_id_0>", "[A]"])
    tokenizer.save(str(folder / "tokenizer.json"))
    vocabulary = read_tokenizer(folder, {"model_type": "t5", "eos_token_id": 1})
    assert vocabulary.sentinels.tolist() == [PIECES] and vocabulary.special["[A]"] == PIECES + 1
    assert vocabulary.encode("a class") == SentencePiece(model).encode("a class")


def test_pieces_added_to_a_model_that_t5_s_class_cannot_hold_are_a_sentence(tmp_path):
    written = io.BytesIO()
    options = dict(model_type="bpe", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, vocab_size=PIECES, minloglevel=2)
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_writer=written, **options)
    (tmp_path / "spiece.model").write_bytes(written.getvalue())
    put(tmp_path, "added_tokens.json", **{"<extra_id_0>": PIECES, "[A]": PIECES + 1})
    with pytest.raises(
        UserError, match=r"the added piece '<extra_id_0>' at 200: .*; save it with its tokenizer\.json\.$"
    ):
        read_tokenizer(tmp_path, {"model_type": "t5"})


def test_a_saved_vocabulary_keeps_the_pieces_that_the_configs_name(folder):
    put(folder, "generation_config.json", decoder_start_token_id=3, eos_token_id=[7, 5], pad_token_id=8)
    vocabulary = read_tokenizer(
        folder, {"model_type": "t5", "pad_token_id": 4, "eos_token_id": None, "bos_token_id": 9}
    )
    assert vocabulary.pieces.control == Control(pad=4, eos=7, unk=2, start=3)
    assert vocabulary.encode_document("class")[-1] == 7 and len(vocabulary.sentinels) == 100
    vocabulary.save(folder / "saved")
    opened = open_vocabulary(folder / "saved")
    assert (opened.pieces.control, opened.hash) == (vocabulary.pieces.control, vocabulary.hash)
    assert opened.encode_document("a class") == vocabulary.encode_document("a class")
    assert vocabulary.hash != Vocabulary(SentencePiece(vocabulary.pieces.serialized)).hash


def test_of_several_ends_of_a_text_the_tokenizers_own_stays(folder):
    assert read_tokenizer(folder, {"model_type": "llama", "eos_token_id": [7, 1]}).eos == 1
    put(folder, "generation_config.json", eos_token_id=[1, 7])
    assert read_tokenizer(folder, {"model_type": "llama", "eos_token_id": 7}).eos == 7


def test_a_bert_keeps_its_own_frame(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(BERT))
    vocabulary = read_tokenizer(tmp_path, {"model_type": "bert", "eos_token_id": 9, "bos_token_id": 9})
    assert vocabulary.pieces.control == Control(pad=0, eos=3, unk=1, start=2)


def test_a_byt5_has_bytes_and_eleven_sentinels_without_a_file(tmp_path):
    put(tmp_path, "tokenizer_config.json", tokenizer_class="ByT5Tokenizer", extra_ids=125)
    vocabulary = read_tokenizer(tmp_path, {"model_type": "t5", "vocab_size": 384, "eos_token_id": 1})
    assert isinstance(vocabulary.pieces, Bytes) and vocabulary.sentinels.tolist() == list(range(258, 247, -1))
    with pytest.raises(UserError, match=r"names \{'eos': 2\} for its control pieces, but those of bytes are"):
        read_tokenizer(tmp_path, {"model_type": "t5", "eos_token_id": 2})


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["the", "cat", "e", "明", "月"]),  # as BertTokenizer, uncased
        ({"do_lower_case": False}, ["[UNK]", "Cat", "é", "明", "月"]),
        ({"strip_accents": False}, ["the", "cat", "é", "明", "月"]),
        ({"tokenize_chinese_chars": False}, ["the", "cat", "e", "明月"]),
    ],
)
def test_a_bert_normalises_as_its_config_says(tmp_path, settings, names):
    (tmp_path / "vocab.txt").write_text("\n".join(BERT))
    put(tmp_path, "tokenizer_config.json", tokenizer_class="BertTokenizer", **settings)
    vocabulary = read_tokenizer(tmp_path, {"model_type": "bert"})
    assert [vocabulary.name(number) for number in vocabulary.encode("The Cat é 明月")] == names


def test_a_gpt2_puts_a_space_before_a_text_where_its_config_says(tmp_path):
    vocab = {name: number for number, name in enumerate([*byte_of_character(), "<|endoftext|>"])}
    put(tmp_path, "vocab.json", **vocab)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    put(tmp_path, "tokenizer_config.json", add_prefix_space=True)
    vocabulary = read_tokenizer(tmp_path, {"model_type": "gpt2", "eos_token_id": 256})
    assert [vocabulary.name(number) for number in vocabulary.encode("ab")] == ["Ġ", "a", "b"]


def test_a_model_with_fewer_rows_than_pieces_is_a_sentence(folder):
    assert read_tokenizer(folder, {"model_type": "t5", "vocab_size": 300}).size == 300
    with pytest.raises(UserError, match=r"has 300 pieces, but its config\.json says vocab_size 299: they belong"):
        read_tokenizer(folder, {"model_type": "t5", "vocab_size": 299})


def test_a_special_id_beyond_the_pieces_is_a_sentence(folder):
    with pytest.raises(UserError, match=r"names the number 300 for eos, but its tokenizer has 300 pieces: mend "):
        read_tokenizer(folder, {"model_type": "t5", "eos_token_id": 300})


def test_a_folder_without_a_tokenizer_is_a_sentence(tmp_path):
    put(tmp_path, "tokenizer_config.json", tokenizer_class="T5Tokenizer")
    with pytest.raises(
        UserError, match=r"holds no tokenizer: spiece\.model, .*vocab\.json \(with merges\.txt\) are what"
    ):
        read_tokenizer(tmp_path, {"model_type": "t5"})


@pytest.mark.parametrize("name", ["tokenizer_config.json", "added_tokens.json", "generation_config.json"])
@pytest.mark.parametrize(("content", "message"), [("{", "is not valid JSON"), ("[]", "must hold a JSON object")])
def test_a_damaged_config_is_a_sentence(folder, name, content, message):
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=rf"{name} {message}"):
        read_tokenizer(folder, {"model_type": "t5"})
