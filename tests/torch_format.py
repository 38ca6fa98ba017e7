"""Files as torch.save writes them, put together instruction by instruction, since torch is not there in these tests."""

import pathlib
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
KINDS = {
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(np.bool_): "BoolStorage",
}


class View(NamedTuple):
    """A tensor as a view of a storage, by the storage's key; strides count numbers."""

    storage: str
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def whole(key: str, array: np.ndarray) -> View:
    return View(key, 0, array.shape, tuple(stride // array.itemsize for stride in array.strides))


def literal(value: Any) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def name_of(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def storage_of(kind: str, key: str, count: int, *more: bytes) -> bytes:
    parts = literal("storage"), name_of("torch", kind), literal(key), literal("cpu"), literal(count), *more
    return b"(" + b"".join(parts) + b"tQ"


def tensor_of(storage: bytes, view: View) -> bytes:
    parts = storage, literal(view.first), literal(view.shape), literal(view.strides), literal(False)
    return call(name_of("torch._utils", "_rebuild_tensor_v2"), *parts, call(name_of("collections", "OrderedDict")))


def dictionary(items: Mapping[str, bytes]) -> bytes:
    """The pickle of an OrderedDict with an attribute, as a state_dict has it."""
    pairs = b"".join(literal(name) + value for name, value in items.items())
    metadata = b"}" + literal("_metadata") + b"}sb"
    return b"\x80\x02" + call(name_of("collections", "OrderedDict")) + b"(" + pairs + b"u" + metadata + b"."


def program(storages: Mapping[str, np.ndarray], views: Mapping[str, View], *more: bytes) -> bytes:
    """The pickle of tensors that are views of storages."""
    kinds = {key: (KINDS[array.dtype], array.size) for key, array in storages.items()}
    made = {
        n: tensor_of(storage_of(kinds[v.storage][0], v.storage, kinds[v.storage][1], *more), v)
        for n, v in views.items()
    }
    return dictionary(made)


def write_zip(file: pathlib.Path, data: bytes, storages: Mapping[str, np.ndarray], compression: int = 0) -> None:
    """The format of torch 1.6 and later."""
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("weights/data.pkl", data)
        archive.writestr("weights/byteorder", "little")
        for key, array in storages.items():
            archive.writestr(f"weights/data/{key}", array.tobytes())
        archive.writestr("weights/version", "3\n")


def write_row(file: pathlib.Path, data: bytes, storages: Mapping[str, np.ndarray]) -> None:
    """The format before: pickles one after the other, then the storages."""
    begin = [pickle.dumps(value, 2) for value in (MAGIC, 1001, {"little_endian": True})]
    keys = pickle.dumps([*storages], 2)
    numbers = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in storages.values())
    file.write_bytes(b"".join([*begin, data, keys, numbers]))


def write_weights(file: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """A zip file of tensors with a storage each."""
    storages = {str(number): np.ascontiguousarray(array) for number, array in enumerate(tensors.values())}
    views = {name: whole(key, storages[key]) for name, key in zip(tensors, storages, strict=True)}
    write_zip(file, program(storages, views), storages)
