"""From a labelled file to a run: the config that is derived, the preset that says the same, and the command itself."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from test_survey import FILES

from t5like.cli import run
from t5like.commands.finetune import FinetuneOptions, given, plan_of
from t5like.config import Model, Vocabulary, presets
from t5like.config.python_text import as_preset
from t5like.errors import UserError
from t5like.tasks.asked import Asked
from t5like.tasks.base import Base
from t5like.tasks.derive import directory_of, model_of, said, smaller, store_of
from t5like.tasks.finetuning import Finetuning

PRESETS = ("tiny_t5", "tiny_bert", "tiny_gpt")
HEADS = {
    "classify": ("classification", "sequence"),
    "pair": ("classification", "sequence"),
    "regress": ("regression", "sequence"),
    "tag": ("token_classification", "token"),
    "span": ("span", "span"),
    "choice": ("multiple_choice", "choice"),
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Writes one of the surveyed files, and works beside it."""
    monkeypatch.chdir(tmp_path)

    def written(name):
        path, text, *_ = FILES[name]
        (tmp_path / path).write_text(text, "utf-8")
        return path

    return written


def derived(preset, path, head=False, **fixed):
    base = Base(presets.load(preset))
    return Finetuning(base, [path], Asked(head=head)).derived(fixed)


@pytest.mark.parametrize("name", FILES)
def test_every_task_has_a_config_for_every_family_that_can_learn_it(file, name):
    path, kind = file(name), FILES[name][2]
    for preset in PRESETS:
        for head in (False, True):
            if kind not in HEADS and (head or preset == "tiny_bert"):
                with pytest.raises(UserError, match="cannot write text"):
                    derived(preset, path, head)
                continue
            config = derived(preset, path, head).config
            objective, wanted = config.data.objective, HEADS.get(kind, ("", ""))
            if head or preset == "tiny_bert":
                learned = "multi_label_classification" if name == "several labels" else wanted[0]
                assert (objective.kind, config.model.head) == (learned, wanted[1])
                assert config.model.family == ("decoder" if preset == "tiny_gpt" else "encoder")
                assert config.model.labels == objective.labels
            else:
                text = {"tiny_t5": "sequence_to_sequence", "tiny_gpt": "prompt_target"}
                assert objective.kind == text[preset] and config.model.predicts_pieces
            assert config.train.best.startswith("task/")


def test_a_gpt_reads_a_prompt_that_ends_with_a_cue(file):
    path = file("classification")
    task = derived("tiny_gpt", path).config.data.sources[0].task
    assert task is not None and task.template == "{input} label:"
    task = derived("tiny_t5", path).config.data.sources[0].task
    assert task is not None and task.template == "{input}"


def test_the_cue_behind_a_gpt_s_prompt_and_the_pieces_of_a_flag_are_counted(file):
    path = file("classification")
    bytes_alone = Base(presets.load("tiny_gpt"), vocabulary=Vocabulary(kind="bytes", size=259, sentinels=0))
    task = Finetuning(bytes_alone, [path], Asked())
    (example, *_), written = task.found.facts["train"].sample, task.lengths.written
    assert task.lengths.of_rows("prompt_target")[0] == len(f"{example.input} label:") + 1 + written[0] - 1
    flags = [
        "--data.vocabulary.size",
        "280",
        "--data.vocabulary.kind",
        "byte_bpe",
        "--optimizer.learning_rate",
        "0.007",
    ]
    plan = plan_of(*given(["tiny_t5", path], flags))
    assert plan.config.data.vocabulary.size == 280 and "adamw with a rate of 0.007" in "\n".join(plan.choices)


def test_labels_are_never_cut_and_rows_cut_at_most_one_in_a_hundred(file):
    path = file("classification")
    task = Finetuning(Base(presets.load("tiny_t5")), [path], Asked())
    config = task.derived({}).config
    assert config.data.target_length is not None
    assert int(task.lengths.written.max()) <= config.data.target_length
    assert np.mean(task.lengths.read > config.data.length) <= 0.01


def test_flags_change_what_depends_on_them_and_epochs_take_the_place_of_steps(file):
    path = file("classification")
    before, other = derived("tiny_t5", path).config, derived("tiny_t5", path, **{"train.batch": 4}).config
    assert other.train.batch == 4 and other.train.steps == pytest.approx(
        before.train.steps * before.train.batch / 4, abs=1
    )
    assert other.optimizer.warmup > before.optimizer.warmup
    train = derived("tiny_t5", path, **{"train.epochs": 2.0}).config.train
    assert (train.steps, train.epochs) == (0, 2.0)
    data = derived("tiny_t5", path, **{"train.directory": "runs/other"}).config.data
    assert data.store == "stores/other"


def test_the_dry_run_prints_a_preset_that_is_the_same_config(file, capsys):
    path = file("classification")
    flags = ["--dry_run", "--train.batch", "8", "--optimizer.learning_rate", "0.002", "--data.held_out_test", "0.2"]
    run(["finetune", "tiny_t5", path, *flags])
    printed = capsys.readouterr()
    with open("preset.py", "w") as written:
        written.write(printed.out)
    config = presets.load("preset.py")
    assert config == plan_of(*given(["tiny_t5", path], flags)).config
    assert (config.train.batch, config.optimizer.learning_rate, config.data.held_out_test) == (8, 0.002, 0.2)
    assert config.train.directory == "runs/a" and "a hash of each example holds out" in printed.err


@pytest.mark.parametrize("name", ["t5_1_1_base", "ul2_base", "gpt2_small", "bert_base", "tiny_bert"])
def test_a_preset_can_be_written_as_it_was(name, tmp_path):
    config = presets.load(name)
    (tmp_path / "again.py").write_text(as_preset(config, 'With """quotes""" and \\.'))
    assert presets.load(str(tmp_path / "again.py")) == config


def test_stores_and_runs_lie_beside_their_source():
    assert [store_of(path) for path in ("runs/a", "x/runs/a", "/runs/a", "x/a", "a")] == [
        "stores/a", "x/stores/a", "/stores/a", "x/a_store", "a_store",
    ]  # fmt: skip
    assert directory_of("", "reviews") == "runs/reviews"
    assert directory_of("x/t5", "reviews") == "x/reviews"
    assert directory_of("x/t5/checkpoints/500", "reviews") == "x/reviews"
    assert directory_of("x/reviews", "reviews") == "x/reviews_tuned"


def test_small_files_have_small_vocabularies():
    settings = presets.load("tiny_t5").data.vocabulary
    assert smaller(settings, 10**6) == settings
    small = smaller(settings, 10_000)
    assert (small.kind, small.size) == ("byte_bpe", 656)


def test_a_head_of_other_labels_than_the_run_has_begins_anew_and_one_that_cannot_write_is_a_sentence(file):
    task = Finetuning(Base(presets.load("tiny_bert")), [file("classification")], Asked())
    there = presets.load("tiny_bert")
    model = dataclasses.replace(there.model, head="sequence", labels=3)
    base = Base(dataclasses.replace(there, model=there.model), "runs/x")._replace(config=_with_model(there, model))
    assert model_of(base, "classification", task.found.task).labels == 2
    derived = task.derived({})
    line = "the head begins anew: runs/x has one of 3 labels, and this task has 2"
    assert line in said(base, derived, derived.config)
    with pytest.raises(UserError, match="runs/x has the head 'sequence' and none of the vocabulary"):
        model_of(base, "sequence_to_sequence", task.found.task)


def _with_model(config, model: Model):
    changed = object.__new__(type(config))
    vars(changed).update(vars(config) | {"model": model})
    return changed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["tiny_t5"], "t5like finetune tiny_t5 needs a RUN or preset, and behind it the files of a task"),
        (
            ["tiny_t5", "a.tsv", "--epochs", "3"],
            "t5like finetune tiny_t5 has no flag --epochs; did you mean",
        ),
        (
            ["tiny_t5", "a.tsv", "--inptu", "text"],
            "t5like finetune tiny_t5 has no flag --inptu; did you mean '--input'?",
        ),
        (["tiny_t5", "a.tsv", "--trian.batch", "3"], "t5like finetune tiny_t5 has no flag --trian.batch; did you mean"),
        (["tiny_t5", "b.tsv"], "No file matches 'b.tsv'"),
        (["tiny_bert", "a.tsv", "--task", "text", "--target", "label"], "the preset is an encoder alone and cannot"),
        (["tiny_t5", "a.tsv", "--metric", "bleu"], "The metric 'bleu' compares texts, and the targets here are labels"),
        (["runs/none", "a.tsv"], "runs/none is neither a preset nor a run directory"),
    ],
)
def test_mistakes_are_sentences(file, words, sentence):
    file("classification")
    with pytest.raises(UserError) as error:
        run(["finetune", *words])
    assert str(error.value).startswith(sentence)


def test_task_inspect_says_columns_lengths_and_the_command(file, capsys):
    run(["task", "inspect", file("classification"), "--run", "tiny_t5"])
    said = capsys.readouterr().out
    assert "label   label" in said and "bad 18" in said
    assert "classify: train " in said and "cut by hash" in said and "64 cuts none" in said
    assert said.rstrip().endswith("t5like finetune tiny_t5 a.tsv --task classify --input text --target label")


@pytest.mark.slow
def test_a_file_becomes_a_tested_run_and_no_other_run_takes_its_place(file, capsys):
    path = file("a label before a text")
    flags = ["--train.steps", "4", "--train.batch", "8", "--train.tensorboard", "False"]
    flags += ["--train.compilation_cache", "", "--eval.batch", "8"]
    run(["finetune", "tiny_bert", path, *flags])
    said = capsys.readouterr().out
    assert "rows of" in said and "test split" in said
    assert said.rstrip().endswith("t5like predict runs/a NEW_FILE")  # for transformers has no such BERT to export
    results = json.loads(next(iter(pathlib.Path("runs/a").rglob("results*.json"))).read_text())
    assert results
    with pytest.raises(UserError, match=r"runs/a holds another run, which differs in .*: choose --train.directory"):
        run(["finetune", "tiny_bert", path, *flags, "--model.embed", "64"])


def test_a_plan_says_what_was_chosen(file):
    plan = plan_of(["tiny_gpt", file("translation")], [], FinetuneOptions())
    said = "\n".join(plan.choices)
    for part in ("--task translate --input translation.en", "rows of", "from scratch", "epochs", "evaluation every"):
        assert part in said
