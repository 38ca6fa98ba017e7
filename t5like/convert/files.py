"""The weights of a Hugging Face folder: model.safetensors, or its shards with their index, read one tensor at a time.

Files are memory-mapped by the safetensors library, which checks their headers; what it finds wrong becomes a sentence.
Pickles are refused: opening one can run code.
"""

import json
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from t5like.errors import UserError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
FLOATS = ("F64", "F32", "F16", "BF16")


class Safetensors:
    """The tensors of a folder's weights (`layout.Tensors`)."""

    def __init__(self, folder: pathlib.Path):
        """Raises:
        UserError: no weights, only pickled ones, a missing or damaged file, or an index that does not fit its files.
        """
        import safetensors

        self._files: dict[str, Any] = {}
        for file in _weight_files(folder):
            try:
                opened = safetensors.safe_open(str(file), framework="numpy")
                self._files |= dict.fromkeys(opened.keys(), opened)
            except (safetensors.SafetensorError, OSError) as error:
                raise UserError(f"{file} is damaged or no safetensors file ({_told(error)}): fetch it again.") from None
        self._folder = folder
        for name, file in _index(folder).items():
            if name not in self._files:
                raise UserError(f"{folder / INDEX} says that {file} holds {name!r}, but it does not: fetch them again.")

    def names(self) -> Iterable[str]:
        return self._files.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._files[name].get_slice(name).get_shape())

    def read(self, name: str) -> np.ndarray:
        """A tensor as it is stored.

        Raises:
          UserError: it does not hold floating-point numbers.
        """
        dtype = self._files[name].get_slice(name).get_dtype()
        if dtype not in FLOATS:
            raise UserError(
                f"The tensor {name!r} of {self._folder} is of type {dtype}, not one of {', '.join(FLOATS)}: quantised "
                "weights cannot be imported, fetch the original ones."
            )
        return self._files[name].get_tensor(name)


def _weight_files(folder: pathlib.Path) -> list[pathlib.Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    files = [folder / name for name in sorted(set(_index(folder).values()))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise UserError(f"{folder} lacks {', '.join(missing)}, which {INDEX} names: fetch the missing files.")
    if files:
        return files
    pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    if pickles:
        raise UserError(
            f"{folder} holds pickled weights only ({pickles[0]}), and opening a pickle can run any code in it: if you "
            "trust where they are from, load them with transformers and `save_pretrained`, which writes "
            f"{WEIGHTS}, then import that folder."
        )
    raise UserError(f"{folder} holds no weights: {WEIGHTS}, or its shards with {INDEX}, are what is looked for.")


def _index(folder: pathlib.Path) -> dict[str, str]:
    """Name of each tensor -> name of its file, from the index; empty where there is none."""
    if (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file():
        return {}
    try:
        named = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
        if not all(isinstance(file, str) and pathlib.PurePath(file).name == file for file in named.values()):
            raise ValueError("its files are not names")
        return dict(named)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{folder / INDEX} is no index of safetensors ({_told(error)}): fetch it again.") from None


def _told(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
