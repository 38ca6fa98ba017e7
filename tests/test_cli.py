"""The command line: fast, and one sentence for each mistake of its user."""

import functools
import io
import json
import os
import pathlib
import random
import re
import subprocess
import sys

import pytest
from command_line import CONFIGS, command, complaint, environment, t5like
from golden_runs import on_one_device
from settings import sentence

from t5like.cli import COMMANDS, run

T5 = CONFIGS / "tiny_t5.py"
FAMILIES = {
    "t5": ("encoder_layers=1, decoder_layers=1", "span_corruption"),
    "gpt": ("decoder_layers=1", "causal"),
    "bert": ("encoder_layers=1", "masked"),
}
PRESET = """
from t5like.config import MASK, Config, Data, Eval, Model, Objective, Source, Train, Vocabulary

config = Config(
    model=Model({stacks}, embed=16, heads=2, kv=8, mlp=32, vocab=384, max_positions=48, dtype="float32"),
    data=Data(
        sources=(Source(kind="text", path="{corpus}", document="line"),),
        store="{store}",
        vocabulary=Vocabulary(kind="bytes", size=259, sentinels=11, extra=(MASK,)),
        objective=Objective(kind="{objective}"),
        length=32,
        held_out=0.2,
    ),
    train=Train(directory="{run}", steps=3, batch=8, tensorboard=False, compilation_cache="{cache}"),
    eval=Eval(rows=8, batch=8),
)
"""


@pytest.fixture(scope="session")
def presets(tmp_path_factory):
    """Family -> the preset of a run of three steps, on lines of random words."""
    folder = tmp_path_factory.mktemp("presets")
    rng, words = random.Random(0), ["the", "cat", "sat", "on", "a", "red", "mat", "and", "slept"]
    lines = [" ".join(rng.choices(words, k=12)) for _ in range(300)]
    (folder / "corpus.txt").write_text("\n".join(lines))
    places = {"corpus": folder / "corpus.txt", "store": folder / "store", "cache": folder / "cache"}
    for family, (stacks, objective) in FAMILIES.items():
        text = PRESET.format(stacks=stacks, objective=objective, run=folder / f"run_{family}", **places)
        (folder / f"{family}.py").write_text(text)
    return {family: folder / f"{family}.py" for family in FAMILIES}


@pytest.fixture(scope="session")
def runs(presets):
    """Family -> the directory of its run, trained when it is first asked for."""

    @functools.cache
    def of(family: str) -> pathlib.Path:
        with on_one_device():
            run(["train", str(presets[family])])
        return presets[family].parent / f"run_{family}"

    return of


def refusal(*words: object) -> str:
    """What a command line that cannot be carried out is told, in this process and on its eight devices."""
    return sentence(run, [*map(str, words)])


def test_a_mistake_ends_the_process_with_status_2_and_one_line():
    assert complaint("trian", T5) == "There is no command 'trian'; did you mean 'train'?"


def test_a_switch_that_stands_alone_is_on():
    expected = "There is no run in none: `t5like train "
    for switch in (["--json"], ["--json", "True"], ["--json=False"], ["--train.tensorboard"]):
        words = ("generate", T5, *switch, "--prompt", "a", "--train.directory", "none")
        assert refusal(*words).startswith(expected), switch
    assert refusal("generate", T5, "--json", "no", "--prompt", "a").startswith("invalid choice 'no' for argument '--")
    assert refusal("generate", T5, "--prompt").startswith("Missing value for argument '--prompt'.")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["dance", T5],
            f"There is no command 'dance'; there are {', '.join(sorted(COMMANDS))}.",
        ),
        (["data", T5], "t5like data needs one of stats, verify after it."),
        (["vocabulary", "shaw", T5], "t5like vocabulary needs one of train, show after it."),
        (["data", "stats"], "t5like data stats needs a PATH first."),
        (["vocabulary", "show", "--text", "a"], "t5like vocabulary show needs a PATH first."),
        (["data", "stats", T5, "--jsn"], "t5like data stats PATH... has no flag --jsn;"),
        (["inspect", T5, "--step", "0"], "--step 0 must be above 0."),
        (["inspect", T5, "--row", "80"], "--row 80 must be at least 0 and below train.batch=80."),
        (["train"], "t5like train needs a SOURCE first: a preset such as tiny_t5, or a run directory."),
        (["train", "--train.steps", "3"], "t5like train needs a SOURCE first: "),
        (["train", T5.parent], f"{T5.parent} is not a run directory: it has no config.json."),
        (["train", T5, "--train.stesp", "3"], f"t5like train {T5} has no flag --train.stesp; did you mean "),
        (["train", T5, "--train.steps", "three"], "--train.steps takes INT, not 'three'."),
        (["train", T5, "--train.steps", "0"], "train.steps=0 must be above 0, or train.epochs must be set."),
        (["eval", T5, "--train.directory", "none"], "There is no run in none: `t5like train "),
        (["generate", T5], "There is nothing to answer: give --prompt, --prompt_file or --held_out."),
        (["generate", T5, "--prompt", "a", "--temperature", "-1"], "--temperature -1.0 must not be negative."),
        (["generate", T5, "--prompt", "a", "--temperature=1", "--top_k", "-1"], "--top_k -1 must not be negative."),
        (
            ["generate", T5, "--prompt", "a", "--temperature=1", "--top_p=0"],
            "--top_p 0.0 must lie above 0 and not above 1.",
        ),
        (["generate", T5, "--prompt", "a", "--tokens", "0"], "--tokens 0 must be above 0."),
        (["fill", T5], 'There is nothing to fill: give --text "The [MASK] sat".'),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(arguments, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert refusal(*arguments).startswith(expected)
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_without_a_config_are_not_touched(tmp_path):
    (tmp_path / "checkpoints" / "3" / "state").mkdir(parents=True)
    expected = f"{tmp_path} has checkpoints but no config.json: put that file back, or choose another train.directory."
    assert refusal("train", tmp_path) == expected
    assert refusal("eval", tmp_path) == expected
    assert refusal("eval", T5, "--train.directory", tmp_path) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--data.sources.0.path", "none/*.txt"], "No file matches 'none/*.txt': give data.sources.N.path "),
        (["--data.sources.0.path", "empty.txt"], "data.sources has no train documents with data.held_out=0.2: lower"),
        (
            [
                "--data.sources.0.path",
                "small.txt",
                "--data.held_out=0.001",
                "--data.vocabulary.kind",
                "unigram",
                "--data.vocabulary.size",
                "300",
            ],
            r"data\.vocabulary\.size=300 cannot be reached with 8 characters of text: they hold at most \d+ pieces; "
            r"lower data\.vocabulary\.size or add text\.",
        ),
        (
            ["--data.vocabulary.kind", "unigram", "--data.vocabulary.size", "260"],
            r"data\.vocabulary\.size=260 cannot be reached with [\d,]+ characters of text: bytes and single "
            r"characters alone need \d+ pieces; raise data\.vocabulary\.size to \d+ or more, or lower "
            r"data\.vocabulary\.coverage=0\.9995, so that rare characters are spelt in bytes\.",
        ),
        (
            ["--data.vocabulary.kind", "bpe", "--data.vocabulary.size", "372"],
            r"data\.vocabulary\.size=372 cannot be reached with [\d,]+ characters of text: they hold at most \d+ "
            r"pieces; lower data\.vocabulary\.size or add text\.",
        ),
        (
            ["--data.vocabulary.kind", "file", "--data.vocabulary.path", "none.model"],
            "There is no file or folder none.model to take a vocabulary from.",
        ),
        (["--data.store", "small.txt/store"], "data.store=small.txt/store cannot be written: "),
        (["--data.store", "small.txt"], "data.store=small.txt cannot be written: "),
    ],
)
def test_data_that_cannot_be_prepared_is_one_sentence(flags, expected, presets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").touch()
    (tmp_path / "small.txt").write_text("the cat sat")
    flags = ["--data.store", tmp_path / "store", "--train.directory", tmp_path / "run", *flags]
    said = refusal("train", presets["t5"], *flags)
    assert said.startswith(expected) or re.fullmatch(expected, said), said


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--train.batch", "12"], "train.batch / train.accumulate=12 does not divide over the 8 devices"),
        (["--train.accumulate", "2"], "train.batch / train.accumulate=4 does not divide over the 8 devices"),
        (["--eval.batch", "4"], "eval.batch=4 does not divide over the 8 devices that split a batch: make it a"),
        (
            ["--mesh.data", "64"],
            "mesh.data=64, mesh.fsdp=-1 needs a multiple of 64 device(s), but there are 8: change mesh.",
        ),
        (["--mesh.fsdp", "1"], "A mesh of 1 everywhere needs 1 device(s), but there are 8: change mesh."),
        (
            ["--mesh.tensor", "4", "--mesh.fsdp", "2"],
            "Attention has act_heads=2, which 4 devices of mesh axes tensor",
        ),
        (["--train.directory", "file/run"], "train.directory=file/run cannot be written: Not a directory."),
        (["--train.directory", "file"], "train.directory=file cannot be written: File exists."),
    ],
)
def test_a_run_that_cannot_start_is_one_sentence(flags, expected, presets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    flags = ["--train.directory", tmp_path / "run", *flags]
    assert refusal("train", presets["t5"], *flags).startswith(expected)


@pytest.mark.slow
def test_a_command_mended_after_a_failure_works(presets, say, tmp_path):
    flags = ["--data.store", tmp_path / "store", "--train.directory", tmp_path / "run", "--train.steps", "1"]
    assert "there is 1: change mesh." in complaint("train", presets["gpt"], *flags, "--mesh.tensor", "3")
    assert refusal("train", presets["gpt"], *flags, "--mesh.tensor", "4").startswith("Attention has act_heads=2, ")
    assert "step 1 of 1" in say("train", presets["gpt"], *flags, "--model.kv", "4")


@pytest.mark.slow
def test_a_run_of_another_config_is_left_alone(presets, runs):
    before = (runs("t5") / "config.json").read_text()
    said = refusal("train", presets["t5"], "--model.embed", "32", "--data.seed", "1", "--train.steps", "9")
    assert said == (
        f"{runs('t5')} belongs to a run with another data.seed (0 there, 1 now), model.embed (16 there, 32 now): "
        "choose another train.directory, or delete that folder."
    )
    assert (runs("t5") / "config.json").read_text() == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["eval", "t5", "--step", "2"], "{run}/checkpoints has no step 2; there are 3."),
        (
            ["eval", "t5", "--model.embed", "32", "--optimizer.name", "adamw", "--model.dtype", "bfloat16"],
            "{run} belongs to a run with another model.embed (16 there, 32 now), optimizer.name ('adafactor' there, "
            "'adamw' now): leave that as it is.",
        ),
        (["generate", "bert", "--prompt", "a"], "An encoder has nothing to generate with: use `t5like fill` with"),
        (["generate", "t5", "--prompt", " "], "The prompt is empty: give --prompt a text."),
        (["generate", "t5", "--prompt", "a" * 48], "The prompt and what follows it need 64 tokens, but model.max_"),
        (["generate", "gpt", "--prompt", "a" * 30, "--tokens", "18"], "The prompt and what follows it need 49 tokens"),
        (["generate", "t5", "--prompt", "ab\udcff"], "The text is not valid UTF-8 at character 2"),
        (["generate", "t5", "--prompt_file", "none.txt"], "--prompt_file none.txt cannot be read: "),
        (["generate", "t5", "--prompt_file", "latin.txt"], "--prompt_file latin.txt cannot be read: 'utf-8' codec "),
        (["generate", "t5", "--prompt_file", "empty.txt"], "--prompt_file empty.txt is empty: write a prompt on each"),
        (["fill", "gpt", "--text", "a [MASK]"], "`t5like fill` is for encoders; this run has the family decoder"),
        (["fill", "bert", "--text", "a cat"], "The text has no [MASK]: write one where a piece is wanted, as in "),
        (["fill", "bert", "--text", "a" * 48 + "[MASK]"], "The prompt and what follows it need 50 tokens, but model."),
    ],
)
def test_a_run_that_cannot_answer_says_why_in_one_sentence(arguments, expected, runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    (tmp_path / "empty.txt").touch()
    name, family, *flags = arguments
    said = refusal(name, runs(family), *flags)
    assert said.startswith(expected.format(run=runs(family))), said


@pytest.mark.slow
def test_a_result_that_cannot_be_kept_is_one_sentence(runs, tmp_path):
    (tmp_path / "run").mkdir()
    for entry in runs("bert").iterdir():
        (tmp_path / "run" / entry.name).symlink_to(entry)
    (tmp_path / "run" / "samples").touch()
    (tmp_path / "run" / "eval.json").mkdir()
    folder = tmp_path / "run"
    assert refusal("eval", folder) == f"{folder / 'eval.json'} cannot be written: Is a directory."
    said = refusal("generate", folder, "--held_out", "1")
    assert said == f"{folder / 'samples/3.jsonl'} cannot be written: File exists."


@pytest.mark.slow
def test_prompts_come_from_flags_files_and_standard_input(runs, say, tmp_path, monkeypatch):
    (tmp_path / "prompts.txt").write_text("the cat\nthe mat\n")
    shown = say(
        *("generate", runs("gpt"), "--prompt", "a red", "--prompt_file", tmp_path / "prompts.txt"),
        *("--tokens=4", "--json=True"),
    )
    assert [json.loads(line)["prompt"] for line in shown.splitlines()] == ["a red", "the cat", "the mat"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\n"))
    shown = say("generate", runs("gpt"), "--prompt_file", "-", "--json=True", "--tokens=4")
    assert [json.loads(line)["prompt"] for line in shown.splitlines()] == ["one", "two"]


def test_a_reader_that_goes_away_is_no_error():
    read, write = os.pipe()
    os.close(read)
    buffered = {**environment(), "PYTHONUNBUFFERED": ""}
    done = subprocess.run(command("--help"), stdout=write, stderr=subprocess.PIPE, check=False, env=buffered)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_bug_keeps_its_traceback(tmp_path):
    (tmp_path / "preset.py").write_text("config = 1 / 0")
    done = t5like("train", tmp_path / "preset.py")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
