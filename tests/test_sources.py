"""Documents come out of real files as they went in, and every broken file is a sentence."""

import gzip
import itertools
import json
import lzma
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import zstandard

from t5like import config
from t5like.data import sources
from t5like.data.sources import Part, Unit
from t5like.errors import UserError

PACKERS = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.ZstdCompressor().compress}
LINES = ["The first line.", "", "  ", "第二行 is not\u2028two", "\tthe third", "the end"]


def read_all(**source) -> list[sources.Document]:
    source = config.Source(**source)
    return [document for unit in sources.units((source,)) for document in sources.read(source, unit)]


def read_parts(source: config.Source, *parts: Part) -> list[sources.Document]:
    return list(sources.read(source, Unit(0, None, parts, 0)))


def texts(**source) -> list[str]:
    return [text for document in read_all(**source) for text in document.parts]


def write_packed(folder, name: str, content: bytes) -> list[str]:
    """The file as it is and in each compression; their paths."""
    for suffix, pack in {"": bytes, **PACKERS}.items():
        (folder / f"{name}{suffix}").write_bytes(pack(content))
    return [str(folder / f"{name}{suffix}") for suffix in ("", *PACKERS)]


@pytest.mark.parametrize("document", ["file", "line"])
def test_compression_changes_no_text_document(tmp_path, document):
    whole = "\n".join(LINES)
    paths = write_packed(tmp_path, "a.txt", whole.encode())
    expected = [whole] if document == "file" else [line for line in LINES if line.strip()]
    assert [texts(kind="text", path=path, document=document) for path in paths] == [expected] * 4


def test_compression_changes_no_json_line_and_no_offset(tmp_path):
    content = "\n".join(json.dumps({"id": 7, "text": line}, ensure_ascii=False) for line in LINES)
    paths = write_packed(tmp_path, "a.jsonl", content.encode())
    found = [[(d.parts[0], d.record) for d in read_all(kind="jsonl", path=path)] for path in paths]
    assert [text for text, _ in found[0]] == [line for line in LINES if line.strip()]
    assert all(json.loads(content.encode()[at:].split(b"\n")[0])["text"] == text for text, at in found[0])
    assert found == [found[0]] * 4


@pytest.mark.parametrize("suffix", PACKERS)
def test_files_of_several_compressed_parts_are_read_to_their_end(tmp_path, suffix):
    parts = [f"part {number}\n".encode() * 40_000 for number in range(3)]
    (tmp_path / f"a.txt{suffix}").write_bytes(b"".join(map(PACKERS[suffix], parts)))
    assert texts(kind="text", path=str(tmp_path / f"a.txt{suffix}")) == [b"".join(parts).decode()]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n\n"])
@pytest.mark.parametrize("seed", range(4))
def test_any_cutting_of_a_file_gives_the_same_lines_at_the_same_offsets(tmp_path, monkeypatch, ending, seed):
    monkeypatch.setattr("t5like.data.sources.files.BLOCK", (7, 100)[seed % 2])  # below and above the length of a line
    random = np.random.default_rng(seed)
    lines = ["字a" * random.integers(0, 9) + "\r" * random.integers(0, 2) for _ in range(40)]
    content = ("\n".join(lines) + ending).encode()
    (tmp_path / "a").write_bytes(content)
    source = config.Source(kind="text", path=str(tmp_path / "a"), document="line")
    begins = [n for n in range(len(content)) if content[n - 1 : n] == b"\n"]
    cuts = sorted([0, *random.integers(0, len(content), 20), *random.choice(begins, 5), len(content)])
    ranges = [Part(str(tmp_path / "a"), int(start), int(stop)) for start, stop in itertools.pairwise(cuts)]
    whole = [(d.parts, d.record) for d in read_parts(source, Part(str(tmp_path / "a")))]
    assert [parts for parts, _ in whole] == [(line.rstrip("\r"),) for line in lines if line.strip()]
    assert [(d.parts, d.record) for d in read_parts(source, *ranges)] == whole


def test_large_files_of_lines_are_shared_by_units(tmp_path):
    line = json.dumps({"text": "x" * 1000}).encode() + b"\n"
    (tmp_path / "a.jsonl").write_bytes(line * 5000)
    source = config.Source(kind="jsonl", path=str(tmp_path / "a.jsonl"))
    units = sources.units((source,))
    assert len(units) == -(-len(line) * 5000 // sources.UNIT_BYTES)
    assert sum(unit.size for unit in units) == len(line) * 5000
    found = [sources.document_id(unit, d) for unit in units for d in sources.read(source, unit)]
    assert found == [f"{tmp_path}/a.jsonl#{number * len(line)}" for number in range(5000)]


def test_units_keep_the_order_of_sources_and_files_and_close_at_two_mebibytes(tmp_path):
    for number in range(6):
        (tmp_path / f"{number}.txt").write_bytes(b"x" * 2**20)
    (tmp_path / "6.txt").write_bytes(b"x" * 2**22)
    source = config.Source(kind="text", path=f"{tmp_path}/*.txt")
    units = sources.units((source, config.Source(kind="text", path=f"{tmp_path}/0.txt")))
    names = [(unit.source, [part.name.removeprefix(f"{tmp_path}/")[0] for part in unit.parts]) for unit in units]
    assert names == [(0, ["0", "1"]), (0, ["2", "3"]), (0, ["4", "5"]), (0, ["6"]), (1, ["0"])]


def test_a_source_with_files_of_its_own_for_validation_is_not_split_otherwise(tmp_path):
    for name in ("a.txt", "b.txt", "held.out"):
        (tmp_path / name).write_text(name)
    source = config.Source(kind="text", path=f"{tmp_path}/*.txt", validation=f"{tmp_path}/held.out")
    units = sources.units((source,))
    found = [(unit.split, [d.parts[0] for d in sources.read(source, unit)]) for unit in units]
    assert found == [("train", ["a.txt", "b.txt"]), ("validation", ["held.out"])]
    assert sources.units((config.Source(kind="text", path=f"{tmp_path}/*.txt"),))[0].split is None
    with pytest.raises(UserError, match=r"give data\.sources\.N\.validation an existing file"):
        sources.units((config.Source(kind="text", path=f"{tmp_path}/*.txt", validation="nothing"),))


def test_lines_may_end_as_on_windows_and_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\n")
    assert texts(kind="text", path=str(tmp_path / "a.txt"), document="line") == ["one", "two"]
    (tmp_path / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n')
    assert texts(kind="jsonl", path=str(tmp_path / "a.jsonl")) == ["one"]


def test_a_million_empty_lines_are_no_document(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\n" * 1_000_000)
    assert texts(kind="text", path=str(tmp_path / "a.txt"), document="line") == []


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.txt", ["a.txt", "b.txt", "c[1].txt"]),
        ("**/*.txt", ["a.txt", "b.txt", "c[1].txt", "deep/a.txt", "deep/er/a.txt"]),
        ("**/**/a.txt", ["a.txt", "deep/a.txt", "deep/er/a.txt"]),
        ("deep/*/a.txt", ["deep/er/a.txt"]),
        ("c[1].txt", ["c[1].txt"]),
        ("[ab].txt", ["a.txt", "b.txt"]),
    ],
)
def test_a_glob_finds_each_matching_file_once_in_sorted_order(tmp_path, monkeypatch, pattern, found, relative):
    for name in ("b.txt", "deep/er/a.txt", "a.txt", "deep/a.txt", "c[1].txt", "a.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"I am {name}")
    (tmp_path / "folder.txt").mkdir()
    monkeypatch.chdir(tmp_path)
    pattern = pattern if relative else f"{tmp_path}/{pattern}"
    assert texts(kind="text", path=pattern) == [f"I am {name}" for name in found]


@pytest.mark.parametrize("kind", ["text", "jsonl"])
def test_invalid_utf8_is_replaced_and_counted(tmp_path, kind):
    # A byte that never occurs, a character cut short, and a U+FFFD that is none of our making.
    text = b"caf\xe9 \xe4\xb8 ok \xef\xbf\xbd"
    (tmp_path / "a").write_bytes(text if kind == "text" else b'{"text": "%s"}' % text)
    (document,) = read_all(kind=kind, path=str(tmp_path / "a"))
    assert (document.parts, document.invalid) == (("caf\ufffd \ufffd ok \ufffd",), 2)


TOPICS = """
import hashlib
from t5like import config
from t5like.data import sources
units = sources.units((config.Source(),))
(unit,) = (unit for unit in units if any(part.name == "pydoc_data/topics.py" for part in unit.parts))
print(hashlib.sha256(repr((unit, list(sources.read(config.Source(), unit)))).encode()).hexdigest())
"""


@pytest.mark.slow
def test_pythons_library_is_the_same_in_each_process():
    def digest(seed: str) -> str:
        command = [sys.executable, "-c", TOPICS]
        return subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True).stdout

    assert digest("1") == digest("2") != ""


def test_pythons_library_gives_sources_and_prose():
    documents = read_parts(config.Source(), Part("queue.py"), Part("pydoc_data/topics.py"))
    assert all(text.strip() for document in documents for text in document.parts)
    assert {"topic if", "built-in builtins", "queue.py"} <= {document.group for document in documents}
    (code, prose) = (document.parts[0] for document in documents if document.group == "queue.py")
    assert "def put(self, item" in code
    assert "Put an item into the queue." in prose and "def put" not in prose


def test_no_matching_file_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"^No file matches '.*/\*\.txt': give data\.sources\.N\.path an existing file"):
        texts(kind="text", path=f"{tmp_path}/*.txt")


def test_a_file_that_went_away_is_a_sentence(tmp_path):
    source = config.Source(kind="text", path="unused")
    with pytest.raises(UserError, match=r"gone\.txt cannot be read: .*No such file"):
        read_parts(source, Part(str(tmp_path / "gone.txt")))


@pytest.mark.parametrize("kind", ["file", "line", "jsonl"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_of_one_endless_line_is_a_sentence_and_not_read_whole(tmp_path, kind, packed):
    path = tmp_path / ("a.zst" if packed else "a")
    if packed:
        path.write_bytes(PACKERS[".zst"](b"short\n") * (kind == "line") + PACKERS[".zst"](bytes(2**24)) * 16)
    else:
        with path.open("wb") as file:
            file.truncate(2**28)  # of a sparse file, four times the memory below
    settings = {"kind": "jsonl"} if kind == "jsonl" else {"kind": "text", "document": kind}
    limit = "a(.zst)? is longer" if kind == "file" else f"line {1 + (packed and kind == 'line')}, is longer"
    tracemalloc.start()
    with pytest.raises(UserError, match=rf"{limit} than data\.sources\.N\.most_bytes=1000000: raise it"):
        read_all(path=str(path), most_bytes=1_000_000, **settings)
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_a_document_just_as_long_as_the_limit_is_read_and_a_longer_one_is_not(tmp_path):
    (tmp_path / "a").write_text("12345\n12345\n")
    assert texts(kind="text", path=str(tmp_path / "a"), document="line", most_bytes=5) == ["12345", "12345"]
    assert texts(kind="text", path=str(tmp_path / "a"), most_bytes=12) == ["12345\n12345\n"]
    for document, most in (("line", 4), ("file", 11)):
        with pytest.raises(UserError, match=f"is longer than .*={most}"):
            texts(kind="text", path=str(tmp_path / "a"), document=document, most_bytes=most)


@pytest.mark.parametrize("document", ["file", "line"])
@pytest.mark.parametrize("suffix", PACKERS)
def test_a_cut_archive_is_a_sentence(tmp_path, suffix, document):
    content = "".join(f"line {number * 7919 % 1000}\n" for number in range(50_000)).encode()
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(PACKERS[suffix](content)[:-20])
    with pytest.raises(UserError, match=rf"a\.txt{suffix} cannot be read: .*ended before the end"):
        texts(kind="text", path=str(path), document=document)


@pytest.mark.parametrize("suffix", PACKERS)
def test_an_archive_of_something_else_is_a_sentence(tmp_path, suffix):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(b"just text, and long enough to be looked at")
    with pytest.raises(UserError, match=rf"a\.txt{suffix} cannot be read: "):
        texts(kind="text", path=str(path))


def test_a_damaged_archive_is_a_sentence(tmp_path):
    content = bytearray(gzip.compress(bytes(number * 7919 % 251 for number in range(9000))))
    content[200:220] = b"\xff" * 20
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.gz cannot be read: "):
        texts(kind="text", path=str(tmp_path / "a.gz"))
