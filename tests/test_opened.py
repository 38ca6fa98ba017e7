"""Commands that read a run: no optimizer state is needed, and the data is prepared with the run's vocabulary."""

import json
import pathlib
import shutil

import pytest
from settings import sentence
from small import replace
from starts import BYTES, LEARNED, flags_of, import_run, quietly, run_config, write_texts

from t5like.cli import run as command
from t5like.config import Config
from t5like.data.prepare import prepare
from t5like.data.vocabulary import open_vocabulary
from t5like.runs.directory import RunDirectory, relocated
from t5like.train.loop import train


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> dict[str, pathlib.Path]:
    return write_texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def imported(texts, tmp_path_factory) -> Config:
    """A directory as an import writes it, whose vocabulary is a file in it and whose text is not at hand."""
    directory = tmp_path_factory.mktemp("imported") / "run"
    import_run(run_config(texts["first"], directory, data__vocabulary=LEARNED))
    return RunDirectory(directory).config()


@pytest.fixture(scope="module")
def trained(texts, tmp_path_factory) -> Config:
    """A run of two steps on the first text, with a vocabulary that was learned from it."""
    settings = run_config(texts["first"], tmp_path_factory.mktemp("trained") / "run", data__vocabulary=LEARNED)
    train(settings)
    return settings


@pytest.mark.slow
def test_an_imported_run_is_evaluated_on_text_that_is_prepared_for_it(imported, texts, tmp_path, say):
    there = imported.train.directory
    flags = flags_of(run_config(texts["second"], tmp_path / "x"))
    said = say("eval", there, *flags)
    assert f"{there}, step 0, " in said
    assert say("eval", there, *flags) == said
    bytes_store = replace(imported.data, vocabulary=BYTES, store=str(tmp_path / "bytes"))
    prepare(bytes_store, quietly)
    said = sentence(command, ["eval", there, f"--data.store={tmp_path}/bytes"])
    assert said.startswith(f"{tmp_path}/bytes was prepared with other data.vocabulary: choose another data.store")


@pytest.mark.slow
def test_an_imported_run_answers_prompts_and_held_out_passages(imported, texts, tmp_path, say):
    there, flags = imported.train.directory, flags_of(run_config(texts["second"], tmp_path / "x"))
    assert say("generate", there, "--prompt", "the model", "--tokens=4")
    (passage,) = map(json.loads, say("generate", there, "--held_out=1", "--json", *flags).splitlines())
    assert passage["shown"]


def test_an_imported_encoder_fills_masks(texts, tmp_path, say):
    import_run(run_config(texts["first"], tmp_path / "run", "bert"))
    (record,) = map(json.loads, say("fill", tmp_path / "run", "--text", "the [MASK]", "--top=2", "--json").splitlines())
    assert len(record["masks"][0]) == 2


@pytest.mark.slow
def test_an_imported_run_may_be_moved_with_its_vocabulary(imported, texts, tmp_path, say):
    old, new = imported.train.directory, tmp_path / "moved"
    shutil.copytree(old, new)
    pathlib.Path(old).rename(tmp_path / "hidden")  # nothing may be found at the old place
    try:
        assert f"{new}, step 0, " in say("eval", new, *flags_of(run_config(texts["second"], tmp_path / "x")))
    finally:
        (tmp_path / "hidden").rename(old)


def test_a_vocabulary_moves_with_its_run_and_no_other(imported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def path_after(path: str, old: str, new: str) -> str:
        vocabulary = replace(imported.data.vocabulary, path=path)
        settings = replace(imported, data=replace(imported.data, vocabulary=vocabulary))
        after = relocated(replace(settings, train=replace(settings.train, directory=old)), new)
        assert after.train.directory == new
        return after.data.vocabulary.path

    assert path_after("runs/a/vocabulary", "runs/a", "old/b") == "old/b/vocabulary"
    assert path_after("/x/a/vocabulary/spiece.model", "/x/a", "b") == "b/vocabulary/spiece.model"
    assert path_after("runs/ab/vocabulary", "runs/a", "old/b") == "runs/ab/vocabulary"
    # The same place under another name: a store that was prepared for it stays the right one.
    assert path_after("runs/a/vocabulary", "runs/a", f"{tmp_path}/runs/a") == "runs/a/vocabulary"


@pytest.mark.slow
def test_a_trained_run_is_evaluated_on_other_text_with_its_own_vocabulary(trained, texts, tmp_path, say):
    there = trained.train.directory
    for _ in range(2):
        assert f"{there}, step 2, " in say("eval", there, *flags_of(run_config(texts["second"], tmp_path / "x")))
    own, other = (open_vocabulary(pathlib.Path(folder) / "vocabulary") for folder in (there, tmp_path / "store_second"))
    assert own.hash == other.hash


@pytest.mark.slow
def test_a_store_with_tokens_of_another_vocabulary_is_not_evaluated_on(trained, texts, tmp_path):
    """As if the store had been made anew since the run was trained, with a vocabulary from text that changed."""
    folder = tmp_path / "run"
    shutil.copytree(trained.train.directory, folder)
    prepare(run_config(texts["second"], tmp_path / "x", data__vocabulary=LEARNED).data, quietly)
    written = json.loads((folder / "config.json").read_text())
    written["data"]["sources"][0]["path"] = str(texts["second"])
    written["data"]["store"] = str(tmp_path / "store_second")
    (folder / "config.json").write_text(json.dumps(written))
    assert sentence(command, ["eval", str(folder)]) == (
        f"{tmp_path}/store_second holds tokens of another vocabulary than {folder}'s: choose another data.store."
    )
