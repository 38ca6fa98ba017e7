"""An imported run is a run like any other: every command takes it, or says in one sentence why it does not."""

import functools
import json
import pathlib
import re
import shlex
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from damage import damaged, fields
from golden_runs import on_one_device
from settings import sentence
from small import random_batch, random_params, small_config
from t5x_format import t5x_tree, write_legacy, written

from t5like.cli import run as command
from t5like.data.rows.stream import Rows
from t5like.model.transformer import Transformer
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import open_run
from t5like.train.losses import weighted_sums
from t5like.train.step import targets_and_weights

GOLDEN = pathlib.Path(__file__).parent / "golden"
LABELLED = {"t5_encoder": "none", "bert_model": "none", "bert_sequence": "sequence", "bert_tokens": "token"} | {
    "bert_spans": "span"
}
"""Golden folders whose heads predict no pieces."""


@pytest.fixture(scope="module", autouse=True)
def one_device_for_commands():
    with on_one_device():
        yield


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """Name -> the run directory of a golden folder, imported when it is first asked for."""
    place = tmp_path_factory.mktemp("imported")

    @functools.cache
    def of(name: str) -> pathlib.Path:
        command(["import", str(GOLDEN / name), str(place / name)])
        return place / name

    return of


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> pathlib.Path:
    """Lines to train and evaluate on."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(6 * (GOLDEN / "text.txt").read_text("utf-8"), "utf-8")
    return path


def flags(text: pathlib.Path, store: pathlib.Path) -> list[str]:
    """The flags that give a run a text, and small batches of it."""
    values = {
        "data.sources.0.kind": "text",
        "data.sources.0.path": text,
        "data.sources.0.document": "line",
        "data.store": store,
        "data.held_out": 0.2,
        "data.length": 32,
        "eval.rows": 16,
        "eval.batch": 8,
    }
    return [f"--{name}={value}" for name, value in values.items()]


@pytest.fixture(scope="module")
def tuned(imported, text, tmp_path_factory) -> pathlib.Path:
    """A run of a few steps that starts from the imported T5."""
    place = tmp_path_factory.mktemp("tuned")
    options = {
        "train.init_from": imported("t5_1_1"),
        "train.directory": place / "run",
        "train.steps": 12,
        "train.batch": 8,
        "train.log_every": 1,
        "train.compilation_cache": "",
        "train.tensorboard": False,
        "optimizer.learning_rate": 0.05,
        "model.dropout": 0.0,
    }
    more = [f"--{name}={value}" for name, value in options.items()]
    command(["train", str(imported("t5_1_1")), *flags(text, place / "store"), *more])
    return place / "run"


def evaluated(run: pathlib.Path) -> dict[str, Any]:
    return json.loads((run / "eval.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["byt5", "marian", "gpt2", "llama"])
def test_generate_answers_prompts_with_an_imported_run(imported, say, name):
    words = ("generate", imported(name), "--prompt", "The river", "--prompt", "明月", "--tokens", 3, "--json")
    said = say(*words)
    records = [json.loads(line) for line in said.splitlines()]
    assert [record["prompt"] for record in records] == ["The river", "明月"]
    assert said == "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def test_generate_fills_the_sentinels_of_a_prompt_with_an_imported_t5(imported, say):
    prompt = "The <extra_id_0> rises in the <extra_id_1>."
    record = json.loads(say("generate", imported("t5_1_1"), "--prompt", prompt, "--tokens", 8, "--json"))
    assert record["prompt"] == prompt and re.fullmatch(r"The .* rises in the .*\.", record["filled"])


@pytest.mark.slow
def test_fill_takes_an_imported_bert(imported, say):
    words = ("fill", imported("bert_masked"), "--text", "[MASK] rises in the [MASK].", "--top", 3, "--json")
    record = json.loads(say(*words))
    assert len(record["masks"]) == 2
    for candidates in record["masks"]:
        chances = [candidate["probability"] for candidate in candidates]
        assert len(chances) == 3 and chances == sorted(chances, reverse=True) and 0 < sum(chances) <= 1


@pytest.mark.slow
def test_eval_prepares_the_text_and_measures_an_imported_run(imported, say, text, tmp_path):
    shown = say("eval", imported("t5_1_1"), *flags(text, tmp_path / "store"))
    assert f"{imported('t5_1_1')}, step 0, " in shown and (tmp_path / "store" / "manifest.json").is_file()
    assert 3 < evaluated(imported("t5_1_1"))["loss"] < 12  # a random model of 320 rows: ln 320 is 5.8


@pytest.mark.slow
def test_training_starts_at_the_loss_of_the_imported_model_and_lowers_it(imported, tuned):
    config = RunDirectory(tuned).config()
    with open_run(RunDirectory(imported("t5_1_1")).config()) as restored:
        batch = jax.tree.map(jnp.asarray, Rows(config.data, restored.vocabulary, "train")(np.arange(8)))
        logits = jax.jit(restored.network.net.apply)({"params": restored.params}, batch)
        sums = weighted_sums(logits, *targets_and_weights(batch), z_loss=0.0)
        expected = float(sums["loss"].mean())
    lines = [json.loads(line) for line in (tuned / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 12 and losses[0] == pytest.approx(expected, rel=1e-4)
    assert np.mean(losses[-4:]) < 0.9 * losses[0]


@pytest.mark.slow
def test_eval_finds_a_trained_run_better_than_the_imported_one(imported, tuned, text, say):
    say("eval", imported("t5_1_1"), *flags(text, tuned.parent / "store"))
    say("eval", tuned)
    assert evaluated(tuned)["tokens"] == evaluated(imported("t5_1_1"))["tokens"]
    assert evaluated(tuned)["loss"] < 0.9 * evaluated(imported("t5_1_1"))["loss"]


@pytest.mark.slow
def test_what_was_trained_from_an_import_is_exported_and_verified(tuned, say, tmp_path):
    shown = say("export", tuned, tmp_path / "out")
    assert shown.startswith(f"{tmp_path / 'out'}: step 12 of {tuned} as T5ForConditionalGeneration, ")
    lines = [json.loads(line) for line in say("verify", tuned, tmp_path / "out", "--tokens", 4, "--json").splitlines()]
    assert {"tensors", "tokenizer"} <= {line["what"] for line in lines if line["passed"]}
    assert all(line["passed"] is not False for line in lines)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == "t5" and config["num_decoder_layers"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", LABELLED)
def test_a_head_that_predicts_no_pieces_is_named_by_commands_that_need_one(imported, text, tmp_path, name):
    run, head = imported(name), f"model.head={LABELLED[name]!r}"
    data = flags(text, tmp_path / "store")
    before = sorted(run.rglob("*"))
    train = ("train", run, *data, f"--train.init_from={run}", f"--train.directory={tmp_path / 'run'}")
    generate, fill = ("generate", run, "--prompt", "The river"), ("fill", run, "--text", "The [MASK]")
    for words in (train, ("eval", run, *data), generate, fill):
        assert sentence(command, [str(word) for word in words]).startswith(head), words[0]
    assert sorted(run.rglob("*")) == before and not list(tmp_path.iterdir())


def test_a_decoder_without_a_head_has_nothing_to_generate(tmp_path):
    folder = damaged(tmp_path, "llama", fields(architectures=["LlamaModel"]))
    command(["import", str(folder), str(tmp_path / "run")])
    said = sentence(command, ["generate", str(tmp_path / "run"), "--prompt", "The river"])
    assert said.startswith("model.head='none' predicts no pieces")


def test_fill_needs_a_mask_in_the_vocabulary(tmp_path):
    lines = (GOLDEN / "bert_masked" / "vocab.txt").read_text("utf-8").replace("[MASK]", "[GAP]")
    folder = damaged(tmp_path, "bert_masked", lambda folder: (folder / "vocab.txt").write_text(lines, "utf-8"))
    command(["import", str(folder), str(tmp_path / "run")])
    said = sentence(command, ["fill", str(tmp_path / "run"), "--text", "The [MASK]"])
    assert said.startswith("The vocabulary of this run has no [MASK]: ")


@pytest.mark.parametrize(
    "name",
    [
        "t5_1_1",
        pytest.param("marian", marks=pytest.mark.slow),
        pytest.param("llama", marks=pytest.mark.slow),
        "bert_masked",
        "bert_sequence",
        "t5_encoder",
    ],
)
def test_an_import_suggests_commands_that_work(say, tmp_path, name):
    target = tmp_path / "run"
    shown = [line for line in say("import", GOLDEN / name, target).splitlines() if not line.startswith("Training here")]
    _, told, *suggested = shown
    assert re.fullmatch(rf"{target}: \w+, [\d,]+ parameters, [\d,]+ pieces\.", told)
    assert suggested[0] == f"  t5like verify {target} {GOLDEN / name}"
    assert len(suggested) == (1 if name in LABELLED else 2)
    for line in suggested[1:]:
        program, *words = shlex.split(line)
        assert program == "t5like" and say(*words, *["--tokens=4"] * (words[0] == "generate"))


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_a_checkpoint_of_t5x_is_imported_with_the_vocabulary_that_is_named(say, tmp_path):
    checkpoint, model = written(tmp_path / "t5x"), GOLDEN / "t5_1_1" / "spiece.model"
    shown = say("import", checkpoint, tmp_path / "run", "--vocabulary", model, "--sentinels", 20)
    assert f"{tmp_path / 'run'}: T5X, " in shown and "verify" not in shown
    settings = RunDirectory(tmp_path / "run").config()
    assert (settings.model.vocab, settings.data.vocabulary.pieces, settings.data.vocabulary.sentinels) == (256, 220, 20)
    (checkpoint.parent / "config.gin").write_text("network.T5Config.mlp_activations = ('silu', 'linear')\n")
    again = say("import", checkpoint.parent, tmp_path / "again", "--vocabulary", tmp_path / "run" / "vocabulary")
    assert "220 pieces" in again
    assert [RunDirectory(tmp_path / run).config().model.activation for run in ("run", "again")] == ["gelu_tanh", "silu"]
    for run in ("run", "again"):
        assert say("generate", tmp_path / run, "--prompt", "The <extra_id_0> rises", "--tokens", 3)


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_a_byt5_of_t5x_has_bytes(say, tmp_path):
    settings = small_config("t5", model__vocab=384)
    params = random_params(Transformer(settings.model, settings.rules), random_batch(settings))
    checkpoint = write_legacy(tmp_path / "checkpoint_5", t5x_tree(params))
    say("import", checkpoint, tmp_path / "run", "--vocabulary", "bytes")
    vocabulary = RunDirectory(tmp_path / "run").config().data.vocabulary
    assert (vocabulary.kind, vocabulary.size, vocabulary.sentinels) == ("bytes", 259, 11)
    assert say("generate", tmp_path / "run", "--prompt", "The <extra_id_0> rises", "--tokens", 3)


@pytest.mark.parametrize(
    ("words", "listed"),
    [
        (("import",), ("--vocabulary", "--sentinels", "--ignore", "--mesh.tensor", "--rules.embed")),
        (("import", "source", "run"), ("--vocabulary", "--sentinels", "--ignore")),
        (("export", "RUN"), ("--dtype", "--type", "--shard_gigabytes", "--step", "--train.directory")),
        (("export", "RUN", "folder"), ("--dtype", "--type", "--step")),
        (("verify", "RUN", "folder"), ("--tolerance", "--tokens", "--text", "--json", "--step")),
    ],
)
def test_help_lists_the_options(imported, capsys, words, listed):
    words = [str(imported("gpt2")) if word == "RUN" else word for word in words]
    capsys.readouterr()
    command([*words, "--help", "all"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: t5like {words[0]}")
    assert [flag for flag in listed if f"{flag} " not in shown] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ("import", "a", "b", "--vocabluary", "bytes"),
            "t5like import PATH... has no flag --vocabluary; did you mean ",
        ),
        (("import",), "t5like import needs a PATH first."),
        (
            ("export", "RUN", "out", "--dtpye", "float32"),
            "t5like export RUN has no flag --dtpye; did you mean '--dtype'?",
        ),
        (("export", "RUN", "out", "--dtype", "int8"), "invalid choice 'int8' for argument '--dtype'"),
        (("export", "RUN", "out", "--shard_gigabytes", "0"), "--shard_gigabytes 0.0 must be above 0."),
        (("verify", "RUN", "out", "--tolerence", "1"), "t5like verify RUN has no flag --tolerence; did you mean "),
        (("verify", "RUN", "out", "--tokens", "0"), "--tokens 0 must be above 0."),
        (("verify", "RUN", "none"), "none has no config.json: "),
        (("export", "RUN"), "t5like export RUN needs the Hugging Face folder after it."),
        (("verify", "RUN", "--json"), "t5like verify RUN needs the Hugging Face folder after it."),
        (("export",), "t5like export needs a SOURCE first: "),
        (("verify", "none", "out"), "none is neither a preset nor a run directory; "),
    ],
)
def test_a_mistake_in_the_words_of_a_command_is_one_sentence(imported, words, expected):
    run = str(imported("gpt2"))
    said = sentence(command, [run if word == "RUN" else word for word in words])
    assert said.replace(run, "RUN").startswith(expected), said
