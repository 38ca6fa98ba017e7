"""Every text is in exactly one place of a pack table, and a table that is damaged or another's is never read."""

import dataclasses
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from etils import epath
from preparations import contents

from t5like import config
from t5like.data.packing.pack_table import PackTable, make_tables
from t5like.data.prepare import prepare
from t5like.data.store import SPLITS, Store
from t5like.data.vocabulary import Bytes, Vocabulary
from t5like.errors import UserError


def settings(folder: pathlib.Path, **changes) -> config.Data:
    """English and Chinese documents, a quarter of them longer than a row."""
    lines = [f"{n} " + "words of a line " * (n % 9) for n in range(60)] + [
        f"{n} 春眠不觉晓" * (n % 5 + 1) for n in range(40)
    ]
    (folder / "lines.txt").write_text("\n".join(lines))
    (folder / "poems.txt").write_text("\n".join(f"第{n}首 白日依山尽" for n in range(30)))
    files = tuple(
        config.Source(kind="text", path=f"{folder}/{name}.txt", document="line") for name in ("lines", "poems")
    )
    fields = {"objective": config.Objective(kind="causal"), "documents": True, "length": 64, "held_out": 0.3, **changes}
    vocabulary = config.Vocabulary(kind="bytes", size=259, sentinels=10)
    return config.Data(store=f"{folder}/store", sources=files, vocabulary=vocabulary, **fields)


def opened(data: config.Data) -> Store:
    prepare(data, [].append)
    return Store(epath.Path(data.store))


def examples(
    data: config.Data, store: Store, source: int, split, remote: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """All examples of a table, and the row of each."""
    table = PackTable(Store(store.folder, remote), data, source, split)
    return table.read(np.arange(table.rows))


@pytest.mark.parametrize(("pack", "window"), [(True, 2**16), (False, 2**16), (True, 7)])
def test_each_token_of_a_document_is_in_one_example_of_one_row(tmp_path, monkeypatch, pack, window):
    monkeypatch.setattr("t5like.data.packing.arrangement.WINDOW", window)
    data = settings(tmp_path, pack=pack)
    store = opened(data)
    for source, split in itertools.product(range(2), SPLITS):
        table, rows = examples(data, store, source, split)
        documents = np.concatenate(list(store.document_tables(source, split, 7)))[:, 0].astype(np.int64)
        uses = np.zeros(documents.sum(), int)
        for start, number, length in table:
            uses[start : start + length] += 1
            before = documents[:number].sum()
            assert before <= start and start + length <= before + documents[number]
        # What is left out are cuts that hold nothing but EOS.
        ends = np.cumsum(documents) - 1
        assert set(np.flatnonzero(uses == 0)) <= set(ends[documents % data.window == 1]) and uses.max() == 1
        totals = np.bincount(rows, weights=table[:, 2])
        assert totals.max() <= data.length and (pack or np.bincount(rows).max() == 1)
        assert (len(totals) < 0.8 * len(table)) == pack


def test_a_table_read_through_tensorstore_is_the_same(tmp_path):
    data = settings(tmp_path)
    store = opened(data)
    for here, there in zip(*(examples(data, store, 0, "train", remote) for remote in (False, True)), strict=True):
        np.testing.assert_array_equal(here, there)


def test_documents_that_are_longer_than_a_row_are_counted(tmp_path):
    data = settings(tmp_path)
    store = opened(data)
    for source, split in itertools.product(range(2), SPLITS):
        documents = np.concatenate(list(store.document_tables(source, split, 1000)))[:, 0]
        description = PackTable(store, data, source, split).description
        assert description["cut"] == (documents > data.window).sum()
        assert description["examples"] >= len(documents)


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_tables_of_documents_are_those_of_the_files_one_after_the_other(tmp_path, most):
    store = opened(settings(tmp_path))
    whole = [store.documents(0, "train", n) for n in range(len(store.files(0, "train")))]
    tables = list(store.document_tables(0, "train", most))
    np.testing.assert_array_equal(np.concatenate(tables), np.concatenate(whole))
    assert max(map(len, tables)) <= most


def test_another_objective_or_length_has_a_table_of_its_own(tmp_path):
    data = settings(tmp_path)
    others = [
        dataclasses.replace(data, length=128),
        dataclasses.replace(data, pack=False),
        dataclasses.replace(data, objective=config.Objective(kind="prefix")),
    ]
    for count, each in enumerate([data, *others, data], 1):
        store = opened(each)
        assert len(list((tmp_path / "store" / "packs").iterdir())) == min(count, 4)
        assert PackTable(store, each, 0, "train").rows
    rows = [PackTable(opened(each), each, 0, "train").rows for each in (data, *others)]
    assert rows[1] < rows[0] < rows[2]


def test_a_source_without_validation_documents_has_an_empty_table(tmp_path):
    data = settings(tmp_path)
    (tmp_path / "one.txt").write_text("a single document")
    one = dataclasses.replace(data.sources[0], path=f"{tmp_path}/one.txt", name="one")
    data = dataclasses.replace(data, sources=(*data.sources, one), held_out=0.05)
    store = opened(data)
    counts = {split: store.manifest["sources"][2]["splits"][split]["documents"] for split in SPLITS}
    assert sorted(counts.values()) == [0, 1]
    for split in SPLITS:
        table, _ = examples(data, store, 2, split)
        assert len(table) == counts[split]


def test_tables_of_a_store_that_was_prepared_anew_are_made_anew(tmp_path):
    data = settings(tmp_path)
    before = PackTable(opened(data), data, 0, "train").rows
    (tmp_path / "store" / "manifest.json").unlink()
    with (tmp_path / "lines.txt").open("a") as file:
        file.write("\n".join(f"another line {n}" for n in range(200)))
    prepare(data, [].append)
    store = Store(epath.Path(data.store))
    assert PackTable(store, data, 0, "train").rows > before


KILLED = """
import pathlib, sys
sys.path[:0] = sys.argv[1:3]
from test_pack_table import killed_writes
print(killed_writes(pathlib.Path(sys.argv[3])))
"""


def test_a_table_whose_writing_is_killed_is_written_again_and_leaves_nothing(tmp_path):
    """In a process of its own, which no thread keeps from forking."""
    here = pathlib.Path(__file__).parent
    command = [sys.executable, "-c", KILLED, str(here), str(here.parent), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert not result.returncode, result.stderr
    # Two files for each of two splits of two sources, and their description, are each opened and renamed.
    assert int(result.stdout) >= 18


def killed_writes(folder: pathlib.Path) -> int:
    """Before how many writes a child was killed; each time, what it left is made whole."""
    data = settings(folder)
    store = opened(data)
    expected = contents(data.store)
    writes = 0
    while True:
        (store.folder / "packs").rmtree()
        if not (child := os.fork()):
            kill_before(writes)
            make_tables(store, data, Vocabulary(Bytes()), [].append)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            return writes
        make_tables(store, data, Vocabulary(Bytes()), [].append)
        assert contents(data.store) == expected, writes
        writes += 1


def kill_before(write: int) -> None:
    """From here on, this process is killed before so many files have been opened for writing, renamed or removed."""
    left = [write]

    def hook(event, arguments):
        if event in ("os.rename", "os.remove", "os.mkdir") or (event == "open" and "w" in str(arguments[1])):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


@pytest.mark.parametrize("name", ["0-train.examples", "1-validation.rows"])
def test_a_changed_or_shortened_table_is_found_and_named(tmp_path, name):
    data = settings(tmp_path)
    store = opened(data)
    assert not list(store.verify())
    (path,) = (tmp_path / "store" / "packs").glob(f"*/{name}")
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:-8])
    source, split = name.split(".")[0].split("-")
    sentence = (
        rf"{name} has \d+ bytes where its table\.json has \d+: delete the folder .* and run the same command again"
    )
    with pytest.raises(UserError, match=sentence):
        PackTable(store, data, int(source), split)  # pyright: ignore[reportArgumentType]
    content[5] ^= 1
    path.write_bytes(content)
    (damaged,) = store.verify()
    remedy = f"delete the folder {path.parent} and run the same command again."
    assert damaged == f"{path} has changed since it was written: {remedy}"
    with pytest.raises(UserError, match=f"{name} has changed since it was written"):
        prepare(data, [].append)


@pytest.mark.parametrize("content", ["", "[1]", '{"tables": '])
def test_a_damaged_description_is_a_sentence(tmp_path, content):
    data = settings(tmp_path)
    store = opened(data)
    (path,) = (tmp_path / "store" / "packs").glob("*/table.json")
    assert json.loads(path.read_text())["lengths"] == {"decoder": 64}
    path.write_text(content)
    sentence = r"table\.json is (missing|damaged \(.+\)): delete the folder .* and run the same command again\.$"
    with pytest.raises(UserError, match=sentence):
        PackTable(store, data, 0, "train")
    (damaged,) = store.verify()
    assert "table.json is damaged (" in damaged
    path.unlink()
    with pytest.raises(UserError, match=sentence):
        PackTable(store, data, 0, "train")
