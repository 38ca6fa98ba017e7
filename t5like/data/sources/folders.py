"""Files of a source: those of a glob, or those of a folder that Hugging Face's `datasets` saved."""

import re
from typing import Annotated, Literal, TypedDict

from etils import epath

from t5like.config import Source
from t5like.config.sources import SAVED
from t5like.data.sources.matching import by_fsspec, matching_files, reached
from t5like.data.sources.parallel import parallel_files
from t5like.errors import UserError, did_you_mean
from t5like.json_files import Name, read_object
from t5like.storage import etils_path, inside

AGAIN = "save the data set again"


class _Splits(TypedDict):
    splits: list[Name]


class _File(TypedDict):
    filename: Annotated[str, re.compile(r"[^\0]{1,1000}")]


class _State(TypedDict):
    _data_files: list[_File]


def split_of(source: Source, split: Literal["train", "validation", "test"]) -> str:
    """The files of a split, or its name in a data set or folder; empty where the source has none of its own. Of the
    training split it is the name in a data set or folder; its files are the path."""
    return {"train": source.split, "validation": source.validation, "test": source.test}[split]


def files_of(source: Source, split: Literal["train", "validation", "test"]) -> list[tuple[str, int]]:
    """The files of a source's split, with their sizes in bytes; of parallel files those that belong together as one.

    Raises:
      UserError: there is no such split, or no file, or they cannot be reached.
    """
    pattern, setting = (source.path, "path") if split == "train" else (split_of(source, split), split)
    if source.kind == "parallel":
        return parallel_files(pattern, setting)
    if source.kind in ("arrow", "files") and (is_saved(source.path) or is_saved(pattern)):
        return _saved_files(source, split, pattern, setting)
    return matching_files(pattern, setting)


def _saved_files(
    source: Source, split: Literal["train", "validation", "test"], pattern: str, setting: str
) -> list[tuple[str, int]]:
    """The files of the split that is read of a folder that `datasets` saved, or of a folder of one split."""
    path, name = etils_path(source.path), split_of(source, split)
    with reached(source.path):
        if (path / "dataset_dict.json").exists():
            splits = read_object(path / "dataset_dict.json", _Splits, AGAIN)["splits"]
            if name in splits:
                return _saved(path / name)
            if split == "train":
                raise UserError(f"data.sources.N.split: {path} has no split {name!r}{did_you_mean(name, splits)}")
        if (etils_path(pattern) / "state.json").exists():
            return _saved(etils_path(pattern))
    return matching_files(pattern, setting)


def is_saved(path: str) -> bool:
    """True if a path is a folder that `datasets` saved."""
    if by_fsspec(path):
        return False
    with reached(path):
        folder = etils_path(path)
        return any((folder / name).exists() for name in SAVED)


def _saved(folder: epath.Path) -> list[tuple[str, int]]:
    """The files of one saved split, in their order."""
    files = read_object(folder / "state.json", _State, AGAIN)["_data_files"]
    paths = [folder / inside(file["filename"], folder / "state.json", folders=True) for file in files]
    if lost := [path.name for path in paths if not path.exists()]:
        raise UserError(f"{folder} lacks {lost[0]}, which its state.json names: {AGAIN}.")
    return [(str(path), path.stat().length) for path in paths]
