"""Files of a store's sources that are added, changed, removed, renamed or moved are known as such by their content."""

import dataclasses
import json
import pathlib
import re
import shutil
import time

import numpy as np
import pytest
from etils import epath
from preparations import contents
from settings import sentence

from t5like import config
from t5like.data.prepare import prepare
from t5like.data.sources.identity import BLOCK, SAMPLED, SAMPLES, WHOLE, differences, identify
from t5like.data.store import Store


def lines(name: str, count: int = 40) -> str:
    return "".join(f"{name} has a line of its own with the number {n}\n" for n in range(count))


def settings(folder: pathlib.Path, store: str = "store", **changes) -> config.Data:
    """A source of all files in `text`, of which there are two."""
    (folder / "text").mkdir(exist_ok=True)
    for name in "bd":
        if not (folder / "text" / f"{name}.txt").exists():
            (folder / "text" / f"{name}.txt").write_text(lines(name))
    fields = {
        "sources": (config.Source(kind="text", path=f"{folder}/text/*.txt", document="line"),),
        "vocabulary": config.Vocabulary(kind="bytes", size=259, sentinels=10),
        "objective": config.Objective(kind="causal"),
        "length": 32,
        "held_out": 0.2,
        **changes,
    }
    return config.Data(store=f"{folder}/{store}", **fields)


def hash_of(data: config.Data) -> str:
    return Store(epath.Path(data.store)).hash


def written(data: config.Data) -> dict[str, int]:
    """The files of tokens, and when each was written."""
    root = pathlib.Path(data.store)
    return {path.relative_to(root).as_posix(): path.stat().st_mtime_ns for path in root.rglob("*.bin")}


def test_added_files_make_new_units_alone_and_rows_in_another_order(tmp_path):
    data, said = settings(tmp_path), []
    prepare(data, [].append)
    before, first = written(data), hash_of(data)
    (tmp_path / "text" / "a.txt").write_text(lines("a"))
    prepare(data, said.append, update="all")
    assert re.search(r"differ .*\(added a\.txt\): 1 unit to make, 1 kept; the order of rows is new", said[0])
    after = written(data)
    assert {name: after[name] for name in before} == before and len(after) == 2 * len(before)
    assert hash_of(data) != first
    text = b"".join(content for name, content in contents(data.store).items() if name.endswith(".bin"))
    assert len(text) == 2 * (3 * len(lines("a")))  # two bytes a token, and EOS for each line feed
    said.clear()
    prepare(data, said.append, update="all")
    assert said == []


def test_units_whose_split_ends_the_text_are_made_anew_with_what_is_added(tmp_path):
    """Where few documents are, the end of all text is held out, and that is another one then."""
    source = config.Source(kind="text", path=f"{tmp_path}/text/*.txt", document="file")
    data, said = settings(tmp_path, sources=(source,), held_out=0.01), []
    prepare(data, [].append)
    (tmp_path / "text" / "e.txt").write_text(lines("e"))
    prepare(data, said.append, update="all")
    assert "(added e.txt): 1 unit to make, 0 kept" in said[0]
    fresh = dataclasses.replace(data, store=f"{tmp_path}/fresh")
    prepare(fresh, [].append)
    assert hash_of(data) == hash_of(fresh)


def test_a_file_that_goes_again_leaves_the_store_as_it_was(tmp_path):
    data, said = settings(tmp_path), []
    prepare(data, [].append)
    before, first = contents(data.store), hash_of(data)
    (tmp_path / "text" / "a.txt").write_text(lines("a"))
    prepare(data, [].append, update="all")
    (tmp_path / "text" / "a.txt").unlink()
    prepare(data, said.append, update="all")
    assert "(removed a.txt): 0 units to make, 1 kept" in said[0]
    assert hash_of(data) == first and contents(data.store) == before


def test_a_changed_file_is_read_again(tmp_path):
    data, said = settings(tmp_path), []
    prepare(data, [].append)
    (tmp_path / "text" / "d.txt").write_text(lines("D"))
    prepare(data, said.append, update="all")
    assert "(changed d.txt): 1 unit to make, 0 kept" in said[0]
    fresh = dataclasses.replace(data, store=f"{tmp_path}/fresh")
    prepare(fresh, [].append)
    assert hash_of(data) == hash_of(fresh) and not (tmp_path / "store" / "train" / "00000.bin").exists()


def test_a_run_that_begins_takes_added_files_and_no_other_changes(tmp_path):
    data = settings(tmp_path)
    prepare(data, [].append)
    (tmp_path / "text" / "a.txt").write_text(lines("a"))
    prepare(data, [].append)
    first = hash_of(data)
    prepare(data, [].append, update="added")
    assert hash_of(data) != first
    (tmp_path / "text" / "a.txt").unlink()
    (tmp_path / "text" / "d.txt").write_text("changed\n")
    said = sentence(prepare, data, [].append, update="added")
    assert re.search(
        r"was made from other files than data\.sources names now \(changed d\.txt; removed a\.txt\): put them back as "
        r"they were, take the changes in with `t5like prepare`",
        said,
    )


def test_sources_that_are_moved_or_renamed_are_the_same_and_others_are_refused(tmp_path):
    data, said = settings(tmp_path), []
    prepare(data, [].append)
    shutil.move(tmp_path / "text", tmp_path / "elsewhere")
    shutil.move(tmp_path / "elsewhere" / "d.txt", tmp_path / "elsewhere" / "e.txt")
    moved = dataclasses.replace(
        data, sources=(dataclasses.replace(data.sources[0], path=f"{tmp_path}/elsewhere/*.txt"),)
    )
    shutil.move(tmp_path / "store", tmp_path / "moved")
    moved = dataclasses.replace(moved, store=f"{tmp_path}/moved")
    for update in ("none", "added", "all"):
        prepare(moved, said.append, update=update)
    assert said == []
    (tmp_path / "elsewhere" / "e.txt").write_text("other\n")
    for update in ("none", "all"):
        assert "moved was prepared with other data.sources: choose" in sentence(
            prepare, moved, [].append, update=update
        )


def test_a_finished_store_does_without_its_sources(tmp_path):
    data, said = settings(tmp_path), []
    prepare(data, [].append)
    shutil.rmtree(tmp_path / "text")
    prepare(data, said.append, update="all")
    assert said == []


def test_evaluation_sets_and_the_file_of_a_vocabulary_are_inputs_too(tmp_path):
    (tmp_path / "evaluation.txt").write_text("one two three four five six seven eight nine ten")
    overlap = config.Overlap(sources=(config.Source(kind="text", path=f"{tmp_path}/evaluation.txt"),))
    data = settings(tmp_path, filters=(overlap,))
    prepare(data, [].append)
    (tmp_path / "evaluation.txt").write_text("something else")
    said = sentence(prepare, data, [].append, update="added")
    assert re.search(r"^data\.filters\.0\.sources\.0 changed since .*/store was prepared \(evaluation\.txt\)", said)


def test_a_growth_that_was_stopped_goes_on_and_the_store_serves_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr("t5like.data.sources.UNIT_BYTES", 1000)
    data, done = settings(tmp_path), []
    prepare(data, [].append)
    first = hash_of(data)
    for name in ("e", "f"):
        (tmp_path / "text" / f"{name}.txt").write_text(lines(name))

    def one(work, tasks):
        for task in tasks:
            if len(done) == 3:
                raise KeyboardInterrupt
            done.append(work(task)["number"])
            yield work(task)

    with pytest.raises(KeyboardInterrupt):
        prepare(data, [].append, one, update="all")
    assert done == [0, 1, 2]  # the first two were kept
    prepare(data, [].append)
    assert hash_of(data) == first
    before = (tmp_path / "store" / "train" / "00002.bin").stat().st_mtime_ns
    prepare(data, [].append, update="all")
    assert (tmp_path / "store" / "train" / "00002.bin").stat().st_mtime_ns == before
    assert not (tmp_path / "store" / "units").exists() and hash_of(data) != first


def test_duplicates_of_old_files_in_added_ones_go(tmp_path):
    data = settings(tmp_path, filters=(config.ExactDuplicates(),))
    prepare(data, [].append)
    (tmp_path / "text" / "a.txt").write_text(lines("b") + lines("a", 20))
    said = []
    prepare(data, said.append, update="all")
    assert "1 unit to make, 1 kept" in said[0] and any("exact_duplicates: 40 documents dropped" in s for s in said)
    listed = [json.loads(line) for line in (tmp_path / "store" / "dropped.jsonl").read_text().splitlines()]
    assert {line["unit"] for line in listed} == {1} and listed[0]["partner"] == f"{tmp_path}/text/b.txt#0"
    (tmp_path / "text" / "b.txt").unlink()
    prepare(data, [].append, update="all")  # all units anew: what was a duplicate of b is none any more
    fresh = dataclasses.replace(data, store=f"{tmp_path}/fresh")
    prepare(fresh, [].append)
    assert hash_of(data) == hash_of(fresh)


def test_a_store_of_an_earlier_version_is_taken_as_it_is(tmp_path):
    data, said = settings(tmp_path), []
    prepare(data, [].append)
    path = tmp_path / "store" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["inputs"]
    path.write_text(json.dumps({key: value for key, value in manifest.items() if key != "checksum"}))
    (tmp_path / "text" / "a.txt").write_text(lines("a"))
    prepare(data, said.append, update="all")
    assert said == []


def test_a_plan_without_fields_that_are_newer_is_taken(tmp_path):
    data = settings(tmp_path, filters=(config.NearDuplicates(),))
    prepare(data, [].append)
    path = tmp_path / "store" / "plan.json"
    plan = json.loads(path.read_text())
    del plan["sources"][0]["most_bytes"], plan["filters"][0]["ngram"]
    path.write_text(json.dumps({key: value for key, value in plan.items() if key != "checksum"}))
    before = contents(data.store)
    prepare(data, [].append)
    assert contents(data.store) == before


def test_large_files_are_sampled_from_the_first_byte_to_the_last(tmp_path):
    source = (config.Source(kind="text", path=f"{tmp_path}/*.txt"),)
    content = np.random.default_rng(0).integers(0, 255, WHOLE + 1, np.uint8)
    middle = (WHOLE + 1 - BLOCK) * 3 // (SAMPLES - 1)
    middle = (WHOLE + 1 - BLOCK) * 3 // (SAMPLES - 1)
    for name, at in {"whole": None, "first": 0, "last": WHOLE, "middle": middle}.items():
        changed = content[: WHOLE if at is None else None].copy()
        changed[at or 0] ^= at is not None
        (tmp_path / f"{name}.txt").write_bytes(changed.tobytes())
    (tmp_path / "large.txt").write_bytes(content.tobytes())
    found = {key.name: identity for key, identity in identify(source).items()}
    assert {name for name in found if found[name].hash.startswith(SAMPLED)} == found.keys() - {"whole.txt"}
    assert len(set(found.values())) == len(found)


def test_half_a_gigabyte_of_files_is_looked_at_in_a_moment(tmp_path):
    for number in range(60):
        with (tmp_path / f"{number}.txt").open("wb") as file:
            file.truncate(9_000_000)
    began = time.monotonic()
    found = identify((config.Source(kind="text", path=f"{tmp_path}/*.txt"),))
    assert sum(identity.size for identity in found.values()) == 540_000_000
    assert time.monotonic() - began < 0.5


def test_of_files_with_one_content_one_may_be_renamed_and_another_go(tmp_path):
    source = (config.Source(kind="text", path=f"{tmp_path}/*.txt"),)
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("the same")
    before = identify(source)
    (tmp_path / "a.txt").unlink()
    (tmp_path / "b.txt").rename(tmp_path / "c.txt")
    found = differences(before, identify(source))
    assert ([key.name for key in found.removed], found.added, found.changed) == (["b.txt"], [], [])
    assert {old.name: new.name for old, new in found.renamed.items()} == {"a.txt": "c.txt"}
