"""A run goes on with the rows of its store, wherever that lies, and with no others."""

import dataclasses
import json
import pathlib
import re
import shutil

import pytest
from preparations import contents
from settings import sentence
from small import small_config
from test_inputs import lines, settings

from t5like.config import Config, Vocabulary, presets
from t5like.data.prepare import prepare
from t5like.runs.changes import acquire
from t5like.runs.directory import RunDirectory, config_of
from t5like.runs.rows import keep_rows, prepare_rows


@pytest.fixture
def begun(tmp_path) -> tuple[RunDirectory, Config]:
    """A run with a checkpoint, as far as names of folders go, and its store."""
    return begin(tmp_path)


def begin(folder: pathlib.Path, **changes) -> tuple[RunDirectory, Config]:
    base = small_config("gpt", train__directory=str(folder / "run"), model__vocab=512)
    config = dataclasses.replace(base, data=settings(folder, **changes))
    run = RunDirectory(pathlib.Path(config.train.directory))
    run.path.mkdir()
    presets.write(config, run.path)
    prepare_rows(run, config).save(run.vocabulary)
    keep_rows(run, config)
    (run.checkpoints / "4" / "state").mkdir(parents=True)
    return run, config


def test_a_run_goes_on_with_its_store_though_files_were_added(begun, tmp_path, capsys):
    run, config = begun
    (tmp_path / "text" / "a.txt").write_text(lines("a"))
    capsys.readouterr()
    prepare_rows(run, config)
    assert capsys.readouterr().out == ""


def test_a_run_refuses_a_store_that_grew_and_names_the_files(begun, tmp_path):
    run, config = begun
    (tmp_path / "text" / "a.txt").write_text(lines("a"))
    prepare(config.data, [].append, update="all")
    assert re.search(
        r"run was trained on other rows than data\.store=.*/store has with the files of now \(added a\.txt\): put them "
        r"back as they were and run `t5like prepare .*/run`\. To go on with the new rows, start another run",
        sentence(prepare_rows, run, config),
    )
    (tmp_path / "text" / "a.txt").unlink()
    prepare(config.data, [].append, update="all")
    prepare_rows(run, config)


def test_a_branch_has_the_rows_of_its_run_unless_it_is_given_other_data(begun, tmp_path):
    run, config = begun
    branch = RunDirectory(tmp_path / "branch")
    train = dataclasses.replace(config.train, directory=str(branch.path), branch_from=f"{run.path}/checkpoints/4")
    same = dataclasses.replace(config, train=train)
    (tmp_path / "text" / "a.txt").write_text(lines("a"))
    prepare_rows(branch, same)
    prepare(config.data, [].append, update="all")
    assert "run was trained on other rows" in sentence(prepare_rows, branch, same)
    prepare_rows(
        branch,
        dataclasses.replace(same, data=dataclasses.replace(config.data, held_out=0.3, store=f"{tmp_path}/other")),
    )


def test_a_run_whose_store_is_lost_refuses_other_files_before_they_are_prepared(begun, tmp_path):
    run, config = begun
    shutil.rmtree(config.data.store)
    before = (tmp_path / "text" / "d.txt").read_text()
    (tmp_path / "text" / "d.txt").write_text(lines("other"))
    assert "(changed d.txt)" in sentence(prepare_rows, run, config)
    assert not pathlib.Path(config.data.store).exists()
    (tmp_path / "text" / "d.txt").write_text(before)
    prepare_rows(run, config)


def test_a_lost_store_that_had_grown_is_made_again_as_it_was(tmp_path):
    """With the vocabulary that was learned before it grew."""
    vocabulary = Vocabulary(kind="bpe", size=300, sentinels=10, train_characters=2000)
    prepare(settings(tmp_path, vocabulary=vocabulary), [].append)
    (tmp_path / "text" / "a.txt").write_text("Words of quite another kind: zebra, quartz, jinx.\n" * 30 + lines("a"))
    run, config = begin(tmp_path, vocabulary=vocabulary)
    before = contents(config.data.store)
    shutil.rmtree(config.data.store)
    prepare_rows(run, config)
    assert contents(config.data.store) == before
    shutil.rmtree(config.data.store)
    prepare(config.data, [].append)
    assert "perhaps in another order" in sentence(prepare_rows, run, config)


def test_rows_that_differ_though_the_files_are_the_same_are_refused(begun, tmp_path):
    run, config = begun
    known = json.loads((run.path / "store.json").read_text())
    known = {name: value for name, value in known.items() if name != "checksum"}
    (run.path / "store.json").write_text(json.dumps(known | {"sha256": "0" * 64}))
    said = sentence(prepare_rows, run, config)
    assert "holds, although these were made from the same files, perhaps in another order or by another" in said


def test_a_run_its_store_and_its_sources_may_be_moved(begun, tmp_path):
    for name in ("store", "text", "run"):
        shutil.move(tmp_path / name, tmp_path / f"moved_{name}")
    run, config = RunDirectory(tmp_path / "moved_run"), begun[1]
    source = dataclasses.replace(config.data.sources[0], path=f"{tmp_path}/moved_text/*.txt")
    data = dataclasses.replace(config.data, store=f"{tmp_path}/moved_store", sources=(source,))
    train = dataclasses.replace(config.train, directory=str(run.path))
    config = dataclasses.replace(config, data=data, train=train)
    assert {"data.store", "data.sources.0.path"} < acquire(run, config).keys()
    prepare_rows(run, config)
    before = (run.path / "config.json").read_text()
    (tmp_path / "moved_text" / "d.txt").write_text(lines("other"))
    other = dataclasses.replace(config, data=dataclasses.replace(data, store=f"{tmp_path}/other"))
    assert "(changed d.txt)" in sentence(acquire, run, other)
    assert (run.path / "config.json").read_text() == before
    (run.path / "store.json").unlink()
    assert "belongs to a run with another data.store" in sentence(acquire, run, other)


def test_relative_paths_of_a_run_lead_from_the_folder_it_was_started_in(tmp_path, monkeypatch):
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    run, config = begin(home)
    monkeypatch.chdir(home)
    source = dataclasses.replace(config.data.sources[0], path="text/*.txt")
    data = dataclasses.replace(config.data, store="store", sources=(source,))
    config = dataclasses.replace(config, data=data, train=dataclasses.replace(config.train, directory="run"))
    presets.write(config, run.path)
    assert config_of("run") == config
    monkeypatch.chdir(other)
    shutil.move(home, tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved" / "store")  # so the sources are looked for as well
    run = RunDirectory(tmp_path / "moved" / "run")
    found = config_of(str(run.path))
    assert found.data.store == "store" and found.data.sources[0].path == f"{tmp_path}/moved/text/*.txt"
    found = dataclasses.replace(found, data=dataclasses.replace(found.data, store=str(tmp_path / "moved" / "store")))
    prepare_rows(run, found)
    found = config_of(str(run.path))
    assert found.data.store == f"{tmp_path}/moved/store"
    assert acquire(run, found).keys() == {"data.store", "data.sources.0.path", "train.directory"}
    (other / "store").mkdir()
    (run.path / "store.json").unlink()
    assert config_of(str(run.path)).data == found.data  # as it was written by now


def test_a_run_of_an_earlier_version_goes_on_and_knows_its_rows_from_then_on(begun, tmp_path):
    run, config = begun
    (run.path / "store.json").unlink()
    prepare_rows(run, config)
    keep_rows(run, config)
    (tmp_path / "text" / "a.txt").write_text(lines("a"))
    prepare(config.data, [].append, update="all")
    assert "(added a.txt)" in sentence(prepare_rows, run, config)


def test_a_damaged_note_is_a_sentence(begun):
    run, config = begun
    (run.path / "store.json").write_text("{")
    assert re.search(r"store\.json is damaged \(.+\): delete it to go on", sentence(prepare_rows, run, config))
