"""What breaks a preparation, or a store, is one sentence that names it; and what does not matter breaks nothing."""

import dataclasses
import gzip
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from etils import epath
from preparations import LEAKED, contents, settings
from settings import sentence

from t5like import config
from t5like.data.prepare import prepare
from t5like.data.prepare.progress import Progress
from t5like.data.prepare.workers import pool
from t5like.data.store import Store


def said(data: config.Data) -> str:
    return sentence(prepare, data, [].append)


def broken_files(folder: pathlib.Path) -> dict[str, config.Source]:
    """A source of each format whose second file is cut short."""
    import pyarrow
    import pyarrow.parquet

    lines = [f"line {number} of a file" for number in range(3000)]
    whole = gzip.compress("\n".join(lines).encode())
    (folder / "a.gz").write_bytes(whole)
    (folder / "b.gz").write_bytes(whole[: len(whole) // 2])
    pyarrow.parquet.write_table(pyarrow.table({"text": lines}), folder / "a.parquet", row_group_size=1000)
    content = bytearray((folder / "a.parquet").read_bytes())
    content[len(content) // 4 : len(content) // 3] = bytes(len(content) // 3 - len(content) // 4)
    (folder / "b.parquet").write_bytes(content)
    return {
        "gz": config.Source(kind="text", path=f"{folder}/*.gz", document="line"),
        "parquet": config.Source(kind="parquet", path=f"{folder}/*.parquet"),
    }


@pytest.mark.parametrize("kind", ["gz", "parquet"])
def test_a_damaged_file_in_the_midst_is_a_sentence_and_once_it_is_mended_the_command_goes_on(tmp_path, kind):
    data = settings(tmp_path, filters=())
    data = dataclasses.replace(data, sources=(*data.sources, broken_files(tmp_path)[kind]))
    assert re.search(rf"b\.{kind} cannot be read: ", said(data))
    assert (tmp_path / "store" / "units" / "00003.json").exists()
    (tmp_path / f"b.{kind}").write_bytes((tmp_path / f"a.{kind}").read_bytes())
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "train").glob("0000[0-3].bin")}
    prepare(data, [].append)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    undisturbed = dataclasses.replace(data, store=f"{tmp_path}/undisturbed")
    prepare(undisturbed, [].append)
    assert Store(epath.Path(data.store)).hash == Store(epath.Path(undisturbed.store)).hash


@pytest.mark.parametrize("content", [None, "", "[]", '{"format": '])
def test_a_missing_or_damaged_plan_is_a_sentence(tmp_path, content):
    data = settings(tmp_path, filters=())
    prepare(data, [].append)
    plan = tmp_path / "store" / "plan.json"
    plan.unlink() if content is None else plan.write_text(content)
    assert re.search(r"plan\.json is (missing|damaged \(.+\)): delete .*/store and prepare it again\.$", said(data))


def test_another_vocabulary_in_a_finished_or_unfinished_store_is_a_sentence(tmp_path):
    bpe = config.Vocabulary(kind="bpe", size=400, sentinels=10)
    data = settings(tmp_path, vocabulary=bpe, filters=())
    other = dataclasses.replace(data, store=f"{tmp_path}/other", sources=data.sources[:1])
    for each in (data, other):
        prepare(each, [].append)
    unfinished = dataclasses.replace(data, store=f"{tmp_path}/unfinished")

    def none(work, tasks):
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        prepare(unfinished, [].append, none)
    for store in ("store", "unfinished"):
        shutil.rmtree(tmp_path / store / "vocabulary")
        shutil.copytree(tmp_path / "other" / "vocabulary", tmp_path / store / "vocabulary")
    assert re.search(
        r"store was tokenised with another vocabulary than .*/vocabulary holds: delete the store and prepare",
        said(data),
    )
    assert re.search(
        r"^The vocabulary changed while .*/unfinished was being prepared: delete that folder and start",
        said(unfinished),
    )


@pytest.mark.parametrize("name", ["train/00001.bin", "validation/00002.documents"])
def test_a_corrupted_store_file_is_named(tmp_path, name):
    data = settings(tmp_path, filters=())
    prepare(data, [].append)
    content = bytearray((tmp_path / "store" / name).read_bytes())
    content[0] ^= 1
    (tmp_path / "store" / name).write_bytes(content)
    assert re.search(rf"{name} has changed since it was written: delete the store and prepare it again\.$", said(data))


@pytest.mark.parametrize("folder", ["/proc/store", "/dev/null/store"])
def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path, folder):
    data = dataclasses.replace(settings(tmp_path), store=folder)
    assert re.search(rf"^data\.store={folder} cannot be written: ", said(data))


FULL = """
import pathlib, resource, sys
sys.path[:0] = sys.argv[1:3]
from preparations import settings
from t5like.data.prepare import prepare
from t5like.data.prepare.workers import pool
from t5like.data.store import Store
from t5like.errors import UserError

data = settings(pathlib.Path(sys.argv[3]), filters=())
# A limit on the size of a file, which workers inherit, stands in for a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    prepare(data, [].append, pool(2))
except UserError as error:
    print(error)
"""


def test_a_full_disk_in_a_worker_process_is_a_sentence(tmp_path):
    here = pathlib.Path(__file__).parent
    command = [sys.executable, "-c", FULL, str(here), str(here.parent), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert not result.stderr
    assert "cannot be written: File too large; once that is mended, the same command goes on" in result.stdout


def test_names_and_rates_of_sources_do_not_matter_to_a_store(tmp_path):
    data = settings(tmp_path)
    prepare(data, [].append)
    named = tuple(dataclasses.replace(s, name=f"n{n}", rate=n + 1.0) for n, s in enumerate(data.sources))
    before, heard = contents(data.store), []
    prepare(dataclasses.replace(data, sources=named), heard.append)
    assert not heard and contents(data.store) == before


def test_what_is_read_is_kept_or_dropped(tmp_path):
    data = settings(tmp_path)
    prepare(data, [].append)
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    dropped = [0] * len(data.filters)
    for source in manifest["sources"]:
        kept = sum(split["documents"] for split in source["splits"].values())
        assert source["read"]["documents"] == kept + sum(filter["dropped"] for filter in source["filters"])
        for number, filter in enumerate(source["filters"]):
            dropped[number] += filter["dropped"]
            assert len(filter["examples"]) == min(filter["dropped"], 3)
    # Each of four files has one short line, three lines twice, and the leak; one line is in all of them.
    assert dropped[:3] == [0, 4, 4 * 3 + 3] and dropped[3] >= 4 * 3 and dropped[4] == 4
    examples = [e for source in manifest["sources"] for e in source["filters"][4]["examples"]]
    assert {e["text"] for e in examples} == {LEAKED} and examples[0]["document"].startswith(f"{tmp_path}/0.txt#")


def test_filters_do_not_move_documents_between_the_splits(tmp_path):
    both = {}
    for store, filters in (("none", ()), ("all", settings(tmp_path).filters[1:])):
        data = settings(tmp_path, store, filters=filters)
        prepare(data, [].append)
        both[store] = {split: texts(tmp_path / store / split) for split in ("train", "validation")}
    for split in ("train", "validation"):
        assert both["all"][split] < both["none"][split]
    assert not both["none"]["train"] & both["none"]["validation"]


def texts(folder: pathlib.Path) -> set[bytes]:
    """The documents of a split of bytes."""
    import numpy as np

    tokens = np.concatenate([np.fromfile(path, "<u2") for path in folder.glob("*.bin")])
    ends = np.flatnonzero(tokens == 1)
    return {bytes((part[part > 2] - 3).astype(np.uint8)) for part in np.split(tokens, ends + 1)[:-1]}


def test_a_preparation_stopped_while_it_looks_for_duplicates_goes_on_there(tmp_path):
    prepare(settings(tmp_path, "undisturbed"), [].append)
    data = settings(tmp_path)

    def two(work, tasks):
        yield from map(work, tasks[:2])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(data, [].append, two)
    signatures = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "signatures").iterdir()}
    assert len(signatures) == 2 * 3  # of two units, for two filters and the places of documents
    seen = []

    def watching(work, tasks):
        yield from map(work, tasks)
        seen.append({path: path.stat().st_mtime_ns for path in signatures if path.exists()})

    prepare(data, [].append, watching)
    assert seen[0] == signatures and contents(data.store) == contents(f"{tmp_path}/undisturbed")


def test_two_preparations_of_one_store_wait_for_each_other(tmp_path):
    data = settings(tmp_path)
    heard: list[str] = []

    def second(work, tasks):
        yield from map(work, tasks)
        begun.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        heard.append(begun[0].stdout.readline())

    script = (
        "import sys, pathlib; sys.path[:0] = sys.argv[1:3]; from preparations import settings; "
        "from t5like.data.prepare import prepare; "
        "prepare(settings(pathlib.Path(sys.argv[3])), lambda text: print(text, flush=True))"
    )
    here, begun = pathlib.Path(__file__).parent, []
    command = [sys.executable, "-c", script, str(here), str(here.parent), str(tmp_path)]
    prepare(data, [].append, once(second))
    holder = rf"t5like prepare \(process {os.getpid()} on .*\)"
    assert re.fullmatch(rf"{tmp_path}/store is in use by {holder}; waiting for it \.\.\.\n", heard[0])
    rest = begun[0].communicate(timeout=60)[0]
    assert (begun[0].returncode, "Tokenised" in rest) == (0, False)


def once(workers):
    """Workers for the first phase, and those of this process for the others."""
    waiting = [workers]
    return lambda work, tasks: (waiting.pop() if waiting else pool(1))(work, tasks)


def test_progress_counts_what_was_done_before_but_not_for_the_speed(monkeypatch):
    clock, heard = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    progress = Progress("Tokenised", dict.fromkeys(range(6), 10**6), {0, 1}, heard.append)
    for unit in range(6):
        clock[0] += 10 * (unit > 1)
        progress(unit, 2 * 10**6, documents=500, tokens=1000)
    assert heard == [
        "Tokenised 3 of 6 units: 1,500 documents, 3,000 tokens, 0.2 MB/s, 0:00:30 left",
        "Tokenised 4 of 6 units: 2,000 documents, 4,000 tokens, 0.2 MB/s, 0:00:20 left",
        "Tokenised 5 of 6 units: 2,500 documents, 5,000 tokens, 0.2 MB/s, 0:00:10 left",
        "Tokenised 6 of 6 units: 3,000 documents, 6,000 tokens, 0.2 MB/s, 0:00:00 left",
    ]
