"""Tokenizer files that we write give the numbers of our vocabularies, in transformers and in its library alone."""

import io
import json
import lzma
import os
import pathlib
import pydoc_data.topics
import warnings

import pytest
import sentencepiece
import tokenizers

from t5like import config
from t5like.convert.sentencepiece_model import describe
from t5like.convert.texts import NASTY_TEXTS, SENTINELS
from t5like.convert.tokenizer import read_tokenizer
from t5like.convert.tokenizer_files import write_tokenizer
from t5like.data.vocabulary import Bytes, Frame, Vocabulary, open_vocabulary, train_pieces
from t5like.data.vocabulary.files import byte_level, wordpiece
from t5like.data.vocabulary.hugging_face import HuggingFace
from t5like.data.vocabulary.pieces import SentencePiece
from t5like.errors import UserError

GOLDEN = pathlib.Path(__file__).parent / "golden"
DATA = pathlib.Path(os.environ.get("T5LIKE_DATA", "/nonexistent"))
LINES = [line for name in ("class", "strings") for line in pydoc_data.topics.topics[name].split("\n")]
LINES += ["床前明月光，疑是地上霜。"] * 5
EXTRA = (config.MASK, config.CLS, config.SEP, "[R]", *config.FIM)
TEXTS = (
    *NASTY_TEXTS,
    *SENTINELS,
    "  two  spaces\n\n\n end ",
    "   ",
    "\ta \tb\n \n c  \u3000d\u00a0 e ▁ f▁ g ▁",
    "▁▁ x",
    "\n" * 300,
    "class definition " * 1200,
    "月，明" * 6700,
    "<0x41> [M] עברית e\u0301",
    "  <extra_id_0>  <extra_id_1>   ",
    "a \n <extra_id_0> \n b\t<extra_id_1>\tc<extra_id_2><extra_id_0><extra_id_99> ▁x",
    "[MASK] a [MASK][CLS]  b [R]\n[R]",
    "<|fim_prefix|>  def f\n <|fim_suffix|> <|fim_middle|>\n  [R] <|fim_prefix|>",
    "＜extra_id_0＞",
    "<extra_id_0>" * 500,
)
SIZES = dict(embed=8, heads=2, kv=4, mlp=8, vocab=1000)
MODELS = {
    "t5": config.Model(encoder_layers=1, decoder_layers=1, **SIZES),
    "bert": config.Model(encoder_layers=1, positions="learned", max_positions=512, token_types=2, **SIZES),
    "gpt2": config.Model(decoder_layers=1, positions="learned", max_positions=1024, **SIZES),
    "llama": config.Model(decoder_layers=1, positions="rotary", **SIZES),
}
T5 = dict(model_type="unigram", vocab_size=250, pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
AS_IT_IS = dict(normalization_rule_name="identity", remove_extra_whitespaces=False, byte_fallback=True)


def trained(**options):
    """A serialized SentencePiece model."""
    model, options = io.BytesIO(), {"vocab_size": 400, "minloglevel": 2} | options
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_writer=model, **options)
    return model.getvalue()


def own_sentinels(count):
    return [f"▁<extra_id_{number}>" for number in range(count - 1, -1, -1)]


def learned(kind):
    return train_pieces(config.Vocabulary(kind=kind, size=500), LINES)


def berts(lowercase):
    vocab = json.loads(learned("wordpiece").serialized)["model"]["vocab"]
    return HuggingFace(wordpiece(vocab, lowercase).to_str().encode())


def gpt2s():
    model = json.loads(learned("byte_bpe").serialized)["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    return HuggingFace(
        byte_level(model["vocab"] | {"<|endoftext|>": 507}, merges).to_str().encode()
    )  # rows are missing


MADE = {
    "unigram": lambda: Vocabulary(learned("unigram"), EXTRA, 100),
    "bpe": lambda: Vocabulary(learned("bpe"), EXTRA, 100),
    "byte_bpe": lambda: Vocabulary(learned("byte_bpe"), EXTRA, 100),
    "wordpiece": lambda: Vocabulary(learned("wordpiece"), EXTRA[3:], 10),
    "bytes": lambda: Vocabulary(Bytes(), EXTRA, 11),
    "t5": lambda: Vocabulary(SentencePiece(trained(**T5)), (), 100),
    "t5 with more": lambda: Vocabulary(SentencePiece(trained(**T5)), EXTRA, 7),
    "mt5": lambda: Vocabulary(
        SentencePiece(trained(**T5 | dict(vocab_size=350, user_defined_symbols=own_sentinels(100)))), ("[R]",)
    ),
    "bert uncased": lambda: Vocabulary(berts(True), ("[R]",), 3),
    "bert cased": lambda: Vocabulary(berts(False)),
    "gpt2": lambda: Vocabulary(gpt2s(), EXTRA, 2),
    "llama": lambda: Vocabulary(SentencePiece(trained(model_type="bpe", split_digits=True, **AS_IT_IS)), EXTRA, 3),
    "user-defined": lambda: Vocabulary(
        SentencePiece(trained(model_type="bpe", user_defined_symbols=["\n\n", "▁▁", "def"], **AS_IT_IS)), ("[R]",), 3
    ),
    "no space before": lambda: Vocabulary(
        SentencePiece(trained(**T5 | AS_IT_IS | dict(vocab_size=450, add_dummy_prefix=False))), (), 9
    ),
    "tokenizer.json": lambda: read_tokenizer(GOLDEN / "marian", {"model_type": "marian"}),
}


@pytest.fixture(scope="module")
def vocabularies():
    return {kind: make() for kind, make in MADE.items()}


@pytest.fixture(params=MADE)
def vocabulary(request, vocabularies):
    return vocabularies[request.param]


def differing(vocabulary, encode, texts):
    """Each text that gets other numbers than the vocabulary gives it: its pieces here and its numbers there."""
    pairs = ((text, vocabulary.encode(text), encode(text)) for text in texts)
    return [
        (text[:80], [vocabulary.name(n) for n in ours[:20]], theirs[:20])
        for text, ours, theirs in pairs
        if ours != theirs
    ]


def plain(folder):
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def loaded(folder, kind):
    """The tokenizer that transformers makes of a folder."""
    transformers = pytest.importorskip("transformers", reason="loads the files as users do")
    pytest.importorskip("torch", reason="transformers' configs need it")
    (folder / "config.json").write_text(json.dumps({"model_type": kind, "vocab_size": 60_000}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return transformers.AutoTokenizer.from_pretrained(folder)


def test_tokenizer_json_gives_the_numbers_of_the_vocabulary(tmp_path, vocabulary):
    write_tokenizer(vocabulary, MODELS["t5"], Frame(behind=(vocabulary.eos,)), tmp_path)
    assert differing(vocabulary, plain(tmp_path), TEXTS) == []


def test_what_was_written_is_read_as_the_same_vocabulary(tmp_path, vocabulary):
    write_tokenizer(vocabulary, MODELS["t5"], Frame(behind=(vocabulary.eos,)), tmp_path)
    back = read_tokenizer(tmp_path, {"model_type": "t5", "vocab_size": vocabulary.size})
    assert (back.size, back.special, back.pieces.control) == (
        vocabulary.size,
        vocabulary.special,
        vocabulary.pieces.control,
    )
    assert back.sentinels.tolist() == vocabulary.sentinels.tolist() and type(back.pieces) is type(vocabulary.pieces)
    assert differing(vocabulary, back.encode, TEXTS) == []


def frames(vocabulary):
    """Frames of each kind: nothing, EOS, the start, or both sides, which need not be what the family has."""
    eos, start = vocabulary.eos, vocabulary.start
    return {"t5": Frame((), (eos,)), "gpt2": Frame(), "llama": Frame((start,)), "bert": Frame((start,), (eos,))}


@pytest.mark.originals
@pytest.mark.parametrize("kind", MODELS)
def test_transformers_gives_the_same_numbers_and_frames_texts_as_it_is_told(tmp_path, vocabulary, kind):
    frame = frames(vocabulary)[kind]
    write_tokenizer(vocabulary, MODELS[kind], frame, tmp_path)
    tokenizer = loaded(tmp_path, kind)
    assert differing(vocabulary, lambda text: tokenizer(text, add_special_tokens=False)["input_ids"], TEXTS) == []
    framed = tokenizer("The class", return_token_type_ids=kind == "bert")
    assert framed["input_ids"] == frame.around(vocabulary.encode("The class"))
    assert tokenizer.eos_token_id == vocabulary.eos and tokenizer.pad_token_id == vocabulary.pieces.control.pad
    assert len(tokenizer) <= vocabulary.size and set(vocabulary.special.values()) <= set(tokenizer.all_special_ids)
    assert ("token_type_ids" in tokenizer("a")) == (kind == "bert")


@pytest.mark.parametrize("kind", MODELS)
def test_a_frame_that_was_written_is_read(tmp_path, vocabulary, kind):
    frame = frames(vocabulary)[kind]
    write_tokenizer(vocabulary, MODELS[kind], frame, tmp_path)
    back = read_tokenizer(tmp_path, {"model_type": kind})
    assert back.frame == frame
    back.save(tmp_path / "saved")
    assert open_vocabulary(tmp_path / "saved").frame == frame


def test_decoding_gives_the_text_back(tmp_path, vocabulary):
    write_tokenizer(vocabulary, MODELS["t5"], Frame(behind=(vocabulary.eos,)), tmp_path)
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = "The class definition , with names"
    back = tokenizer.decode(vocabulary.encode(text))
    assert back.lower() == vocabulary.decode(vocabulary.encode(text)).lower()
    for name, number in vocabulary.special.items():
        assert tokenizer.decode([number], skip_special_tokens=False) == name
        assert tokenizer.decode([number]) == ""


@pytest.mark.parametrize("kind", ["unigram", "bpe", "byte_bpe", "wordpiece", "bytes", "t5", "mt5", "llama"])
def test_real_english_and_chinese_have_the_same_numbers(tmp_path, vocabularies, kind):
    texts = []
    for name in ("tinyshakespeare/input.txt.xz", "pretrain_zh_poetry/tang_shi.jsonl.xz"):
        if not (DATA / name).is_file():
            pytest.skip(f"T5LIKE_DATA names no folder with {name}")
        with lzma.open(DATA / name, "rt", encoding="utf-8") as lines:
            texts += [line for _, line in zip(range(400), lines, strict=False)]
    write_tokenizer(vocabularies[kind], MODELS["t5"], Frame(), tmp_path)
    assert differing(vocabularies[kind], plain(tmp_path), texts) == []


@pytest.mark.parametrize(("kind", "algorithm"), [("unigram", "unigram"), ("mt5", "unigram"), ("llama", "bpe")])
def test_a_model_is_described_as_its_library_does(vocabularies, kind, algorithm):
    pieces = vocabularies[kind].pieces
    told, model = describe(pieces.serialized), sentencepiece.SentencePieceProcessor(model_proto=pieces.serialized)
    numbers = list(range(pieces.size))
    assert told.algorithm == algorithm and told.scores == model.get_score(numbers)
    assert [kind == "control" for kind in told.kinds] == model.is_control(numbers)
    assert [kind == "byte" for kind in told.kinds] == model.is_byte(numbers)
    assert [kind == "unknown" for kind in told.kinds] == model.is_unknown(numbers)
    assert (told.charsmap != b"", told.removes_spaces) == ((kind == "mt5"),) * 2 and told.adds_space


def test_models_of_words_cannot_be_written(tmp_path):
    vocabulary = Vocabulary(SentencePiece(trained(model_type="word", vocab_size=50)))
    with pytest.raises(UserError, match=r"^A tokenizer\.json cannot hold this SentencePiece model.*unigram or bpe\.$"):
        write_tokenizer(vocabulary, MODELS["t5"], Frame(behind=(vocabulary.eos,)), tmp_path)
