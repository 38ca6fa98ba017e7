"""Documents come out of real files as they went in, and every broken file is a sentence."""

import gzip
import json
import lzma
import subprocess
import sys

import pytest
import zstandard

from t5like import config
from t5like.data import sources
from t5like.errors import UserError

PACKERS = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.ZstdCompressor().compress}
LINES = ["The first line.", "", "  ", "第二行 is not\u2028two", "\tthe third", "the end"]


def read_all(**source) -> list[sources.Document]:
    source = config.Source(**source)
    return [document for unit in sources.units(source) for document in sources.read(source, unit)]


def texts(**source) -> list[str]:
    return [document.text for document in read_all(**source)]


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


def test_compression_changes_no_json_line(tmp_path):
    content = "\n".join(json.dumps({"id": 7, "text": line}, ensure_ascii=False) for line in LINES)
    paths = write_packed(tmp_path, "a.jsonl", content.encode())
    expected = [line for line in LINES if line.strip()]
    assert [texts(kind="jsonl", path=path) for path in paths] == [expected] * 4


@pytest.mark.parametrize("suffix", PACKERS)
def test_files_of_several_compressed_parts_are_read_to_their_end(tmp_path, suffix):
    parts = [f"part {number}\n".encode() * 40_000 for number in range(3)]
    (tmp_path / f"a.txt{suffix}").write_bytes(b"".join(map(PACKERS[suffix], parts)))
    assert texts(kind="text", path=str(tmp_path / f"a.txt{suffix}")) == [b"".join(parts).decode()]


def test_lines_may_end_as_on_windows(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\r\n\r\n")
    assert texts(kind="text", path=str(tmp_path / "a.txt"), document="line") == ["one", "two"]


def test_a_json_line_gives_the_field_that_the_source_names(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "no", "body": "yes"}\n\n{"body": ""}\n{"body": "also"}')
    assert texts(kind="jsonl", path=str(tmp_path / "a.jsonl"), field="body") == ["yes", "also"]


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


def test_units_keep_the_order_of_files_and_close_at_two_mebibytes(tmp_path):
    for number in range(6):
        (tmp_path / f"{number}.txt").write_bytes(b"x" * 2**20)
    (tmp_path / "6.txt").write_bytes(b"x" * 2**22)
    units = sources.units(config.Source(kind="text", path=f"{tmp_path}/*.txt"))
    names = [[name.removeprefix(f"{tmp_path}/")[0] for name in unit] for unit in units]
    assert names == [["0", "1"], ["2", "3"], ["4", "5"], ["6"]]


@pytest.mark.parametrize("kind", ["text", "jsonl"])
def test_invalid_utf8_is_replaced_and_counted(tmp_path, kind):
    # A byte that never occurs, a character cut short, and a U+FFFD that is none of our making.
    text = b"caf\xe9 \xe4\xb8 ok \xef\xbf\xbd"
    (tmp_path / "a").write_bytes(text if kind == "text" else b'{"text": "%s"}' % text)
    assert read_all(kind=kind, path=str(tmp_path / "a"))[0].text == "caf\ufffd \ufffd ok \ufffd"
    assert read_all(kind=kind, path=str(tmp_path / "a"))[0].invalid == 2


def test_halves_of_surrogate_pairs_are_replaced_and_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text(r'{"text": "a\ud83d b\ude00 c\ud83d\ude00"}')
    (document,) = read_all(kind="jsonl", path=str(tmp_path / "a.jsonl"))
    assert (document.text, document.invalid) == ("a\ufffd b\ufffd c\U0001f600", 2)


TOPICS = """
import hashlib
from t5like import config
from t5like.data import sources
(unit,) = (unit for unit in sources.units(config.Source()) if "pydoc_data/topics.py" in unit)
print(hashlib.sha256(repr((unit, list(sources.read(config.Source(), unit)))).encode()).hexdigest())
"""


def test_pythons_library_is_the_same_in_each_process():
    def digest(seed: str) -> str:
        command = [sys.executable, "-c", TOPICS]
        return subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, text=True).stdout

    assert digest("1") == digest("2") != ""


def test_pythons_library_gives_sources_and_prose():
    source = config.Source()
    (unit,) = (unit for unit in sources.units(source) if "queue.py" in unit)
    documents = list(sources.read(source, (*unit, "pydoc_data/topics.py")))
    assert all(document.text.strip() for document in documents)
    assert {"topic if", "built-in builtins", "queue.py"} <= {document.group for document in documents}
    (code, prose) = (document.text for document in documents if document.group == "queue.py")
    assert "def put(self, item" in code
    assert "Put an item into the queue." in prose and "def put" not in prose


def test_no_matching_file_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"^No file matches '.*/\*\.txt': give data\.sources\.N\.path an existing file"):
        texts(kind="text", path=f"{tmp_path}/*.txt")


def test_a_file_that_went_away_is_a_sentence(tmp_path):
    source = config.Source(kind="text", path="unused")
    with pytest.raises(UserError, match=r"gone\.txt cannot be read: .*No such file"):
        list(sources.read(source, (str(tmp_path / "gone.txt"),)))


def test_a_line_that_is_not_json_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n\n{"text": broken}\n')
    with pytest.raises(UserError, match=r"a\.jsonl, line 3, is not JSON: Expecting value\.$"):
        texts(kind="jsonl", path=str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("line", "has"),
    [('{"id": 1, "body": "x"}', "id, body"), ('{"text": null}', "text"), ("[]", "none"), ("{}", "none")],
)
def test_a_missing_field_is_named_beside_those_that_exist(tmp_path, line, has):
    (tmp_path / "a.jsonl").write_text(f'{{"text": "fine"}}\n{line}\n')
    sentence = rf"a\.jsonl, line 2, has no text field 'text'; it has {has}: set data\.sources\.N\.field\.$"
    with pytest.raises(UserError, match=sentence):
        texts(kind="jsonl", path=str(tmp_path / "a.jsonl"))


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
