"""Weights that torch.save wrote, read without torch and without running anything that a pickle asks for.

A pickle is a program. Before it is read, its instructions are looked through: it may name nothing but dictionaries,
torch's storages and the functions that make a tensor of one, and none of these is called: they become descriptions of
the bytes that hold a tensor's numbers, which are read one tensor at a time. For {"w": a float32 matrix of 2 rows and 3
columns} the instructions are, in short

    EMPTY_DICT  "w"
    GLOBAL "torch._utils _rebuild_tensor_v2"               -> `_tensor`
      "storage"  GLOBAL "torch FloatStorage"  "0" "cpu" 6  BINPERSID  -> Storage(file, begin, "FloatStorage", 6)
      first 0  shape (2, 3)  strides (3, 1)  gradient False  hooks OrderedDict()
    REDUCE  -> PickledTensor(storage, 0, (2, 3), (3, 1))
    SETITEM

Both formats of torch.save are known. The zip file of torch 1.6 and later has data.pkl and a member data/0 for the
storage "0", stored and not compressed. Before it a file was five pickles, one behind the other (a magic number, a
version, facts of the machine, the dictionary, the keys of the storages), and then each storage behind its length.
"""

import functools
import io
import math
import pathlib
import pickle
import pickletools
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from t5like.errors import UserError

STORAGES: dict[str, tuple[str, type[np.generic]]] = {
    "DoubleStorage": ("F64", np.float64),
    "FloatStorage": ("F32", np.float32),
    "HalfStorage": ("F16", np.float16),
    "BFloat16Storage": ("BF16", ml_dtypes.bfloat16),
    "LongStorage": ("I64", np.int64),
    "IntStorage": ("I32", np.int32),
    "ShortStorage": ("I16", np.int16),
    "CharStorage": ("I8", np.int8),
    "ByteStorage": ("U8", np.uint8),
    "BoolStorage": ("BOOL", np.bool_),
}
"""torch's classes of storages -> the type as safetensors names it, and numpy's."""
REBUILT = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
MAGIC = 0x1950A86A20F9469CFC6C
"""First number of a file in the format before torch 1.6."""
LONGEST = 2**28
"""Bytes of the longest pickle that is read: a million tensors take fewer."""
FORBIDDEN = {"EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"}
"""Instructions that take objects from outside of the file."""
MakeStorage = Callable[[str, str, int], "Storage"]
"""A storage by its class, its key and the number of its elements."""


class Storage(NamedTuple):
    """A run of numbers in `file`: `length` of a type, from byte `begin` on."""

    file: pathlib.Path
    begin: int
    kind: str
    length: int
    size: int = 0
    """Bytes that `checksum` is of, CRC32 as zip files have it; 0 where there is none."""
    checksum: int = 0


class PickledTensor(NamedTuple):
    """A tensor of a storage: its first number there, its shape, and its strides in numbers, not in bytes."""

    storage: Storage
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """The type as safetensors names it."""
        return STORAGES[self.storage.kind][0]

    def read(self) -> np.ndarray:
        """Reads the tensor's numbers; of the file only those between its first and its last."""
        kind, storage = np.dtype(STORAGES[self.storage.kind][1]), self.storage
        if 0 in self.shape:
            return np.zeros(self.shape, kind)
        # Shape (2, 3) with strides (1, 2), a transpose: 1 + 1 * 1 + 2 * 2 = 6 numbers from the first to the last.
        count = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        _check_sum(storage, storage.file.stat().st_mtime_ns)
        with storage.file.open("rb") as file:
            file.seek(storage.begin + self.first * kind.itemsize)
            numbers = np.frombuffer(_exactly(file, count * kind.itemsize, storage.file), kind)
        strides = [stride * kind.itemsize for stride in self.strides]
        return np.array(np.lib.stride_tricks.as_strided(numbers, self.shape, strides, writeable=False), order="C")


def open_pickle(file: pathlib.Path) -> dict[str, PickledTensor]:
    """The tensors of a file of torch.save by name, without their numbers.

    Raises:
      UserError: it is damaged or no such file, it names anything else than tensors, or it holds something else.
    """
    try:
        found = _of_zip(file) if zipfile.is_zipfile(file) else _of_row(file)
    except UserError:
        raise
    except Exception as error:  # whatever reading a damaged file can raise
        told = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        raise UserError(
            f"{file} is damaged or no file of torch.save ({type(error).__name__}: {told[:80]}): fetch it again."
        ) from None
    wrong = [name for name, value in found.items() if not (isinstance(name, str) and isinstance(value, PickledTensor))]
    if wrong:
        raise UserError(
            f"{file} holds {wrong[0]!r}, which is no tensor: the weights of a model are a dictionary of tensors alone, "
            "so load it with what wrote it and save the model's state_dict()."
        )
    for name, tensor in found.items():
        _check_bounds(file, name, tensor)
    return dict(found)


def _of_zip(file: pathlib.Path) -> dict[Any, Any]:
    """The content of a zip file: data.pkl, and a member for each storage, uncompressed."""
    with zipfile.ZipFile(file) as archive, file.open("rb") as raw:
        members = {member.filename: member for member in archive.infolist()}
        main = next((name for name in members if name.endswith("/data.pkl")), None)
        if main is None:
            raise ValueError("no data.pkl in it")
        folder = main.removesuffix("data.pkl")
        order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in members else b"little"
        if order != b"little":
            raise ValueError(f"its bytes are in {order.decode(errors='replace')}-endian order")
        if members[main].file_size > LONGEST:
            raise ValueError("its data.pkl is too long")

        def storage(kind: str, key: str, count: int) -> Storage:
            member = members[f"{folder}data/{key}"]
            if member.compress_type != zipfile.ZIP_STORED or member.file_size < count * _size(kind):
                raise ValueError(f"the storage {key} is compressed or too short")
            # A member begins with 30 bytes, at last the lengths of its name and its extra field, which come next.
            raw.seek(member.header_offset)
            lengths = struct.unpack("<2H", raw.read(30)[26:])
            begin = member.header_offset + 30 + sum(lengths)
            return Storage(file, begin, kind, count, member.file_size, member.CRC)

        return _load(archive.read(main), file, storage)


def _of_row(file: pathlib.Path) -> dict[Any, Any]:
    """The content of a file before torch 1.6: pickles one after the other, then each storage behind its length.

    The storages begin behind the pickle that needs them, so that one is loaded twice: for their types and lengths, from
    which their begins follow, and for the tensors.
    """
    begins: dict[str, int] = {}
    wanted: dict[str, tuple[str, int]] = {}

    def first_pass(kind: str, key: str, count: int) -> Storage:
        wanted[key] = kind, count
        return Storage(file, 0, kind, count)

    with file.open("rb") as raw:
        if _load(_next(raw), file) != MAGIC:
            raise ValueError("it does not begin as one")
        for _ in range(2):  # the version and what is known of the machine
            _load(_next(raw), file)
        content = _next(raw)
        _load(content, file, first_pass)
        for key in _load(_next(raw), file):
            kind, count = wanted[key]
            if struct.unpack("<q", _exactly(raw, 8, file))[0] != count:
                raise ValueError(f"the storage {key} has another length than its tensors")
            begins[key] = raw.tell()
            raw.seek(count * _size(kind), io.SEEK_CUR)
    return _load(content, file, lambda kind, key, count: Storage(file, begins[key], kind, count))


def _next(raw: BinaryIO) -> bytes:
    """Reads the bytes of the next pickle of a file."""
    begin = raw.tell()
    for _ in pickletools.genops(raw):
        if raw.tell() - begin > LONGEST:
            raise ValueError("one of its pickles is too long")
    end = raw.tell()
    raw.seek(begin)
    return raw.read(end - begin)


def _load(data: bytes, file: pathlib.Path, storage: MakeStorage | None = None) -> Any:
    """The object of a pickle whose instructions are harmless, with tensors as descriptions.

    Raises:
      ValueError: an instruction that no file of torch.save has.
      UserError: the pickle names something else than parts of tensors.
    """
    for code, argument, _ in pickletools.genops(data):
        # The memo is a list as long as its highest index, so one beyond the bytes at hand would only take memory.
        if code.name in FORBIDDEN or (code.name.endswith("PUT") and int(str(argument)) > len(data)):
            raise ValueError(f"the instruction {code.name} has no place in it")
        if code.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            _require_known(module, name, file)
    reader = _Reader(io.BytesIO(data))
    reader.file, reader.storage = file, storage
    return reader.load()


def _require_known(module: str, name: str, file: pathlib.Path) -> None:
    tensors = (module == "torch" and name in STORAGES) or (module == "torch._utils" and name in REBUILT)
    if not tensors and (module, name) != ("collections", "OrderedDict"):
        raise UserError(
            f"{file} is a pickle that names {module}.{name}, which is no part of a tensor, so it could run any code: "
            "it was not opened. If you trust where it is from, load it with torch and save the model's state_dict()."
        )


class _Reader(pickle.Unpickler):
    """An unpickler in which the few known names stand for functions of this module."""

    file: pathlib.Path
    storage: MakeStorage | None

    def find_class(self, module: str, name: str, /) -> str | Callable[..., object]:
        """The stand-in of a name: of a storage its name, of a function one of ours.

        STACK_GLOBAL, which takes its names from the stack, is not seen by `_load`, so names are checked here again.
        """
        _require_known(module, name, self.file)
        if name in STORAGES:
            return name
        return {"OrderedDict": OrderedDict, "_rebuild_parameter": _parameter}.get(name, _tensor)

    def persistent_load(self, pid: Any, /) -> Storage:
        """The storage of ("storage", its class, its key, the device, the number of its elements)."""
        tag, kind, key, _, count, *view = pid
        if tag != "storage" or kind not in STORAGES or any(view) or self.storage is None:
            raise ValueError("a storage of another form")
        return self.storage(kind, str(key), _whole(count))


def _tensor(storage: object, first: object, shape: Any, strides: Any, *rest: object) -> PickledTensor:
    """Takes the arguments of torch._utils._rebuild_tensor_v2; the rest are gradients and hooks, which nobody needs."""
    if not isinstance(storage, Storage) or len(shape) != len(strides):
        raise ValueError("a tensor of another form")
    return PickledTensor(storage, _whole(first), tuple(map(_whole, shape)), tuple(map(_whole, strides)))


def _parameter(data: object, *rest: object) -> object:
    """Takes the arguments of torch._utils._rebuild_parameter."""
    return data


def _whole(number: object) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError(f"{number!r} where a size is expected")
    return number


def _size(kind: str) -> int:
    return np.dtype(STORAGES[kind][1]).itemsize


def _check_bounds(file: pathlib.Path, name: str, tensor: PickledTensor) -> None:
    """Raises `UserError` if a tensor reaches beyond its storage, or the storage beyond the file."""
    storage = tensor.storage
    last = tensor.first + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    inside = 0 in tensor.shape or (last < storage.length and math.prod(tensor.shape) <= storage.length)
    if not inside or storage.begin + storage.length * _size(storage.kind) > file.stat().st_size:
        raise UserError(f"{file} is damaged: the tensor {name!r} reaches beyond its numbers: fetch it again.")


@functools.lru_cache(maxsize=4)
def _check_sum(storage: Storage, time: int) -> None:
    """Raises `UserError` if the bytes of a storage, at some time, are not those that were written."""
    left, found = storage.size, 0
    with storage.file.open("rb") as file:
        file.seek(storage.begin)
        while left:
            block = _exactly(file, min(left, 2**22), storage.file)
            left, found = left - len(block), zlib.crc32(block, found)
    if storage.size and found != storage.checksum:
        raise UserError(f"{storage.file} is damaged: numbers in it have changed since it was written: fetch it again.")


def _exactly(file: BinaryIO, count: int, name: pathlib.Path) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise UserError(f"{name} is damaged: it ends too early: fetch it again.")
    return data
