"""Tokenizers whose folders leave something open, and texts for which the two libraries may differ.

`test_convert_tokenizer.py` compares numbers; here are the pieces that frame a text, sentinels, and ties.
"""

import io
import json
import pathlib
import pydoc_data.topics
import shutil
import time
from typing import Any

import pytest
import sentencepiece
import tokenizers
from settings import sentence

from t5like import config
from t5like.config import Model
from t5like.convert.exporting import special_ids
from t5like.convert.sentencepiece_model import describe
from t5like.convert.texts import NASTY_TEXTS
from t5like.convert.tokenizer import read_tokenizer
from t5like.convert.tokenizer_files import write_tokenizer
from t5like.data.vocabulary import Bytes, Frame, Vocabulary, train_pieces
from t5like.data.vocabulary.pieces import Control, SentencePiece

GOLDEN = pathlib.Path(__file__).parent / "golden"
LINES = [line for name in ("class", "strings") for line in pydoc_data.topics.topics[name].split("\n") if line.strip()]
LINES += ["00 0", "1,000 and 100"] * 50
SIZES: dict[str, Any] = dict(embed=8, heads=2, kv=4, mlp=16, vocab=1024)
MODELS = {
    "t5": Model(encoder_layers=1, decoder_layers=1, **SIZES),
    "bert": Model(encoder_layers=1, positions="learned", max_positions=64, token_types=2, **SIZES),
    "llama": Model(decoder_layers=1, positions="rotary", **SIZES),
}
T5_FRAME = Frame(behind=(1,))
OPTIONS = {
    "as T5": {},
    "bpe": dict(model_type="bpe"),
    "characters": dict(model_type="char", vocab_size=60),
    "words": dict(model_type="word", vocab_size=60),
    "bytes": dict(byte_fallback=True),
    "spaces kept": dict(remove_extra_whitespaces=False),
    "no space before": dict(add_dummy_prefix=False),
    "space behind": dict(treat_whitespace_as_suffix=True),
    "nothing normalised": dict(normalization_rule_name="identity"),
    "pieces of its own": dict(user_defined_symbols=["▁<extra_id_0>", "def"], control_symbols=["<c>"]),
}


def trained(**options: Any) -> bytes:
    """A serialized SentencePiece model with T5's numbers."""
    written = io.BytesIO()
    numbers = dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1, vocab_size=360, minloglevel=2)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=written, **{**numbers, **options}
    )
    return written.getvalue()


def learned(kind: Any, **options: Any) -> Vocabulary:
    extra = () if kind == "wordpiece" else (config.MASK,)
    return Vocabulary(train_pieces(config.Vocabulary(kind=kind, size=500, **options), LINES), extra, 10)


MADE = {
    "unigram": lambda: learned("unigram"),
    "bpe": lambda: learned("bpe"),
    "wordpiece": lambda: learned("wordpiece"),
    "wordpiece in lower case": lambda: learned("wordpiece", lowercase=True),
    "byte_bpe": lambda: learned("byte_bpe"),
    "bytes": lambda: Vocabulary(Bytes(), (config.MASK,), 11),
    "t5": lambda: Vocabulary(SentencePiece(trained()), (), 100),
}


@pytest.fixture(scope="module")
def vocabularies():
    return {kind: make() for kind, make in MADE.items()}


@pytest.fixture(params=MADE)
def kind(request):
    return request.param


def library(folder: pathlib.Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def plain(tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.fixture
def folder(tmp_path):
    """A copy of a golden folder, some files of it changed or, with None, missing; and what its config.json holds."""

    def copied(name: str, **files: dict[str, Any] | None) -> tuple[pathlib.Path, dict[str, Any]]:
        shutil.copytree(GOLDEN / name, tmp_path / name)
        for file, content in files.items():
            place = tmp_path / name / f"{file}.json"
            place.unlink(missing_ok=True)
            if content is not None:
                place.write_text(json.dumps(content))
        return tmp_path / name, json.loads((tmp_path / name / "config.json").read_text())

    return copied


@pytest.mark.parametrize(
    ("name", "size", "control", "first", "last"),
    [
        ("t5_1_1", 300, Control(0, 1, 2, 0), 299, 200),
        ("t5_1_0", 300, Control(0, 1, 2, 0), 299, 200),
        ("umt5", 300, Control(0, 1, 2, 0), 299, 200),
        ("mt5", 300, Control(0, 1, 2, 0), 299, 200),
        ("byt5", 259, Control(0, 1, 2, 0), 258, 248),
        ("bert_masked", 224, Control(0, 3, 1, 2), None, None),
        ("gpt2", 320, Control(None, 319, 319, 319), None, None),
        ("llama", 320, Control(None, 319, 319, 318), None, None),
        ("llama_linear", 400, Control(None, 2, 0, 1), None, None),
        ("marian", 320, Control(319, 0, 1, 319), None, None),
    ],
)
def test_pieces_that_frame_a_text_and_sentinels_are_those_of_the_original(name, size, control, first, last):
    folder = GOLDEN / name
    found = read_tokenizer(folder, json.loads((folder / "config.json").read_text()))
    assert (found.size, found.pieces.control) == (size, control)
    assert (found.eos, found.unk, found.start) == control[1:]
    sentinels = found.sentinels.tolist()
    assert (sentinels[:1], sentinels[-1:]) == (([], []) if first is None else ([first], [last]))


@pytest.mark.parametrize(
    ("kind", "settings", "sentinels"),
    [
        ("t5", {}, 100),
        ("t5", None, 100),
        ("t5", {"extra_ids": 7}, 7),
        ("t5", {"extra_ids": 0}, 0),
        ("t5", {"additional_special_tokens": ["<extra_id_1>", "<extra_id_0>", "<extra_id_2>"]}, 3),
        ("t5", {"extra_special_tokens": [f"<extra_id_{n}>" for n in range(5)]}, 5),
        ("mt5", {}, 0),
        ("umt5", {}, 0),
        ("umt5", {"additional_special_tokens": ["<extra_id_0>"]}, 1),
    ],
)
def test_a_t5_has_the_sentinels_that_its_folder_names_or_a_hundred(folder, kind, settings, sentinels):
    place, fields = folder("t5_1_1", tokenizer_config=settings)
    found = read_tokenizer(place, fields | {"model_type": kind})
    assert len(found.sentinels) == sentinels
    assert found.sentinels.tolist() == [*range(199 + sentinels, 199, -1)]


def test_the_pieces_that_frame_a_text_may_be_named_by_the_configs_alone(folder):
    place, fields = folder("llama", generation_config={"eos_token_id": [7, 8], "bos_token_id": 9})
    assert read_tokenizer(place, fields).pieces.control[1::2] == (319, 318)  # config.json comes first
    silent = {name: value for name, value in fields.items() if name not in ("eos_token_id", "bos_token_id")}
    assert read_tokenizer(place, silent).pieces.control[1::2] == (7, 9)
    several = {"eos_token_id": [7, 319]}  # ours end in what its tokenizer calls the end
    assert read_tokenizer(place, silent | several).pieces.control.eos == 319
    start = {"decoder_start_token_id": 11}
    assert read_tokenizer(place, fields | start).pieces.control.start == 11


def test_two_texts_have_the_start_once_and_an_end_each(tmp_path, vocabularies, kind):
    vocabulary = vocabularies[kind]
    a, b, eos, start = vocabulary.encode("The class"), vocabulary.encode("a name"), vocabulary.eos, vocabulary.start
    for number, (frame, ids) in enumerate(
        (
            (Frame((start,), (eos,)), [start, *a, eos, *b, eos]),
            (Frame((start,)), [start, *a, *b]),
            (Frame((), (eos,)), [*a, eos, *b, eos]),
        )
    ):
        (tmp_path / str(number)).mkdir()
        write_tokenizer(vocabulary, MODELS["bert"], frame, tmp_path / str(number))
        found = library(tmp_path / str(number)).encode("The class", "a name")
        assert found.ids == ids
        second = len(b) + 1 if all(frame) else 0
        assert found.type_ids == [0] * (len(ids) - second) + [1] * second


def test_config_json_names_the_pieces_that_frame_a_text(vocabularies):
    vocabulary = vocabularies["wordpiece"]
    pad, cls, sep = (vocabulary.special[name] for name in ("[PAD]", "[CLS]", "[SEP]"))
    assert special_ids(vocabulary, MODELS["bert"]) == {"pad_token_id": pad}
    start = {"pad_token_id": pad, "eos_token_id": sep, "decoder_start_token_id": cls}
    assert special_ids(vocabulary, MODELS["t5"]) == start
    end = vocabularies["byte_bpe"].eos
    assert special_ids(vocabularies["byte_bpe"], MODELS["llama"]) == {"eos_token_id": end, "bos_token_id": end}


def test_what_was_written_is_written_again_with_the_same_numbers(tmp_path, vocabularies, kind):
    vocabulary, again = vocabularies[kind], tmp_path / "again"
    again.mkdir()
    write_tokenizer(vocabulary, MODELS["t5"], T5_FRAME, tmp_path)
    read = read_tokenizer(tmp_path, {"model_type": "t5", "vocab_size": vocabulary.size})
    write_tokenizer(read, MODELS["t5"], T5_FRAME, again)
    assert library(again).get_vocab() == library(tmp_path).get_vocab()
    for text in (*NASTY_TEXTS, "The <extra_id_0> [MASK] class<extra_id_1> "):
        assert plain(library(again), text) == vocabulary.encode(text), text[:80]


def test_a_text_without_unknown_pieces_comes_back(tmp_path, vocabularies, kind):
    vocabulary = vocabularies[kind]
    write_tokenizer(vocabulary, MODELS["t5"], T5_FRAME, tmp_path)
    back, compared = library(tmp_path).decode, 0
    for text in (*NASTY_TEXTS, *LINES):
        if vocabulary.unk in (ids := vocabulary.encode(text)) and vocabulary.unk != vocabulary.eos:
            continue
        lossless = vocabulary.pieces.continuation == "" and kind != "t5"
        assert back(ids) == (text if lossless else vocabulary.decode(ids)), text[:80]
        compared += 1
    assert compared > len(LINES) // 2


@pytest.mark.parametrize("kind", ["unigram", "t5"])
def test_only_spellings_of_the_same_likelihood_differ(tmp_path, vocabularies, kind):
    vocabulary = vocabularies[kind]
    write_tokenizer(vocabulary, MODELS["t5"], T5_FRAME, tmp_path)
    tokenizer, scores = library(tmp_path), describe(vocabulary.pieces.serialized).scores
    texts = [f"{line} {'0' * number} {line}" for number, line in enumerate(LINES[:60])]
    differ = [text for text in texts if plain(tokenizer, text) != vocabulary.encode(text)]
    for text in differ:
        ours, theirs = vocabulary.encode(text), plain(tokenizer, text)
        assert sum(scores[n] for n in ours) == pytest.approx(sum(scores[n] for n in theirs), rel=1e-6)
        assert vocabulary.decode(ours) == vocabulary.decode(theirs)
    assert len(differ) < len(texts)


@pytest.mark.parametrize(
    "part", ["x", " ", "\n", "=", "中", "a ", "\u3000", "<extra_id_", " <extra_id_0> ", "a [MASK]"]
)
def test_a_long_text_costs_no_more_than_its_length(tmp_path, vocabularies, kind, part):
    vocabulary = vocabularies[kind]
    write_tokenizer(vocabulary, MODELS["t5"], T5_FRAME, tmp_path)
    tokenizer, text = library(tmp_path), part * (20_000 // len(part))
    started = time.monotonic()
    ids = plain(tokenizer, text)
    assert time.monotonic() - started < 3
    assert ids == vocabulary.encode(text) or kind in ("unigram", "t5")


@pytest.mark.parametrize("name", OPTIONS)
def test_a_model_is_described_as_it_was_trained(name):
    serialized, options = trained(**OPTIONS[name]), OPTIONS[name]
    told, model = describe(serialized), sentencepiece.SentencePieceProcessor(model_proto=serialized)
    numbers = list(range(model.get_piece_size()))
    assert told.scores == model.get_score(numbers)
    for ours, theirs in {"control": "control", "byte": "byte", "unknown": "unknown", "unused": "unused"}.items():
        assert [kind == ours for kind in told.kinds] == getattr(model, f"is_{theirs}")(numbers), ours
    users = options.get("user_defined_symbols", [])
    assert [model.id_to_piece(n) for n in numbers if told.kinds[n] == "user"] == users
    assert told.algorithm == options.get("model_type", "unigram")
    assert told.byte_fallback == options.get("byte_fallback", False)
    assert told.adds_space == options.get("add_dummy_prefix", True)
    assert told.removes_spaces == options.get("remove_extra_whitespaces", True)
    assert told.space_after == options.get("treat_whitespace_as_suffix", False)
    assert bool(told.charsmap) == ("normalization_rule_name" not in options)


@pytest.mark.parametrize("name", ["words", "characters", "space behind"])
def test_what_a_tokenizer_json_cannot_hold_is_refused(tmp_path, name):
    vocabulary = Vocabulary(SentencePiece(trained(**OPTIONS[name])))
    said = sentence(write_tokenizer, vocabulary, MODELS["t5"], T5_FRAME, tmp_path)
    assert said.startswith("A tokenizer.json cannot hold this SentencePiece model")
    assert not any(tmp_path.iterdir())
