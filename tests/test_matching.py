"""A glob finds each file once, through links too, and what cannot be reached is a sentence."""

import time

import fsspec
import pytest
from settings import sentence
from test_sources import texts

from t5like.data.sources.matching import matching_files


def names(pattern: str, folder) -> list[str]:
    return [name.removeprefix(f"{folder}/") for name, _ in matching_files(f"{folder}/{pattern}")]


def test_folders_behind_links_are_read_once_and_loops_end(tmp_path):
    for name in ("corpus/en/a.txt", "corpus/en/deep/b.txt", "elsewhere/c.txt", "corpus/.hidden/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    corpus = tmp_path / "corpus"
    (corpus / "zh").symlink_to(tmp_path / "elsewhere")
    (corpus / "again").symlink_to(corpus / "en")
    for number in range(3):
        (corpus / "en" / f"loop{number}").symlink_to(corpus)
    (corpus / "en" / "copy.txt").symlink_to(corpus / "en" / "a.txt")
    started = time.monotonic()
    assert names("**/*.txt", corpus) == ["again/a.txt", "again/deep/b.txt", "zh/c.txt"]
    assert len(names("**", corpus)) == 3 and len(names("*/**/*.txt", corpus)) == 3
    assert time.monotonic() - started < 5


def test_a_folder_is_a_sentence_with_a_glob(tmp_path):
    said = sentence(matching_files, str(tmp_path))
    assert said == f"'{tmp_path}' is a folder: give data.sources.N.path a glob such as '{tmp_path}/**/*.txt'."


def test_files_that_fsspec_reads_are_found_and_read(tmp_path):
    memory = fsspec.filesystem("memory")
    for name, content in {"/corpus/a.jsonl": b'{"text": "one"}\n', "/corpus/b.jsonl": b'{"text": "two"}\n'}.items():
        memory.pipe(name, content)
    assert texts(kind="jsonl", path="memory://corpus/*.jsonl") == ["one", "two"]
    assert texts(kind="jsonl", path="memory://corpus/b.jsonl") == ["two"]
    assert sentence(texts, kind="jsonl", path="memory://corpus/c*").startswith("No file matches 'memory://corpus/c*'")
    assert sentence(texts, kind="jsonl", path="memory://corpus/c").startswith("memory://corpus/c cannot be reached: ")


class Unreachable(fsspec.AbstractFileSystem):
    """Stands in for a service that does not answer."""

    protocol = "unreachable"

    def info(self, path, **options):
        raise RuntimeError("no route to host\nand more")

    find = glob = info


@pytest.mark.parametrize("path", ["unreachable://a/*.txt", "unreachable://a/b.txt"])
@pytest.mark.parametrize("kind", ["text", "files", "parquet", "arrow"])
def test_a_service_that_cannot_be_reached_is_one_sentence(path, kind):
    fsspec.register_implementation("unreachable", Unreachable, clobber=True)
    assert sentence(texts, kind=kind, path=path) == f"{path} cannot be reached: no route to host."


def test_a_scheme_that_nobody_knows_is_a_sentence():
    assert sentence(texts, kind="text", path="nowhere://a/b").startswith("nowhere://a/b cannot be reached: ")


def test_a_bucket_that_does_not_answer_is_a_sentence(monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://localhost:9")
    monkeypatch.setenv("T5LIKE_STORAGE_SECONDS", "1")
    for path in ("gs://silent/*.txt", "gs://silent/a.txt"):
        assert sentence(texts, kind="text", path=path).startswith("gs://silent/")
        assert " cannot be reached: " in sentence(texts, kind="text", path=path)
