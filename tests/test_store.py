"""A split reads as one long run of tokens, whatever files it lies in."""

import json

import numpy as np
import pytest
from etils import epath

from t5like.data.store import open_tokens, token_type, write_whole
from t5like.errors import UserError

LENGTHS = (5, 1, 9, 3)


def write_store(folder, kind: str = "<u2") -> np.ndarray:
    """A finished store whose training split has the numbers from 100 on; returns them."""
    tokens = np.arange(100, 100 + sum(LENGTHS), dtype=kind)
    entries = []
    for number, part in enumerate(np.split(tokens, np.cumsum(LENGTHS)[:-1])):
        entries.append({"name": f"{number:05}.bin", "tokens": len(part)})
        write_whole(epath.Path(folder) / "train" / f"{number:05}.bin", part.tobytes())
    manifest = {"dtype": kind, "splits": {"train": {"files": entries}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return tokens


@pytest.mark.parametrize("kind", ["<u2", "<u4"])
def test_windows_are_those_of_the_files_one_after_the_other(tmp_path, kind):
    whole = write_store(tmp_path, kind)
    tokens = open_tokens(epath.Path(tmp_path), "train")
    assert tokens.size == len(whole)
    for length in range(1, len(whole) + 1):
        positions = np.arange(len(whole) - length + 1)[::-1]
        windows = tokens.windows(positions, length)
        np.testing.assert_array_equal(windows, [whole[at : at + length] for at in positions])
        assert windows.dtype == np.int32


def test_counts_are_those_of_the_first_tokens(tmp_path):
    whole = write_store(tmp_path)
    tokens = open_tokens(epath.Path(tmp_path), "train")
    for most in (0, 3, 5, 6, 17, 18, 100):
        np.testing.assert_array_equal(tokens.counts(200, most), np.bincount(whole[:most], minlength=200))


def test_tokens_are_as_small_as_the_vocabulary_allows():
    assert [token_type(pieces).str for pieces in (1, 2**16, 2**16 + 1)] == ["<u2", "<u2", "<u4"]


def test_a_file_of_another_size_than_the_manifest_has_is_a_sentence(tmp_path):
    write_store(tmp_path)
    file = tmp_path / "train" / "00002.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"00002\.bin has 17 bytes where the manifest has 18: delete the store and"):
        open_tokens(epath.Path(tmp_path), "train")


def test_a_missing_file_is_a_sentence(tmp_path):
    write_store(tmp_path)
    (tmp_path / "train" / "00000.bin").unlink()
    with pytest.raises(UserError, match=r"00000\.bin has 0 bytes where the manifest has 10"):
        open_tokens(epath.Path(tmp_path), "train")


def test_a_store_without_its_manifest_is_a_sentence(tmp_path):
    write_store(tmp_path)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"^The store .* is not finished: run `t5like prepare`\.$"):
        open_tokens(epath.Path(tmp_path), "train")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = epath.Path(tmp_path) / "deep" / "file"
    digest = write_whole(path, b"before")
    assert digest == write_whole(path, b"before") != write_whole(path, b"after")
    # A device that is always full stands in for the disk.
    (tmp_path / "deep" / "file.partial").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"file cannot be written: No space left on device; once that is mended, the s"):
        write_whole(path, b"never")
    assert path.read_bytes() == b"after"
