"""Files of a source: those of a glob, or those of a folder that Hugging Face's `datasets` saved."""

import json

from etils import epath

from t5like.config import Source
from t5like.config.sources import SAVED
from t5like.data.sources.matching import by_fsspec, matching_files, reached
from t5like.errors import UserError, did_you_mean
from t5like.storage import etils_path


def files_of(source: Source, own: bool) -> list[tuple[str, int]]:
    """The files of a source, or with `own` those of its validation split, with their sizes in bytes.

    Raises:
      UserError: there is no such split, or no file, or they cannot be reached.
    """
    if source.kind in ("arrow", "files") and (is_saved(source.path) or (own and is_saved(source.validation))):
        return _saved_files(source, own)
    return matching_files(source.validation, "validation") if own else matching_files(source.path)


def _saved_files(source: Source, own: bool) -> list[tuple[str, int]]:
    """The files of the split that is read of a folder that `datasets` saved, or of a folder of one split."""
    path, split = etils_path(source.path), source.validation if own else source.split
    with reached(source.path):
        if (path / "dataset_dict.json").exists():
            splits = json.loads((path / "dataset_dict.json").read_text())["splits"]
            if split in splits:
                return _saved(path / split)
            if not own:
                raise UserError(f"data.sources.N.split: {path} has no split {split!r}{did_you_mean(split, splits)}")
        folder = etils_path(source.validation) if own else path
        if (folder / "state.json").exists():
            return _saved(folder)
    return matching_files(source.validation if own else source.path, "validation" if own else "path")


def is_saved(path: str) -> bool:
    """True if a path is a folder that `datasets` saved."""
    if by_fsspec(path):
        return False
    with reached(path):
        folder = etils_path(path)
        return any((folder / name).exists() for name in SAVED)


def _saved(folder: epath.Path) -> list[tuple[str, int]]:
    """The files of one saved split, in their order."""
    files = json.loads((folder / "state.json").read_text())["_data_files"]
    paths = [folder / file["filename"] for file in files]
    return [(str(path), path.stat().length) for path in paths]
