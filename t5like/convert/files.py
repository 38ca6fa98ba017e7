"""The weights of a Hugging Face folder, read one tensor at a time: model.safetensors or its shards with their index, or
else pytorch_model.bin or its shards.

Safetensors files are memory-mapped by their library, which checks their headers; its errors become sentences. Pickles
are read by `pickles.py`, which runs nothing of them. Other formats are named with the way to convert them.
"""

import contextlib
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from t5like.convert.pickles import PickledTensor, open_pickle
from t5like.errors import UserError
from t5like.json_files import Name, mismatch, parse

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
FLOATS = ("F64", "F32", "F16", "BF16")
SAVE = "`save_pretrained` then writes model.safetensors for the import"
OTHERS = {
    "adapter_model.*": "an adapter, not a model: load both with peft, `merge_and_unload()`, and " + SAVE,
    "tf_model*.h5": "weights of TensorFlow: load them with transformers 4 and `from_tf=True`; " + SAVE,
    "flax_model*.msgpack": "weights of Flax: load them with transformers 4 and `from_flax=True`; " + SAVE,
    "*.gguf": "weights of llama.cpp: load them with transformers and `gguf_file=`; " + SAVE,
    "consolidated*.pth": "weights as Meta released them: transformers' convert_llama_weights_to_hf.py makes a folder",
    "consolidated*.safetensors": "weights as Mistral released them: transformers' convert_mistral_weights_to_hf.py "
    "makes a folder",
    "*.ckpt*": "a checkpoint of another program: convert it with transformers; " + SAVE,
    "*.pt": "another pickle than pytorch_model.bin: load the model with what wrote it; " + SAVE,
    "*.pth": "another pickle than pytorch_model.bin: load the model with what wrote it; " + SAVE,
    "*.bin": "another pickle than pytorch_model.bin: load the model with what wrote it; " + SAVE,
}
"""Files of other formats, the surest first, with the way from them."""
ADAPTER = "adapter_config.json"


class StoredTensor(NamedTuple):
    """A tensor `name` of a safetensors file, with its shape and type."""

    file: pathlib.Path
    name: str
    shape: tuple[int, ...]
    dtype: str

    def read(self) -> np.ndarray:
        """The tensor's numbers."""
        # Opened for each tensor, since what an open file has shown stays mapped into memory.
        with _open(self.file) as opened:
            return opened.get_tensor(self.name)


class Weights:
    """The tensors of a folder's files by name (`layout.Tensors`)."""

    def __init__(self, folder: pathlib.Path, tensors: Mapping[str, StoredTensor | PickledTensor]):
        self._folder, self._tensors = folder, tensors

    def names(self) -> Iterable[str]:
        return self._tensors.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def read(self, name: str) -> np.ndarray:
        """A tensor as it is stored.

        Raises:
          UserError: it does not hold floating-point numbers, or its file is damaged.
        """
        _require_floats(self._folder, name, self._tensors[name].dtype)
        return self._tensors[name].read()


def open_weights(folder: pathlib.Path) -> Weights:
    """The tensors of a folder's weights: those of safetensors files, or else those of pickles.

    Raises:
      UserError: no weights, those of another format, a missing or damaged file, one that could run code, or an index
        that does not fit its files.
    """
    if (folder / ADAPTER).is_file():
        raise UserError(
            f"{folder} holds an adapter ({ADAPTER}), which changes the weights of a model: load both with peft, "
            f"`merge_and_unload()`, and {SAVE}."
        )
    pickled = any((folder / name).is_file() for name in (PICKLE, PICKLE_INDEX))
    safe = any((folder / name).is_file() for name in (WEIGHTS, INDEX))
    names, described = ((PICKLE, PICKLE_INDEX), open_pickle) if pickled and not safe else ((WEIGHTS, INDEX), _stored)
    tensors: dict[str, StoredTensor | PickledTensor] = {}
    for file in _weight_files(folder, *names):
        tensors |= described(file)
    _require_indexed(folder, *names, tensors)
    return Weights(folder, tensors)


def _stored(file: pathlib.Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file by name."""
    with _open(file) as opened:
        parts = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118, it is no mapping
        return {name: StoredTensor(file, name, tuple(p.get_shape()), p.get_dtype()) for name, p in parts.items()}


def _require_floats(folder: pathlib.Path, name: str, dtype: str) -> None:
    if dtype not in FLOATS:
        raise UserError(
            f"The tensor {name!r} of {folder} is of type {dtype}, not one of {', '.join(FLOATS)}: quantised weights "
            "cannot be imported, fetch the original ones."
        )


@contextlib.contextmanager
def _open(file: pathlib.Path) -> Iterator[Any]:
    """An open safetensors file, whose faults become a sentence."""
    import safetensors

    try:
        with safetensors.safe_open(str(file), framework="numpy") as opened:
            yield opened
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{file} is damaged or no safetensors file ({_told(error)}): fetch it again.") from None


def _weight_files(folder: pathlib.Path, whole: str, index: str) -> list[pathlib.Path]:
    """The file `whole`, or else those that the index names.

    Raises:
      UserError: there are none, or some are missing.
    """
    if (folder / whole).is_file():
        return [folder / whole]
    files = [folder / name for name in sorted(set(_index(folder, whole, index).values()))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise UserError(f"{folder} lacks {', '.join(missing)}, which {index} names: fetch the missing files.")
    if files:
        return files
    for pattern, way in OTHERS.items():
        for file in sorted(folder.glob(pattern)):
            raise UserError(f"{folder} holds no {WEIGHTS}, but {file.name}, {way}.")
    raise UserError(
        f"{folder} holds no weights: {WEIGHTS} or {PICKLE}, or their shards with {INDEX}, are what is looked for."
    )


def _require_indexed(folder: pathlib.Path, whole: str, index: str, tensors: Iterable[str]) -> None:
    held = set(tensors)
    for name, file in _index(folder, whole, index).items():
        if name not in held:
            raise UserError(f"{folder / index} says that {file} holds {name!r}, but it does not: fetch them again.")


def _index(folder: pathlib.Path, whole: str, index: str) -> dict[str, str]:
    """Name of each tensor -> name of its file, from the index; empty where there is none."""
    if (folder / whole).is_file() or not (folder / index).is_file():
        return {}
    try:
        named = parse((folder / index).read_bytes())["weight_map"]
        if wrong := mismatch(named, dict[str, Name]):
            raise ValueError(f"{wrong}, which is no name of a file")
        return dict(named)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{folder / index} is no index of weights ({_told(error)}): fetch it again.") from None


def _told(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
