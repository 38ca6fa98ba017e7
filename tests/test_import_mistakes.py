"""A mistake in a folder to import is told in one sentence, and no part of a run directory stays behind."""

import json
import shutil

import numpy as np
import pytest
from command_line import complaint
from damage import GOLDEN, WEIGHTS, damaged, fields, file, put, refused
from settings import sentence
from t5x_format import written

from t5like.cli import run

DECODER = "SOURCE/tokenizer_config.json is damaged (added_tokens_decoder"
ADDED = "The added pieces of SOURCE, in added_tokens.json, tokenizer_config.json or tokenizer.json, are not all a name"
TOKENIZERS = {
    "none": ("t5_1_1", file("spiece.model", None), "SOURCE holds no tokenizer: spiece.model, tokenizer.json, "),
    "half a model": ("t5_1_1", file("spiece.model", b"\x0a\x0e\x0a\x05<pad>"), "SOURCE/spiece.model is not a "),
    "an empty model": ("t5_1_1", file("spiece.model", b""), "SOURCE/spiece.model is not a SentencePiece model"),
    "noise": ("t5_1_1", file("spiece.model", bytes(range(256))), "SOURCE/spiece.model is not a SentencePiece model."),
    "half a tokenizer.json": ("llama", file("tokenizer.json", '{"model": {'), "SOURCE/tokenizer.json is not "),
    "an empty tokenizer.json": (
        "llama",
        file("tokenizer.json", "{}"),
        "SOURCE/tokenizer.json is not a tokenizer.json",
    ),
    "a tokenizer.json of a list": ("llama", file("tokenizer.json", "[]"), "SOURCE/tokenizer.json "),
    "no merges": ("gpt2", file("merges.txt", None), "SOURCE needs both vocab.json and merges.txt."),
    "noise for merges": ("gpt2", file("merges.txt", b"\xff\xfe"), "SOURCE/merges.txt is not valid UTF-8 at byte 0."),
    "other merges": (
        "gpt2",
        file("merges.txt", "qq qq\n"),
        "SOURCE/vocab.json and SOURCE/merges.txt do not belong",
    ),
    "half a vocab.json": ("gpt2", file("vocab.json", '{"a": 1'), "SOURCE/vocab.json is not valid JSON: "),
    "numbers as text": (
        "gpt2",
        file("vocab.json", '{"a": "1"}'),
        """SOURCE/vocab.json is damaged (a is "1"): fetch""",
    ),
    "no vocab.txt of BERT": ("bert_masked", file("vocab.txt", "a\nb\n"), "SOURCE/vocab.txt is no vocabulary of "),
    "a piece twice": (
        "bert_masked",
        file("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\na\n"),
        "SOURCE/vocab.txt has the piece 'a' twice: the numbers of its pieces are not certain.",
    ),
    "settings of a list": ("t5_1_1", file("tokenizer_config.json", "[]"), "SOURCE/tokenizer_config.json must hold a"),
    "half of the settings": (
        "t5_1_1",
        file("tokenizer_config.json", "{"),
        "SOURCE/tokenizer_config.json is not valid",
    ),
    "half of the ends": ("t5_1_1", file("generation_config.json", "{"), "SOURCE/generation_config.json is not valid"),
    "names beyond the rows": (
        "t5_1_1",
        file("added_tokens.json", '{"[X]": 400}'),
        "The tokenizer has the added piece ",
    ),
    "a number that is none": ("t5_1_1", file("added_tokens.json", '{"[X]": "a"}'), ADDED),
    "a name that is none": (
        "t5_1_1",
        file("tokenizer_config.json", '{"added_tokens_decoder": {"300": "[X]"}}'),
        DECODER,
    ),
    "a number as a name": ("t5_1_1", file("tokenizer_config.json", '{"added_tokens_decoder": {"x": {}}}'), DECODER),
    "a list of names": (
        "t5_1_1",
        file("tokenizer_config.json", '{"added_tokens_decoder": ["x"]}'),
        DECODER + " is a list): fetch it again.",
    ),
    "sentinels below zero": (
        "t5_1_1",
        file("tokenizer_config.json", '{"extra_ids": -3}'),
        "SOURCE/tokenizer_config.json: extra_ids=-3 must be between 0 and 65535.",
    ),
    "names as a number": (
        "t5_1_1",
        file("tokenizer_config.json", '{"additional_special_tokens": 3}'),
        "SOURCE/tokenizer_config.json is damaged (additional_special_tokens is 3): fetch it again.",
    ),
    "lower case as text": (
        "bert_masked",
        file("tokenizer_config.json", '{"do_lower_case": "yes"}'),
        "SOURCE/tokenizer_config.json: do_lower_case='yes' must be of type bool.",
    ),
    "added pieces as a number": ("t5_1_1", file("tokenizer.json", '{"model": [], "added_tokens": 3}'), ADDED),
    "a tokenizer.json without pieces": (
        "llama",
        file("tokenizer.json", '{"model": [], "added_tokens": []}'),
        "SOURCE/tokenizer.json is not a tokenizer.json of Hugging Face's tokenizers: ",
    ),
    "more pieces than rows": (
        "t5_1_1",
        fields(vocab_size=299),
        "The vocabulary has 300 pieces, but the embedding only 299 rows: either the tokenizer belongs to another model",
    ),
    "an end beyond the pieces": (
        "t5_1_1",
        fields(eos_token_id=310),
        "SOURCE names the number 310 for eos, but its tokenizer has 300 pieces: mend config.json or ",
    ),
    "bytes that end otherwise": (
        "byt5",
        fields(eos_token_id=5),
        "SOURCE names {'pad': 0, 'eos': 5, 'start': 0} for",
    ),
}


@pytest.mark.parametrize("what", TOKENIZERS)
def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path, what):
    name, harm, expected = TOKENIZERS[what]
    said = refused(damaged(tmp_path, name, harm))
    assert said.startswith(expected), said


NAMED = "encoder.block.1.layer.0.SelfAttention.q.weight"


def test_what_is_there_already_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("run", "file"):
        said = sentence(run, ["import", str(GOLDEN / "t5_1_1"), str(tmp_path / name)])
        assert said == f"{tmp_path / name} is there already: name a new run directory, or move that away."
    assert {path.name for path in tmp_path.rglob("*")} == {"run", "notes", "file"}


def test_a_source_that_is_no_folder_is_refused(tmp_path):
    assert refused(tmp_path / "none") == "There is no folder SOURCE to import."
    (tmp_path / WEIGHTS).write_bytes(b"")
    assert refused(tmp_path / WEIGHTS) == "There is no folder SOURCE to import."


@pytest.mark.parametrize("paths", [["one"], ["one", "two", "three"]])
def test_an_import_takes_two_paths(paths):
    said = sentence(run, ["import", *paths])
    assert said == "t5like import takes two paths: the folder to import and the run directory to make of it."


def test_a_target_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for target in (tmp_path / "file" / "run", tmp_path / "link"):
        said = sentence(run, ["import", str(GOLDEN / "t5_1_1"), str(target)])
        assert said == f"{target} cannot be written: Not a directory."
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link"}


def test_tensors_that_may_be_left_out_are_ignored_by_name(tmp_path, say):
    one, other = (put(f"adapter.{name}", lambda tensors: np.ones(3, np.float32)) for name in ("weight", "bias"))
    folder = damaged(tmp_path, "t5_1_1", one, other)
    said = refused(folder, "--ignore", "adapter.bias")
    assert said.startswith("The tensor 'adapter.weight' of the folder has no place in this model")
    said = refused(folder, "--ignore", "adapter")
    assert said.startswith("The tensor 'adapter.bias' and 1 more of the folder has no place in this model")
    shown = say("import", folder, tmp_path / "run", "--ignore", "adapter.bias", "--ignore", "adapter.weight")
    assert "Unused: adapter.bias (named by --ignore)." in shown
    record = json.loads((tmp_path / "run" / "import.json").read_text())
    assert record["unused"] == dict.fromkeys(("adapter.bias", "adapter.weight"), "named by --ignore")


def test_a_needed_tensor_is_not_ignored(tmp_path):
    folder = damaged(tmp_path, "t5_1_1", put(NAMED, lambda tensors: tensors[NAMED][:8].copy()))
    assert refused(folder, "--ignore", NAMED).startswith(f"The tensor {NAMED!r} has the shape (8, 16), but its config ")


def test_what_is_no_number_is_imported_and_named(tmp_path, capsys):
    def spoil(tensors):
        tensors[NAMED][3, 5] = np.nan
        return tensors[NAMED]

    def enlarge(tensors):
        tensors["shared.weight"][-1, -1] = np.inf
        return tensors["shared.weight"]

    folder = damaged(tmp_path, "t5_1_1", put(NAMED, spoil), put("shared.weight", enlarge))
    run(["import", str(folder), str(tmp_path / "run")])
    assert capsys.readouterr().err == "t5like: NaN or infinite values in embedding, encoder/blocks/self/query.\n"
    record = json.loads((tmp_path / "run" / "import.json").read_text())
    assert sorted(record["non_finite"]) == ["embedding", "encoder/blocks/self/query"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            ["--mesh.tensor", "8", "--mesh.fsdp", "1"],
            "Attention has act_heads=4, which 8 devices of mesh axes tensor do not",
        ),
        (
            ["--mesh.data", "3"],
            "mesh.data=3, mesh.fsdp=-1 needs a multiple of 3 device(s), but there are 8: change mesh.",
        ),
        (["--mesh.fsdp", "1"], "A mesh of 1 everywhere needs 1 device(s), but there are 8: change mesh."),
        (["--vocabulary", "none.model"], "There is no file or folder none.model to take a vocabulary from."),
        (
            ["--vocabulary", GOLDEN / "llama_linear" / "tokenizer.model"],
            "The vocabulary has 500 pieces, but the embedding",
        ),
        (
            ["--vocabulary", GOLDEN / "t5_1_1" / "config.json"],
            f"{GOLDEN}/t5_1_1/config.json is not a tokenizer.json of",
        ),
        (["--vocabulary", "bytes", "--sentinels", "-1"], "--sentinels -1 must not be negative."),
        (["--ignores", "a"], "t5like import PATH... has no flag --ignores; did you mean '--ignore'?"),
        (["--step", "1"], "t5like import PATH... has no flag --step;"),
    ],
)
def test_flags_that_cannot_be_followed_are_refused(tmp_path, flags, expected):
    said = refused(damaged(tmp_path, "t5_1_1"), *flags)
    assert said.startswith(expected), said


@pytest.mark.usefixtures("one_device")
def test_a_checkpoint_of_t5x_needs_a_vocabulary(tmp_path):
    folder = written(tmp_path / "source").parent
    assert refused(folder) == (
        "SOURCE is a checkpoint of T5X, which holds no vocabulary: give --vocabulary, the spiece.model that it was "
        "trained with, or `bytes` for ByT5."
    )
    said = refused(folder, "--vocabulary", GOLDEN / "t5_1_1" / "spiece.model")
    assert said.startswith("The vocabulary has 300 pieces, but the embedding only 256 rows: ")
    shutil.rmtree(folder / "checkpoint_1000" / "target.decoder.logits_dense.kernel")
    said = refused(folder, "--vocabulary", GOLDEN / "t5_1_1" / "spiece.model", "--sentinels", "20")
    assert "target.decoder.logits_dense.kernel is missing or cut off" in said


@pytest.mark.slow
def test_a_mistake_ends_the_program_with_status_2_and_no_traceback(tmp_path):
    folder = damaged(tmp_path, "t5_1_1", file(WEIGHTS, b""))
    said = complaint("import", folder, tmp_path / "run")
    assert said.startswith(f"{folder / WEIGHTS} is damaged or no safetensors file (")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
