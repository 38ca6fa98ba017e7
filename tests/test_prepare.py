"""A store is the same bytes whatever happened while it was made, and what it holds adds up."""

import dataclasses
import json
import os
import pathlib
import pydoc_data.topics
import subprocess
import sys

import numpy as np
import pytest
from etils import epath

from t5like import config, lock
from t5like.data import sources
from t5like.data.prepare import prepare
from t5like.data.prepare.held_out import split_of
from t5like.data.prepare.sampling import sample
from t5like.data.splits import Shares
from t5like.data.store import Store
from t5like.data.vocabulary import open_vocabulary
from t5like.errors import UserError

LINES = [line for name in ("if", "for", "class", "lambda") for line in pydoc_data.topics.topics[name].split("\n")]
LINES = [f"{number} {line.strip()}" for number, line in enumerate(LINES) if line.strip()]
REPEATED = [f"number {number} occurs in every file" for number in range(30)]


def settings(folder: pathlib.Path, store: str = "store", kind: str = "bpe", **changes) -> config.Data:
    """Three files of lines, each a source and so a unit of its own, and the store in the same folder."""
    for number in range(3):
        (folder / f"{number}.txt").write_text("\n".join(LINES[number::3] + REPEATED))
    files = [config.Source(kind="text", path=f"{folder}/{number}.txt", document="line") for number in range(3)]
    size = 259 if kind == "bytes" else 400
    vocabulary = config.Vocabulary(kind=kind, size=size, sentinels=10, extra=("[MASK]",), train_characters=5000)
    fields = {"sources": tuple(files), "vocabulary": vocabulary, "length": 32, "held_out": 0.2, **changes}
    return config.Data(store=f"{folder}/{store}", **fields)


def contents(store: str) -> dict[str, bytes]:
    """Path and bytes of every file of a store, but for the lock that a kill may leave."""
    root = pathlib.Path(store)
    files = [path for path in root.rglob("*") if path.is_file() and path.name != lock.FILE]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def documents(data: config.Data, split) -> list[str]:
    """The texts of a split, read back from the store."""
    store = Store(epath.Path(data.store))
    vocabulary, texts = open_vocabulary(store.folder / "vocabulary"), []
    for source in range(len(data.sources)):
        tokens = store.tokens(source, split)
        whole = tokens.read(np.array([0]), np.array([tokens.size]))
        parts = np.split(whole, np.flatnonzero(whole == vocabulary.eos) + 1)
        assert not len(parts[-1])
        tables = [store.documents(source, split, n) for n in range(len(store.files(source, split)))]
        assert np.concatenate(tables)[:, 0].tolist() == list(map(len, parts[:-1]))
        texts += [vocabulary.decode(part.tolist()) for part in parts[:-1]]
    return texts


@pytest.mark.parametrize("kind", ["unigram", "bpe", "bytes"])
def test_two_preparations_are_the_same_bytes(tmp_path, kind):
    for store in ("a", "b"):
        prepare(settings(tmp_path, store, kind), [].append)
    one, other = (contents(f"{tmp_path}/{store}") for store in ("a", "b"))
    assert one == other
    learned = set() if kind == "bytes" else {"vocabulary/spiece.model"}
    names = [f"{number:05}.{kind}" for number in range(3) for kind in ("bin", "documents")]
    tokens = {f"{split}/{name}" for split in ("train", "validation") for name in names}
    assert one.keys() == tokens | learned | {"plan.json", "manifest.json", "vocabulary/vocabulary.json"}


KILLED = """
import os, signal, sys
sys.path[:0] = sys.argv[1:3]
import pathlib
from test_prepare import contents, settings
from t5like.data.prepare import prepare

folder = pathlib.Path(sys.argv[3])
undisturbed, killed = settings(folder, "undisturbed"), 0
prepare(undisturbed, [].append)


def kill_at(moment, store):
    left = [moment]

    def hook(event, arguments):
        writes = event.startswith(("os.", "shutil.")) or event == "open" and "w" in str(arguments[1])
        if writes and arguments and str(arguments[0]).startswith(store):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


while True:
    data = settings(folder, f"killed{killed}")
    if not (child := os.fork()):
        kill_at(killed, data.store)
        prepare(data, [].append)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
    prepare(data, [].append)
    assert contents(data.store) == contents(undisturbed.store), killed
    assert not (pathlib.Path(data.store) / "units").exists(), killed
    killed += 1
print(killed)
"""


@pytest.mark.slow
def test_a_preparation_killed_before_any_of_its_writes_ends_with_the_same_bytes(tmp_path):
    here = pathlib.Path(__file__).parent
    command = [sys.executable, "-c", KILLED, str(here), str(here.parent), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert not result.returncode, result.stderr
    # Plan, model, description, six files of tokens, three records and the manifest are each opened and renamed.
    assert int(result.stdout) > 26


def test_a_preparation_that_failed_goes_on_with_the_unit_that_is_missing(tmp_path):
    prepare(settings(tmp_path, "undisturbed"), [].append)
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        prepare(settings(tmp_path), [].append, stopping_after(2, done))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "train").rglob("*")}
    assert done == [0, 1] and len(before) == 4
    prepare(settings(tmp_path), [].append)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert contents(f"{tmp_path}/store") == contents(f"{tmp_path}/undisturbed")


def stopping_after(count: int, done: list[int]):
    """Workers that do so many units, note their numbers, and are stopped."""

    def run(work, tasks):
        for task in tasks:
            if len(done) == count:
                raise KeyboardInterrupt
            yield work(task)
            done.append(task[0])
        raise KeyboardInterrupt

    return run


def test_a_full_disk_is_a_sentence_and_the_same_command_goes_on(tmp_path):
    prepare(settings(tmp_path, "undisturbed"), [].append)
    data = settings(tmp_path)
    partial = tmp_path / "store" / "train" / f"00001.bin.{os.getpid()}.partial"

    def workers(work, tasks):
        # A device that is always full stands in for the disk.
        partial.parent.mkdir(parents=True)
        partial.symlink_to("/dev/full")
        yield from map(work, tasks)

    sentence = (
        r"00001\.bin cannot be written: No space left on device; .* the same command goes on from where it stopped"
    )
    with pytest.raises(UserError, match=sentence):
        prepare(data, [].append, workers)
    assert not partial.is_symlink()
    prepare(data, [].append)
    assert contents(data.store) == contents(f"{tmp_path}/undisturbed")


def test_a_finished_store_is_opened_and_not_touched(tmp_path):
    data = settings(tmp_path)
    first = prepare(data, [].append)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")}
    for number in range(3):
        (tmp_path / f"{number}.txt").unlink()
    heard: list[str] = []
    again = prepare(data, heard.append)
    assert not heard and again.hash == first.hash
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*")} == before


def test_the_splits_hold_each_document_once_and_share_none(tmp_path):
    data = settings(tmp_path)
    prepare(data, [].append)
    train, validation = documents(data, "train"), documents(data, "validation")
    assert sorted(train + validation) == sorted(LINES + 3 * REPEATED)
    assert not set(train) & set(validation)
    assert set(REPEATED) & set(train) and set(REPEATED) & set(validation)


def test_a_module_and_its_prose_lie_in_the_same_split():
    source = config.Source()
    unit = next(unit for unit in sources.units((source,)) if "queue.py" in [part.name for part in unit.parts])
    splits: dict[str, set[str]] = {}
    for document in sources.read(source, unit):
        splits.setdefault(document.group, set()).add(split_of(unit, document, Shares(0.5)))
    assert all(len(split) == 1 for split in splits.values())
    assert len(set.union(*splits.values())) == 2


@pytest.mark.parametrize("share", [0.01, 0.2, 0.9])
def test_the_share_held_out_is_the_share_asked_for(share):
    unit = sources.Unit(0, None, (), 0)
    splits = [split_of(unit, sources.Document(("",), str(number), 0, 0), Shares(share)) for number in range(20_000)]
    deviation = (share * (1 - share) / len(splits)) ** 0.5
    assert splits.count("validation") / len(splits) == pytest.approx(share, abs=4 * deviation)


def test_the_manifest_counts_what_the_store_holds(tmp_path):
    data = settings(tmp_path)
    vocabulary = prepare(data, [].append)
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    for split in ("train", "validation"):
        texts, splits = documents(data, split), [source["splits"][split] for source in manifest["sources"]]
        counted = {name: sum(each[name] for each in splits) for name in ("documents", "bytes", "tokens")}
        lengths = [len(vocabulary.encode_document(text)) for text in texts]
        assert counted == {
            "documents": len(texts),
            "bytes": sum(len(text.encode()) for text in texts),
            "tokens": sum(lengths),
        }
        assert max(each["longest"] for each in splits) == max(lengths)
        assert counted["tokens"] == sum(file["tokens"] for each in splits for file in each["files"])
    assert manifest["vocabulary_sha256"] == vocabulary.hash


def test_the_vocabulary_is_learned_from_the_training_split_alone(tmp_path):
    data = settings(tmp_path)
    whole, part = (list(sample(data.sources, (), Shares(data.held_out), "train", count)) for count in (10**9, 5000))
    prepare(data, [].append)
    assert sorted(whole) == sorted(documents(data, "train"))
    assert sum(map(len, part)) == 5000


def test_every_source_gives_its_share_of_the_text_that_a_vocabulary_is_learned_from(tmp_path):
    for name, count in (("a", 300), ("b", 100)):
        (tmp_path / f"{name}.txt").write_text(f"{name * 9}\n" * count)
    files = tuple(config.Source(kind="text", path=f"{tmp_path}/{name}.txt", document="line") for name in "ab")
    text = "".join(sample(files, (), Shares(1e-9), "train", 400))
    assert (text.count("a"), text.count("b")) == (300, 100)
    text = "".join(sample(files, (), Shares(1e-9), "train", 10**6))
    assert (text.count("a"), text.count("b")) == (2700, 900)


def test_special_pieces_are_the_runs_and_not_the_stores(tmp_path):
    data = settings(tmp_path)
    first = prepare(data, [].append)
    assert first.size == 400 + 1 + 10 and "[MASK]" in first.special
    changed = dataclasses.replace(data.vocabulary, extra=("[A]", "[B]"), sentinels=20)
    second = prepare(dataclasses.replace(data, vocabulary=changed, length=64, seed=3), [].append)
    assert second.size == 400 + 2 + 20 and "[MASK]" not in second.special


def test_invalid_bytes_are_reported(tmp_path):
    data = settings(tmp_path)
    with (tmp_path / "1.txt").open("ab") as file:
        file.write(b"\ncaf\xe9 and \xff\xfe")
    heard: list[str] = []
    prepare(data, heard.append)
    assert "3 invalid UTF-8 sequences were replaced by U+FFFD." in heard
    assert "caf\ufffd and \ufffd\ufffd" in documents(data, "train") + documents(data, "validation")
    assert json.loads((tmp_path / "store" / "manifest.json").read_text())["invalid_sequences"] == 3


def test_an_existing_model_is_used_and_its_size_must_be_given(tmp_path):
    first = prepare(settings(tmp_path, "first"), [].append)
    path = f"{tmp_path}/first/vocabulary/spiece.model"
    assert (
        prepare(settings(tmp_path, vocabulary=config.Vocabulary(kind="file", path=path, size=400)), [].append).hash
        == first.hash
    )
    with pytest.raises(UserError, match=r"spiece\.model has 400 pieces: set data\.vocabulary\.size=400\.$"):
        prepare(settings(tmp_path, "other", vocabulary=config.Vocabulary(kind="file", path=path, size=500)), [].append)


def test_a_plan_that_came_to_nothing_may_be_corrected(tmp_path):
    """A missing source and a size out of reach leave no trace that the corrected command would stumble over."""
    good = settings(tmp_path)
    missing = dataclasses.replace(good, sources=(config.Source(kind="text", path=f"{tmp_path}/*.tkt"),))
    unreachable = dataclasses.replace(good, vocabulary=dataclasses.replace(good.vocabulary, size=30_000))
    for data, complaint in ((missing, "No file matches"), (unreachable, "cannot be reached")):
        with pytest.raises(UserError, match=complaint):
            prepare(data, [].append)
    assert prepare(good, [].append).pieces.size == 400
