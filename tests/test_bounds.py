"""Memory and open files stay within bounds, whatever is given."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from etils import epath

from t5like.data import sources
from t5like.data.store.arrays import Array

ROOT = str(pathlib.Path(__file__).parent.parent)
PREPARE = """
import json, resource, sys
sys.path.insert(0, sys.argv[1])
from t5like import config
from t5like.data.prepare import prepare
from t5like.data.prepare.workers import pool
from t5like.errors import UserError

folder, fields = sys.argv[2], json.loads(sys.argv[3])
vocabulary = config.Vocabulary(kind="bytes", size=259, sentinels=10)
causal = config.Objective(kind="causal")
filters = tuple(getattr(config, name)() for name in json.loads(sys.argv[4]))
source = config.Source(**{"path": f"{folder}/file", **fields})
data = config.Data(
    store=f"{folder}/store", sources=(source,), filters=filters, vocabulary=vocabulary, objective=causal, documents=True
)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    prepare(data, [].append, pool(1))
    said = ""
except UserError as error:
    said = str(error)
print(json.dumps([said, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024]))
"""


def prepared(folder: pathlib.Path, *filters: str, **fields) -> tuple[str, float]:
    """What a preparation of `file` in the folder says, and the memory in MiB that it takes besides its libraries."""
    command = [sys.executable, "-c", PREPARE, ROOT, str(folder), json.dumps(fields), json.dumps(filters)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert not result.returncode, result.stderr
    return tuple(json.loads(result.stdout))


@pytest.mark.parametrize("fields", [{"kind": "text", "document": "line"}, {"kind": "text"}, {"kind": "jsonl"}])
def test_a_huge_file_of_one_line_is_refused_without_being_read(tmp_path, fields):
    with (tmp_path / "file").open("wb") as file:
        file.truncate(3 * 10**8)
    said, memory = prepared(tmp_path, most_bytes=2**24, **fields)
    assert said.startswith(f"{tmp_path}/file") and "is longer than data.sources.N.most_bytes=16777216" in said
    assert memory < 120


def test_a_million_empty_lines_are_no_documents_and_take_no_memory(tmp_path):
    (tmp_path / "file").write_bytes(
        b"\n" * 10**6 + b"a\r\n" + b"\r\n" * 10**6 + b"\n".join(b"%d" % n for n in range(1000))
    )
    said, memory = prepared(tmp_path, kind="text", document="line")
    assert (said, memory < 100) == ("", True)
    manifest = json.loads((tmp_path / "store" / "manifest.json").read_text())
    assert manifest["sources"][0]["read"]["documents"] == 1001


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_documents(tmp_path):
    used = []
    for count in (30_000, 300_000):
        with (tmp_path / "file").open("w") as file:
            file.writelines(f'{{"text": "document {n} is short"}}\n' for n in range(count))
        said, memory = prepared(tmp_path, "ExactDuplicates", kind="jsonl")
        assert not said
        used.append(memory)
        subprocess.run(["rm", "-r", tmp_path / "store"], check=True)
    # Exact duplicates take about 60 bytes for each document; a row of the pack table is written once it is made.
    assert used[1] - used[0] < 270_000 * 120 / 2**20 + 20


@pytest.mark.parametrize("size", [0, 1, 10**6, 2**33, 2**33 + 1, 10**11, 4 * 10**12, 10**14])
def test_units_grow_with_the_sources_and_not_in_number(size):
    most = sources.unit_bytes(size)
    assert 2**21 <= most <= 2**30
    assert most == 2**21 or most == 2**30 or size <= 4096 * most < size + 4096


def test_units_of_all_sources_are_at_most_some_thousands(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "UNIT_BYTES", 100)
    monkeypatch.setattr(sources, "MOST_UNITS", 20)
    for name, count in (("a", 2000), ("b", 10)):
        (tmp_path / f"{name}.txt").write_text("\n".join(f"line {n} of the file {name}" for n in range(count)))
    files = tuple(sources.Source(kind="text", path=f"{tmp_path}/{name}.txt", document="line") for name in "ab")
    units = sources.units(files)
    assert len(units) <= 22 and sum(unit.size for unit in units) == sum(p.stat().st_size for p in tmp_path.iterdir())
    read = [document.parts[0] for unit in units for document in sources.read(files[unit.source], unit)]
    assert read == [line for name in "ab" for line in (tmp_path / f"{name}.txt").read_text().split("\n")]


MANY = """
import resource, sys
sys.path.insert(0, sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
import numpy as np
from etils import epath
from t5like.data.store.arrays import Array

array = Array(epath.Path(sys.argv[2]), [f"{n}.bin" for n in range(300)], [10] * 300, np.dtype("<u2"))
positions = np.random.default_rng(0).integers(0, 2980, 500)
read = array.read(positions, np.full(500, 20)).reshape(500, 20)
assert (read == positions[:, None] + np.arange(20)).all()
"""


def test_a_store_may_have_more_files_than_a_process_may_open(tmp_path):
    for number in range(300):
        (tmp_path / f"{number}.bin").write_bytes(np.arange(10 * number, 10 * number + 10, dtype="<u2").tobytes())
    result = subprocess.run([sys.executable, "-c", MANY, ROOT, str(tmp_path)], capture_output=True, text=True)
    assert not result.returncode, result.stderr


def test_files_are_read_alike_through_maps_and_when_opened_for_each_read(tmp_path, monkeypatch):
    counts = [5, 0, 7, 1]
    for number, count in enumerate(counts):
        (tmp_path / str(number)).write_bytes(np.arange(count, dtype="<u4").tobytes())
    positions = np.array([0, 3, 4, 12, 0])
    lengths = np.array([5, 6, 0, 1, 13])
    read = []
    for most in (2**14, 2):
        monkeypatch.setattr("t5like.data.store.arrays.MOST_MAPS", most)
        array = Array(epath.Path(tmp_path), list("0123"), counts, np.dtype("<u4"))
        read.append(array.read(positions, lengths))
    np.testing.assert_array_equal(*read)
    assert read[0].tolist() == [0, 1, 2, 3, 4, 3, 4, 0, 1, 2, 3, 0, *range(5), *range(7), 0]
