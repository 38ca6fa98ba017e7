"""The weights of a Hugging Face folder: model.safetensors, or its shards with their index, read one tensor at a time.

Files are memory-mapped by the safetensors library, which checks their headers; what it finds wrong becomes a sentence.
Pickles are refused: opening one can run code.
"""

import contextlib
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from t5like.errors import UserError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
FLOATS = ("F64", "F32", "F16", "BF16")


class Stored(NamedTuple):
    """Where a tensor is stored, and its shape and type."""

    file: pathlib.Path
    shape: tuple[int, ...]
    dtype: str


class Safetensors:
    """The tensors of a folder's weights (`layout.Tensors`)."""

    def __init__(self, folder: pathlib.Path):
        """Raises:
        UserError: no weights, only pickled ones, a missing or damaged file, or an index that does not fit its files.
        """
        self._folder = folder
        self._tensors: dict[str, Stored] = {}
        for file in _weight_files(folder):
            with _open(file) as opened:
                for name in opened.keys():  # noqa: SIM118, it is no mapping
                    part = opened.get_slice(name)
                    self._tensors[name] = Stored(file, tuple(part.get_shape()), part.get_dtype())
        for name, file in _index(folder).items():
            if name not in self._tensors:
                raise UserError(f"{folder / INDEX} says that {file} holds {name!r}, but it does not: fetch them again.")

    def names(self) -> Iterable[str]:
        return self._tensors.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def read(self, name: str) -> np.ndarray:
        """A tensor as it is stored.

        Raises:
          UserError: it does not hold floating-point numbers, or its file is damaged.
        """
        stored = self._tensors[name]
        if stored.dtype not in FLOATS:
            raise UserError(
                f"The tensor {name!r} of {self._folder} is of type {stored.dtype}, not one of {', '.join(FLOATS)}: "
                "quantised weights cannot be imported, fetch the original ones."
            )
        # Opened for each tensor, since what an open file has shown stays mapped into memory.
        with _open(stored.file) as opened:
            return opened.get_tensor(name)


@contextlib.contextmanager
def _open(file: pathlib.Path) -> Iterator[Any]:
    """An open safetensors file, whose faults become a sentence."""
    import safetensors

    try:
        with safetensors.safe_open(str(file), framework="numpy") as opened:
            yield opened
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{file} is damaged or no safetensors file ({_told(error)}): fetch it again.") from None


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
