"""`t5like verify` where transformers is not installed: the folder's kept numbers take the original's place."""

import json
import pathlib
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import safetensors.numpy
from golden_runs import GOLDEN, on_one_device

from t5like.cli import run as carry_out
from t5like.convert import verify
from t5like.convert.importing import import_run
from t5like.convert.options import ImportOptions

CACHE = "--train.compilation_cache="
COMPARED = ["tensors", "tokenizer", "stored: scores", "stored: loss", "greedy continuation"]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """A run of the golden GPT-2, and no transformers."""
    run = tmp_path_factory.mktemp("imported") / "run"
    with on_one_device(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify, "has_transformers", lambda: False)
        import_run(GOLDEN / "gpt2", run, ImportOptions())
        yield run


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the golden folder, to be changed."""
    shutil.copytree(GOLDEN / "gpt2", tmp_path / "folder")
    return tmp_path / "folder"


def failing(capsys: pytest.CaptureFixture[str], run: pathlib.Path, folder: pathlib.Path) -> dict[str, str]:
    """The comparisons that fail, by name; the status must be 1."""
    with pytest.raises(SystemExit) as left:
        carry_out(["verify", str(run), str(folder), "--json", CACHE])
    assert left.value.code == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {line["what"]: line["result"] for line in lines if line["passed"] is False}


def change(folder: pathlib.Path, file: str, name: str, index: tuple[int, ...], by: float) -> None:
    tensors = safetensors.numpy.load_file(folder / file)
    tensors[name][index] += np.asarray(by, tensors[name].dtype)
    safetensors.numpy.save_file(tensors, folder / file)


def test_the_kept_numbers_are_compared_and_said_in_a_table(imported, say):
    lines = say("verify", imported, GOLDEN / "gpt2", CACHE).splitlines()
    width = max(map(len, COMPARED))
    assert [line[:width].rstrip() for line in lines] == COMPARED
    assert {line[width : width + 10] for line in lines} == {"  ok      "}
    assert lines[0].endswith("20 of 20 parameters equal, bit for bit")
    assert lines[-1].endswith("32 of 32 tokens equal before the first difference")


def test_programs_get_an_object_a_line(imported, say):
    lines = [json.loads(line) for line in say("verify", imported, GOLDEN / "gpt2", "--json", CACHE).splitlines()]
    assert [line["what"] for line in lines] == COMPARED
    assert all(line.keys() == {"what", "result", "passed"} and line["passed"] is True for line in lines)


def test_without_kept_numbers_the_table_says_what_was_not_compared(imported, folder, say):
    (folder / "golden.safetensors").unlink()
    last = say("verify", imported, folder, CACHE).splitlines()[-1]
    assert last.startswith("logits, loss and greedy continuation  -  ")
    assert last.endswith("not compared: `pip install torch transformers` runs the original")


def test_a_tensor_of_another_value_is_named(imported, folder, capsys):
    change(folder, "model.safetensors", "transformer.h.2.attn.c_attn.weight", (0, 20), 1e-6)
    found = failing(capsys, imported, folder)
    assert found.keys() == {"tensors"}
    assert found["tensors"].startswith("19 of 20 parameters equal, bit for bit; decoder/blocks/self/key differs by ")


def test_nan_on_one_side_alone_is_no_equality(imported, folder, capsys):
    change(folder, "model.safetensors", "transformer.h.0.mlp.c_proj.bias", (3,), float("nan"))
    found = failing(capsys, imported, folder)
    assert found["tensors"] == "19 of 20 parameters equal, bit for bit; decoder/blocks/mlp/down_bias differs by inf"


@pytest.mark.parametrize(
    ("name", "index", "by", "what"),
    [
        ("logits", (0, 3, 7), 0.01, "stored: scores"),
        ("loss", (), 0.01, "stored: loss"),
        ("greedy", (2, 4), 1, "greedy continuation"),
        ("logits", (2, 19, 0), float("nan"), "stored: scores"),
    ],
)
def test_a_difference_of_any_number_fails(name, index, by, what, imported, folder, capsys):
    change(folder, "golden.safetensors", name, index, by)
    assert failing(capsys, imported, folder).keys() == {what}


def test_another_tokenizer_fails_at_the_first_text_that_it_numbers_otherwise(imported, folder, capsys):
    names = json.loads((folder / "vocab.json").read_text("utf-8"))
    names["a"], names["b"] = names["b"], names["a"]
    (folder / "vocab.json").write_text(json.dumps(names), "utf-8")
    found = failing(capsys, imported, folder)
    assert found.keys() == {"tokenizer"}
    assert "1 of " in found["tokenizer"]
    assert f"then 'a' differs at piece 0: [{names['b']}] here, [{names['a']}] there" in found["tokenizer"]


def test_a_run_that_puts_something_else_around_texts_fails(imported, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(imported, run)
    description = json.loads((run / "vocabulary" / "vocabulary.json").read_text("utf-8"))
    assert description["frame"] == {"before": [], "behind": []}
    del description["checksum"]
    description["frame"]["before"] = [319]
    (run / "vocabulary" / "vocabulary.json").write_text(json.dumps(description), "utf-8")
    found = failing(capsys, run, GOLDEN / "gpt2")
    assert found.keys() == {"tokenizer"}
    assert found["tokenizer"].startswith(
        "0 of 18 texts equal, then '' with the pieces that frame it differs at piece 0: "
    )


def test_padding_is_not_compared(imported, folder, say):
    change(folder, "golden.safetensors", "logits", (1, 17, 0), 100.0)  # the second row has 15 tokens
    assert " DIFFERS " not in say("verify", imported, folder, CACHE)
