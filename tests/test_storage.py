"""Names that lead out of their folder, secrets in addresses, and the modes of the files that are written."""

import json
import os
import pathlib
import re
import stat

import pytest
from etils import epath
from preparations import settings
from settings import change, sentence, valid
from test_store import write_store

from t5like import config
from t5like.config import presets
from t5like.convert.partial import whole_folder
from t5like.convert.t5x_files import _from_metadata, _leaf
from t5like.data.prepare import prepare
from t5like.data.sources.folders import _saved
from t5like.data.store import Store, read_tables
from t5like.errors import TransientError
from t5like.lock import FILE, locked
from t5like.runs.lines import Appended
from t5like.storage import inside, path_of, require_no_secret, write_small

OUTSIDE = ["../secret", "/etc/passwd", "..", ".", "", "a/../../b", "a//b", "a\\b", "a\0b", None, 3]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_of_its_folder_is_a_sentence(name):
    for folders in (False, True):
        said = sentence(inside, name, "x/manifest.json", folders=folders)
        assert said.startswith(f"x/manifest.json names {name!r}, which is no file of its folder")
    assert inside("00000.bin", "x") == "00000.bin" and inside("a/b", "x", folders=True) == "a/b"


def test_no_file_leads_its_reader_out_of_its_folder(tmp_path):
    write_store(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace("00002.bin", "../../secret.bin"))
    for remote in (False, True):
        assert "manifest.json names '../../secret.bin'" in sentence(Store, epath.Path(tmp_path), remote)
    table = {"examples": 0, "rows": 0, "cut": 0, "tokens": [], "sha256": ["0" * 64] * 2}
    described = {"lengths": {}, "objective": "causal", "tables": {"../../secret": table}}
    (tmp_path / "table.json").write_text(json.dumps(described))
    assert "table.json names '../../secret'" in sentence(read_tables, epath.Path(tmp_path))
    (tmp_path / "state.json").write_text('{"_data_files": [{"filename": "../secret.arrow"}]}')
    assert "state.json names '../secret.arrow'" in sentence(_saved, epath.Path(tmp_path))
    specification = {"driver": "zarr", "kvstore": {"path": ".."}}
    for value in ("PLACEHOLDER://../../secret", specification):
        assert "checkpoint names '" in sentence(_leaf, tmp_path / "checkpoint", "norm", value)
    keys = [{"key": name} for name in ("target", "../../secret")]
    (tmp_path / "_METADATA").write_text(json.dumps({"tree_metadata": {"a": {"key_metadata": keys}}}))
    assert "_METADATA names 'target.../../secret'" in sentence(_from_metadata, tmp_path / "_METADATA")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("https://me:geheim@host/a.txt", r"https://host holds a name or password, which would be written"),
        ("https://geheim@host/a.txt", r"https://host holds a name or password"),
        ("s3://id:geheim@bucket/a", r"s3://bucket holds a name or password"),
        ("https://host/a?b=1&X-Amz-Signature=geheim", r"https://host holds a secret \(X-Amz-Signature=\.\.\.\)"),
        ("https://host/a.jsonl?token=geheim", r"https://host holds a secret \(token=\.\.\.\)"),
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(address, said):
    source = config.Source
    for told in (
        sentence(source, kind="text", path=address),
        sentence(source, kind="text", path="a", validation=address),
        sentence(path_of, address),
    ):
        assert re.search(said, told) and "geheim" not in told


@pytest.mark.parametrize(
    "address", ["hf://gpt2@main/a.txt", "sftp://me@host/a", "https://host/a@b:c/?page=2&design=x", "a:b@c?token=x"]
)
def test_an_address_without_a_secret_is_taken(address):
    assert require_no_secret(address) is None


@pytest.mark.parametrize("mask", [0o002, 0o077])
def test_files_and_folders_have_the_modes_that_the_umask_leaves(tmp_path, mask):
    data, before = settings(tmp_path), os.umask(mask)
    made = tmp_path / "made"
    try:
        with locked(made, "train"):
            prepare(data, [].append)
            presets.write(valid(), made)
            write_small(made / "small.json", "{}")
            lines = Appended(made / "lines.jsonl")
            lines.append({})
            lines.close()
            with whole_folder(made / "export") as folder:
                (folder / "config.json").write_text("{}")
            found = [path for root in (made, pathlib.Path(data.store)) for path in (root, *root.rglob("*"))]
            modes = {path: stat.S_IMODE(path.stat().st_mode) for path in found}
    finally:
        os.umask(before)
    assert made / FILE in modes and len(modes) > 12
    assert modes == {path: (0o777 if path.is_dir() else 0o666) & ~mask for path in modes}


def test_of_two_that_write_a_folder_the_second_is_refused_and_harms_nothing(tmp_path):
    with whole_folder(tmp_path / "out") as first:
        (first / "a").write_text("a")
        with pytest.raises(TransientError, match=r"out\.partial is in use by"), whole_folder(tmp_path / "out"):
            pass
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["out", "out/a"]


def test_compiled_programs_are_never_taken_from_where_a_run_directory_says(tmp_path):
    presets.write(change("train.compilation_cache", "/somebody/elses"), tmp_path)
    assert presets.read(tmp_path) == valid()
    presets.write(change("train.compilation_cache", ""), tmp_path)
    assert presets.read(tmp_path).train.compilation_cache == ""
