"""Copies of golden folders with something wrong in them, and what an import says to one."""

import json
import os
import pathlib
import shutil
import struct
from collections.abc import Callable
from typing import Any

import safetensors.numpy
from settings import sentence

from t5like.cli import run

GOLDEN = pathlib.Path(__file__).parent / "golden"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
Harm = Callable[[pathlib.Path], Any]


def damaged(place: pathlib.Path, name: str, *harms: Harm) -> pathlib.Path:
    """A copy of a golden folder after something was done to it."""
    folder = place / "source"
    shutil.copytree(GOLDEN / name, folder)
    for harm in harms:
        harm(folder)
    return folder


def refused(source: pathlib.Path, *flags: object) -> str:
    """What an import says that must leave nothing behind."""
    target = source.parent / "run"
    before = sorted(source.parent.iterdir())
    said = sentence(run, ["import", str(source), str(target), *map(str, flags)])
    assert sorted(source.parent.iterdir()) == before
    return said.replace(str(source), "SOURCE")


def fields(**changes: Any) -> Harm:
    """Changes the fields of config.json; those that are ... are deleted."""

    def change(folder: pathlib.Path) -> None:
        known = json.loads((folder / "config.json").read_text()) | changes
        kept = {name: value for name, value in known.items() if value is not ...}
        (folder / "config.json").write_text(json.dumps(kept))

    return change


def file(name: str, content: str | bytes | None) -> Harm:
    """Replaces a file, or deletes it."""

    def change(folder: pathlib.Path) -> None:
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return change


def weights(change: Callable[[dict[str, Any]], Any], name: str = WEIGHTS) -> Harm:
    """Changes the tensors of a file by name."""

    def harm(folder: pathlib.Path) -> None:
        tensors = dict(safetensors.numpy.load_file(folder / name))
        change(tensors)
        safetensors.numpy.save_file(tensors, folder / name)

    return harm


def put(name: str, make: Callable[[dict[str, Any]], Any]) -> Harm:
    return weights(lambda tensors: tensors.__setitem__(name, make(tensors)))


def header(described: dict[str, Any] | bytes, length: int | None = None, data: int = 16) -> bytes:
    """A safetensors file with such a header."""
    text = described if isinstance(described, bytes) else json.dumps(described).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(data)


def tensor(begin: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [(end - begin) // 4], "data_offsets": [begin, end]}


def index(change: Callable[[dict[str, Any]], Any]) -> Harm:
    def harm(folder: pathlib.Path) -> None:
        path = folder / INDEX
        content = json.loads(path.read_text())
        change(content["weight_map"])
        path.write_text(json.dumps(content))

    return harm


def pickled(folder: pathlib.Path) -> None:
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")


def cut(folder: pathlib.Path) -> None:
    os.truncate(folder / WEIGHTS, 50_000)
