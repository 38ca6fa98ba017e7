"""A split reads as one long run of tokens, whatever files it lies in and however they are read."""

import hashlib
import json
import os

import numpy as np
import pytest
from etils import epath

from t5like.data.files import write_whole
from t5like.data.store import Store, documents_name, token_type
from t5like.data.store.arrays import Array
from t5like.errors import UserError

LENGTHS = (5, 1, 9, 0, 3)
"""Tokens of each file; each document has three tokens at most."""


def write_store(folder, kind: str = "<u2") -> np.ndarray:
    """A finished store whose training split has the numbers from 100 on; returns them."""
    tokens, files, first = np.arange(100, 100 + sum(LENGTHS), dtype=kind), [], 0
    for number, count in enumerate(LENGTHS):
        lengths = [3] * (count // 3) + ([count % 3] if count % 3 else [])
        table = np.array([(length, 0, row) for row, length in enumerate(lengths)], "<u8")
        contents = {f"{number:05}.bin": tokens[first : first + count].tobytes()}
        contents[documents_name(f"{number:05}.bin")] = table.tobytes()
        for name, content in contents.items():
            write_whole(epath.Path(folder) / "train" / name, content)
        hashes = [hashlib.sha256(content).hexdigest() for content in contents.values()]
        names = {"name": f"{number:05}.bin", "read": [f"{number}.txt"]}
        counts = {"tokens": count, "documents": len(lengths)}
        files.append({**names, **counts, "sha256": hashes[0], "documents_sha256": hashes[1]})
        first += count
    counts = dict.fromkeys(("documents", "bytes", "tokens", "longest"), 0)
    splits = {"train": {**counts, "files": files}, "validation": {**counts, "files": []}}
    read = {"documents": 0, "bytes": 0}
    source = {"name": "a", "kind": "text", "parts": 1, "units": 1, "read": read, "splits": splits, "filters": []}
    manifest = {"format": 2, "dtype": kind, "vocabulary_sha256": "", "created_with": {}, "invalid_sequences": 0}
    manifest["sources"] = [source]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return tokens


def tokens_of(folder, remote: bool = False) -> Array:
    return Store(epath.Path(folder), remote).tokens(0, "train")


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("kind", ["<u2", "<u4"])
def test_pieces_are_those_of_the_files_one_after_the_other(tmp_path, kind, remote):
    whole = write_store(tmp_path, kind)
    tokens = tokens_of(tmp_path, remote)
    assert tokens.size == len(whole)
    for length in range(len(whole) + 1):
        positions = np.arange(len(whole) - length + 1)[::-1]
        read = tokens.read(positions, np.full(len(positions), length))
        np.testing.assert_array_equal(
            read.reshape(len(positions), length), [whole[at : at + length] for at in positions]
        )
        assert read.dtype == np.int32


@pytest.mark.parametrize("remote", [False, True])
def test_pieces_may_differ_in_length(tmp_path, remote):
    whole, random = write_store(tmp_path), np.random.default_rng(0)
    tokens = tokens_of(tmp_path, remote)
    lengths = random.integers(0, len(whole), 50)
    positions = (random.random(50) * (len(whole) - lengths + 1)).astype(int)
    expected = [whole[at : at + length] for at, length in zip(positions, lengths, strict=True)]
    np.testing.assert_array_equal(tokens.read(positions, lengths), np.concatenate(expected))


def test_positions_beyond_32_bits_reach_the_right_file(tmp_path):
    """A store of 10^12 tokens, of which only one file has any bytes on the disk."""
    counts = [2**38] * 3
    for number in range(3):
        with (tmp_path / f"{number}.bin").open("wb") as file:
            file.truncate(2 * counts[number])
    with (tmp_path / "2.bin").open("r+b") as file:
        file.seek(2 * (2**37 + 5))
        file.write(np.arange(1, 8, dtype="<u2").tobytes())
    for remote in (False, True):
        array = Array(epath.Path(tmp_path), ["0.bin", "1.bin", "2.bin"], counts, np.dtype("<u2"), remote)
        at = np.array([2 * 2**38 + 2**37 + 5, 2**38 - 3])
        np.testing.assert_array_equal(array.read(at, np.array([7, 6])), [1, 2, 3, 4, 5, 6, 7, *[0] * 6])


def test_counts_are_those_of_the_first_tokens(tmp_path):
    whole = write_store(tmp_path)
    for most in (0, 3, 5, 6, 17, 18, 100):
        counts = tokens_of(tmp_path).counts(200, most)
        np.testing.assert_array_equal(counts, np.bincount(whole[:most], minlength=200))


def test_every_token_belongs_to_the_document_that_it_was_written_with(tmp_path):
    write_store(tmp_path)
    store, position = Store(epath.Path(tmp_path)), 0
    for file, count in enumerate(LENGTHS):
        for place in range(count):
            found = list(store.documents_between(0, "train", position, position))
            assert found == [f"{file}.txt#{place // 3}"]
            position += 1
    everything = ["0.txt#0", "0.txt#1", "1.txt#0", "2.txt#0", "2.txt#1", "2.txt#2", "4.txt#0"]
    assert list(store.documents_between(0, "train", 0, sum(LENGTHS) - 1)) == everything
    assert list(store.documents_between(0, "train", 2, 5)) == everything[:3]


def test_tokens_are_as_small_as_the_vocabulary_allows():
    assert [token_type(pieces).str for pieces in (1, 2**16, 2**16 + 1)] == ["<u2", "<u2", "<u4"]


def test_a_file_of_another_size_than_the_manifest_has_is_a_sentence(tmp_path):
    write_store(tmp_path)
    file = tmp_path / "train" / "00002.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"00002\.bin has 17 bytes where the manifest has 18: delete the store and"):
        Store(epath.Path(tmp_path))


def test_a_missing_file_is_a_sentence(tmp_path):
    write_store(tmp_path)
    (tmp_path / "train" / "00000.documents").unlink()
    with pytest.raises(UserError, match=r"00000\.documents has 0 bytes where the manifest has 48"):
        Store(epath.Path(tmp_path))


@pytest.mark.parametrize("name", ["00002.bin", "00004.documents"])
def test_a_changed_byte_is_found_and_its_file_named(tmp_path, name):
    write_store(tmp_path)
    store = Store(epath.Path(tmp_path))
    assert not list(store.verify())
    file = tmp_path / "train" / name
    content = bytearray(file.read_bytes())
    content[3] ^= 16
    file.write_bytes(content)
    (damaged,) = store.verify()
    assert damaged == f"{file} has changed since it was written: delete the store and prepare it again."


def test_a_remote_file_that_lost_its_end_is_a_sentence(tmp_path):
    write_store(tmp_path)
    tokens = tokens_of(tmp_path, remote=True)
    file = tmp_path / "train" / "00002.bin"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(UserError, match=r"00002\.bin cannot be read: .*\[8, 18\) is not valid"):
        tokens.read(np.array([10]), np.array([5]))
    file.unlink()
    with pytest.raises(UserError, match=r"00002\.bin is missing, or shorter than its manifest says\.$"):
        tokens.read(np.array([10]), np.array([5]))


@pytest.mark.parametrize("opened", [True, False], ids=["mapped", "read"])
def test_a_file_that_is_cut_while_it_is_used_is_named_and_ends_no_process(tmp_path, monkeypatch, opened):
    write_store(tmp_path)
    monkeypatch.setattr("t5like.data.store.arrays._may_stay_open", lambda files: opened)
    tokens = tokens_of(tmp_path)
    assert tokens.read(np.array([6]), np.array([3])).tolist() == [106, 107, 108]
    os.truncate(tmp_path / "train" / "00002.bin", 0)
    assert tokens.read(np.array([0]), np.array([6])).tolist() == [100, 101, 102, 103, 104, 105]
    with pytest.raises(UserError, match=r"00002\.bin is missing, or shorter than its manifest says\.$"):
        tokens.read(np.array([4]), np.array([3]))
    with pytest.raises(UserError, match=r"00002\.bin is missing, or shorter than its manifest says\.$"):
        Array(tokens.folder, tokens.names, LENGTHS, tokens.kind).read(np.array([6]), np.array([3]))


def test_a_store_without_its_manifest_is_a_sentence(tmp_path):
    write_store(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"^The store .* is not finished: run `t5like prepare`\.$"):
        Store(epath.Path(tmp_path))


@pytest.mark.parametrize("content", ["", "[1]", '{"format": 1}', '{"format": 2'])
def test_a_damaged_manifest_is_a_sentence(tmp_path, content):
    write_store(tmp_path)
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json is damaged \(.+\): delete .* and prepare it again, if"):
        Store(epath.Path(tmp_path))


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = epath.Path(tmp_path) / "deep" / "file"
    digest = write_whole(path, b"before")
    assert digest == write_whole(path, b"before") != write_whole(path, b"after")
    # A device that is always full stands in for the disk.
    monkeypatch.setattr("os.getpid", lambda: 7)
    (tmp_path / "deep" / "file.7.partial").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"file cannot be written: No space left on device; once that is mended, the s"):
        write_whole(path, b"never")
    assert path.read_bytes() == b"after" and [p.name for p in path.parent.iterdir()] == ["file"]
