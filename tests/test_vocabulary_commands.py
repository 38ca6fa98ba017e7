"""`t5like vocabulary train` and `show` as their users meet them."""

import gzip
import io
import json
import pathlib
import pydoc_data.topics
import sys

import pytest
from settings import sentence

from t5like.cli import run
from t5like.commands.vocabulary import HELD_OUT
from t5like.config import Source, Vocabulary
from t5like.data.prepare.held_out import split_of
from t5like.data.sources import read, units
from t5like.data.splits import Shares
from t5like.data.vocabulary import Bytes
from t5like.data.vocabulary import Vocabulary as Pieces
from t5like.data.vocabulary.files import load_pieces

POEM = "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。"
TEXTS = ("Hello, world", POEM, "def f(x):\n\treturn x  # twice", "👩‍🚀 and 🇨🇳", "naïve café\n\n")
PRESET = """
from t5like.config import Config, Data, Eval, Length, Model, Objective, Source, Train, Vocabulary

config = Config(
    model=Model(decoder_layers=1, embed=16, heads=2, kv=8, mlp=32, vocab=384),
    data=Data(
        sources=(Source(kind="text", path="{folder}/{text}", document="line"),),
        filters=({filters}),
        store="{folder}/store",
        vocabulary=Vocabulary(kind="bytes", size=259, sentinels=11, extra=("[R]",)),
        objective=Objective(kind="causal"),
        length=48,
        held_out=0.2,
    ),
    train=Train(directory="{folder}/run", steps=9, batch=4),
    eval=Eval(rows=8, batch=4),
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """English prose in JSON lines, Chinese text, code, and presets of them."""
    folder = tmp_path_factory.mktemp("vocabulary_commands")
    lines = [line for topic in ("class", "if", "try") for line in pydoc_data.topics.topics[topic].splitlines() if line]
    (folder / "en.jsonl").write_text("\n".join(json.dumps({"body": {"text": line}}) for line in lines))
    (folder / "en.txt").write_text("\n".join(lines))
    poems = "\n".join(f"{POEM[number:]}{POEM[:number]}" for number in range(24))
    (folder / "zh.txt.gz").write_bytes(gzip.compress(poems.encode()))
    (folder / "a.py").write_text("config = None\n" + "def f(x):\n\treturn x\n\n\n" * 30)
    (folder / "preset.py").write_text(PRESET.format(folder=folder, text="en.txt", filters=""))
    (folder / "long.py").write_text(PRESET.format(folder=folder, text="en.txt", filters="Length(least=70),"))
    return folder


@pytest.mark.parametrize("kind", ["unigram", "bpe", "byte_bpe", "wordpiece"])
def test_pieces_are_learned_from_several_paths_and_spell_every_text(kind, folder, tmp_path, say):
    paths = (folder / "en.jsonl", folder / "*.txt.gz", folder / "a*.py")
    settings = ("--kind", kind, "--size", 600, "--field", "body.text")
    said = say("vocabulary", "train", *paths, "--output", tmp_path / "new", *settings)
    assert said.startswith("700 pieces\n" if kind in ("unigram", "bpe") else "600 pieces\n")
    assert "held-out text " in said and " a word\n" in said
    assert f"t5like vocabulary show {tmp_path / 'new'} --text" in said
    shown = say("vocabulary", "show", tmp_path / "new", *(word for text in TEXTS for word in ("--text", text)))
    assert shown.count("comes back ") == len(TEXTS)
    if kind != "wordpiece":
        assert shown.count("comes back unchanged") == len(TEXTS)
    assert load_pieces(tmp_path / "new").size == 600


def test_what_is_printed_for_a_preset_is_that_vocabulary(folder, tmp_path, say):
    said = say("vocabulary", "train", folder / "en.txt", "--size", 400, "--kind", "bpe", "--output", tmp_path / "new")
    (line,) = (line for line in said.splitlines() if line.startswith("For a preset: "))
    settings = eval(line.removeprefix("For a preset: "), {"Vocabulary": Vocabulary})
    assert settings == Vocabulary(kind="file", path=str(tmp_path / "new"), size=400, sentinels=100)


def test_line_feeds_are_learned_from_whole_files_alone(folder, tmp_path, say):
    common = ("vocabulary", "train", folder / "a*.py", folder / "en.txt", "--kind", "byte_bpe", "--size", 400)
    say(*common, "--document", "file", "--output", tmp_path / "files")
    say(*common, "--output", tmp_path / "lines")
    held = [say("vocabulary", "show", tmp_path / name, "--text", ":\n\n\n") for name in ("files", "lines")]
    assert "4 pieces" not in held[0] and held[1].count("\\n\n") == 3


def test_a_preset_gives_its_sources_and_filters(folder, tmp_path, say):
    from_preset = say("vocabulary", "train", folder / "preset.py", "--size", 400, "--output", tmp_path / "preset")
    from_file = say("vocabulary", "train", folder / "en.txt", "--size", 400, "--output", tmp_path / "file")
    assert from_preset.replace("preset", "file").splitlines()[1:3] == from_file.splitlines()[1:3]
    say("vocabulary", "train", folder / "long.py", "--size", 400, "--output", tmp_path / "long")
    words = [(tmp_path / name / "spiece.model").read_bytes() for name in ("preset", "file", "long")]
    assert words[0] == words[1] != words[2]


@pytest.mark.parametrize("text", ["the cat sat on the mat", POEM, "a\nb"])
def test_a_text_too_small_to_hold_anything_out_is_learned_from_whole(text, tmp_path, say):
    (tmp_path / "small.txt").write_text(text)
    said = say(
        *("vocabulary", "train", tmp_path / "small.txt", "--output", tmp_path / "new"),
        *("--kind", "byte_bpe", "--size", 257),
    )
    assert "held-out text     none, so there are no figures" in said


def test_the_only_document_is_learned_from_though_its_hash_would_hold_it_out(tmp_path, say):
    (tmp_path / "small.txt").write_text("number 16")
    (unit,) = units((Source(kind="text", path=str(tmp_path / "small.txt"), document="line"),))
    (document,) = read(Source(kind="text", path=str(tmp_path / "small.txt"), document="line"), unit)
    assert split_of(unit, document, Shares(HELD_OUT)) == "validation"
    words = ("--output", tmp_path / "new", "--kind", "byte_bpe", "--size", 257)
    assert "held-out text     none" in say("vocabulary", "train", tmp_path / "small.txt", *words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["{folder}/none.txt"], "No file matches '{folder}/none.txt': give an existing file or a glob that matches."),
        (
            ["{folder}/none.py"],
            "{folder}/none.py is neither a preset nor a run directory; `t5like configs` lists the presets here.",
        ),
        (["{folder}"], "{folder} is a folder without a config.json: give files in it, such as '{folder}/**/*.txt'."),
        (["{empty}"], "There is no text to learn a vocabulary from: every document of the files is empty or held out."),
        (["{folder}/en.jsonl"], "--field: {folder}/en.jsonl, line 1, has no field 'text'; there "),
        (["{folder}/en.txt", "--size", "0"], "--size=0 must be above 0."),
        (["{folder}/en.txt", "--size", "9"], "--size=9 cannot be reached with "),
        (["{folder}/en.txt", "--size", "90000"], "--size=90000 cannot be reached with "),
        (["{folder}/en.txt", "--kind", "wordpiece", "--size", "9"], "--size=9 cannot be reached with "),
        (["{folder}/en.txt", "--kind", "bytes"], "invalid choice 'bytes' for argument '--kind'. Expected one of "),
        (["{folder}/en.txt", "--coverage", "0.5"], "--coverage=0.5 must lie between 0.98 and 1."),
        (["{folder}/en.txt", "--characters", "0"], "--characters=0 must be above 0."),
        (
            ["{folder}/en.txt", "--lowercase"],
            "--lowercase True has no effect with --kind unigram, only with ",
        ),
        (["{folder}/en.txt", "--field", "a"], "--field is for files of kind jsonl, json, csv, tsv, conll, p"),
        (["{folder}/en.jsonl", "--document", "file"], "--document is for files of kind text, and none is given: "),
        (["{folder}/en.txt", "--output", "{folder}"], "--output {folder} is not empty: choose another folder, or "),
        (
            ["{folder}/en.txt", "--output", "{empty}/a"],
            "--output {empty}/a cannot be written: {empty} is not a folder.",
        ),
        (["{folder}/preset.py", "{folder}/long.py"], "{folder}/preset.py and others have different data.filters, "),
    ],
)
def test_a_vocabulary_that_cannot_be_learned_is_one_sentence(words, expected, folder, tmp_path):
    (tmp_path / "empty.txt").touch()
    names = {"folder": folder, "empty": tmp_path / "empty.txt"}
    output = [] if "--output" in words else ["--output", str(tmp_path / "new")]
    said = sentence(run, ["vocabulary", "train", *(word.format(**names) for word in words), *output])
    assert said.startswith(expected.format(**names))
    assert [path.name for path in tmp_path.iterdir()] == ["empty.txt"]


def test_an_output_is_needed(folder):
    expected = "t5like vocabulary train PATH... needs --output, the folder that the vocabulary is written to."
    assert sentence(run, ["vocabulary", "train", str(folder / "en.txt")]) == expected


def test_vocabularies_are_shown_wherever_they_lie(folder, tmp_path, say):
    assert sentence(run, ["vocabulary", "show", str(folder / "preset.py")]).startswith(
        f"{folder}/store/vocabulary holds no vocabulary yet: run `t5like prepare {folder}/preset.py`."
    )
    say("prepare", folder / "preset.py")
    Pieces(Bytes(), ("[R]",), 11).save(folder / "run" / "vocabulary")
    special = {
        path: say("vocabulary", "show", path, "--text", "[R]") for path in (folder / "preset.py", folder / "run")
    }
    assert all("259  [R]  (special)\n1 pieces" in shown for shown in special.values())
    assert "3 pieces" in say("vocabulary", "show", folder / "store", "--text", "[R]")
    say("vocabulary", "train", folder / "en.txt", "--size", 400, "--output", tmp_path / "new")
    for place in (tmp_path / "new", tmp_path / "new" / "spiece.model"):
        assert "comes back unchanged" in say("vocabulary", "show", place, "--text", POEM)
    both = say("vocabulary", "show", folder / "store", tmp_path / "new", "--text", "a", "--text", "b")
    assert both.count("comes back unchanged") == 4


def test_standard_input_is_shown_byte_by_byte(folder, say, monkeypatch):
    def given(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "ascii"))

    say("prepare", folder / "preset.py")
    given(POEM.encode())
    assert "comes back unchanged" in say("vocabulary", "show", folder / "store")
    given(b"caf\xe9")
    said = sentence(run, ["vocabulary", "show", str(folder / "store")])
    assert said == "The text is not valid UTF-8 at character 3: mend it there."


@pytest.mark.parametrize("path", ["none", "{folder}", "{folder}/en.txt", "{folder}/en.jsonl"])
def test_what_is_no_vocabulary_is_one_sentence(path, folder):
    path = path.format(folder=folder)
    said = sentence(run, ["vocabulary", "show", path, "--text", "a"])
    assert path in said and "vocabulary" in said
