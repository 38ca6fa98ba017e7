"""The files of a T5X checkpoint, and its parameters by T5X's names, read one at a time.

T5X wrote a msgpack file `checkpoint` that holds the tree of parameters and, instead of large arrays, TensorStore
specs (until 2023) or Orbax's placeholders, with a zarr folder for each array beside it. Orbaxes of today leave the file
out and list the arrays in `_METADATA`, and may keep them all in one OCDBT database. Nothing here needs jax before a
checkpoint is opened, so that asking what a folder is costs nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from t5like.errors import UserError
from t5like.json_files import parse
from t5like.storage import inside

MSGPACK, METADATA, PLACEHOLDER = "checkpoint", "_METADATA", "PLACEHOLDER://"
VERSIONS = (2, 3)
FLOATS = ("float32", "bfloat16", "float16")
FIRST_KEYS = (b"version", b"optimizer", b"target", b"state", b"flax_mutables")
AGAIN = "copy the checkpoint again"
_STEP = re.compile(r"checkpoint_(\d+)")
_HEADS = re.compile(r"((?:encoder/encoder|decoder/decoder)/)?.*attention/(query|key|value|out)/kernel")


def is_t5x(path: str | Path) -> bool:
    """True if a folder looks like a T5X checkpoint, `checkpoint_<step>`, or holds some; opens no array."""
    folder = Path(path).absolute()
    if not folder.is_dir():
        return False
    if _STEP.fullmatch(folder.name) or _steps(folder) or any(folder.glob("target.*")):
        return True
    return any(_begins_like_t5x(state / MSGPACK) or _lists_target(state / METADATA) for state in _states(folder))


def open_t5x(path: str | Path) -> "T5XTensors":
    """The parameters of a checkpoint, or of the newest of those that a folder holds; no large array is read yet.

    Raises:
      UserError: no T5X checkpoint, a damaged one, or one of a version that is not known.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(
            f"{path} is not a folder: give T5X's checkpoint_<step>, or the folder that holds it, on this machine."
        )
    if steps := _steps(folder):
        folder = steps[max(steps)]
    for state in _states(folder):
        if (state / MSGPACK).is_file():
            return T5XTensors(state, _from_msgpack(state / MSGPACK))
        if (state / METADATA).is_file():
            return T5XTensors(state, _from_metadata(state / METADATA))
    raise UserError(
        f"{folder} has neither T5X's msgpack file {MSGPACK!r} nor Orbax's {METADATA!r}: it is not a T5X checkpoint, or "
        "was not copied whole."
    )


class T5XTensors:
    """The parameters of one checkpoint by T5X's names, such as `encoder/layers_0/mlp/wi/kernel`.

    Heads are always joined, `[embed, heads * kv]`, as examples/t5 keeps them; where a checkpoint has them apart, they
    are joined while it is read. The optimizer's state is never read.
    """

    def __init__(self, folder: Path, leaves: Mapping[str, np.ndarray | str]) -> None:
        """`leaves` holds small arrays themselves, and the names of the zarr arrays of others."""
        self.folder, self._leaves = folder, leaves

    def names(self) -> Iterable[str]:
        return self._leaves.keys()

    def stored_shape(self, name: str) -> tuple[int, ...]:
        """The shape as it is stored, perhaps with heads apart."""
        leaf = self._leaves[name]
        return tuple(leaf.shape if isinstance(leaf, np.ndarray) else self._open(leaf).shape)

    def shape(self, name: str) -> tuple[int, ...]:
        return _joined_shape(name, self.stored_shape(name))

    def read(self, name: str) -> np.ndarray:
        """The array, in the type that it is stored in.

        Raises:
          UserError: a part of it is missing, or it does not hold floating-point numbers.
        """
        leaf = self._leaves[name]
        array = leaf if isinstance(leaf, np.ndarray) else self._read(leaf)
        if array.dtype.name not in FLOATS:
            raise UserError(
                f"The array {name!r} of {self.folder} holds {array.dtype.name}, not one of {', '.join(FLOATS)}: write "
                "it again with a newer T5X."
            )
        if _apart(name, array.ndim) == "out":
            array = np.moveaxis(array, -2, 1)
        return array.reshape(_joined_shape(name, self.stored_shape(name)))

    def _open(self, leaf: str) -> Any:
        import tensorstore

        folder = f"{self.folder.absolute()}/"
        store = {"driver": "file", "path": f"{folder}{leaf}/"}
        if (self.folder / "manifest.ocdbt").is_file():
            store = {"driver": "ocdbt", "base": {"driver": "file", "path": folder}, "path": f"{leaf}/"}
        # A chunk that is not there would otherwise read as zeros.
        spec = {"driver": "zarr", "kvstore": store, "fill_missing_data_reads": False}
        try:
            return tensorstore.open(spec, read=True).result()
        except ValueError as error:
            raise self._broken(leaf, error) from error

    def _read(self, leaf: str) -> np.ndarray:
        array = self._open(leaf)
        try:
            return array.read().result()
        except ValueError as error:
            raise self._broken(leaf, error) from error

    def _broken(self, leaf: str, error: ValueError) -> UserError:
        cause = str(error).split(" [")[0].rstrip(".")
        return UserError(f"The array {self.folder / leaf} is missing or cut off ({cause}): {AGAIN}.")


def _steps(folder: Path) -> dict[int, Path]:
    found = ((_STEP.fullmatch(child.name), child) for child in folder.iterdir())
    return {int(name[1]): child for name, child in found if name and child.is_dir()}


def _states(folder: Path) -> tuple[Path, Path]:
    """The folders that may hold a checkpoint's state: T5X put it into the folder itself, Orbax's manager one below."""
    return folder, folder / "state"


def _begins_like_t5x(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        begin = opened.read(40)
    # A small map, then a short string: so msgpack begins what T5X wrote.
    return len(begin) > 2 and begin[0] >> 4 == 0x8 and begin[2:].startswith(FIRST_KEYS)


def _lists_target(file: Path) -> bool:
    return file.is_file() and "('target', " in file.read_text("utf-8")


def _from_msgpack(file: Path) -> dict[str, np.ndarray | str]:
    from flax.serialization import msgpack_restore

    raw = file.read_bytes()
    if raw.startswith(b"model_checkpoint_path"):
        raise UserError(f"{file} is of a TensorFlow checkpoint, not of T5X: convert it with T5X first.")
    try:
        content: Any = msgpack_restore(raw)
        tree = content.get("optimizer", content)
        target = tree.get("target")
    except (ValueError, TypeError, KeyError, AttributeError, SyntaxError) as error:  # numpy parses the names of types
        raise UserError(f"The msgpack file {file} is damaged ({str(error).rstrip('.')}): {AGAIN}.") from error
    if "optimizer" in content and content.get("version") not in VERSIONS:
        raise UserError(
            f"{file} is of version {content.get('version')}, but versions {' and '.join(map(str, VERSIONS))} of T5X's "
            "checkpoints are known: write it again with a newer T5X."
        )
    if not isinstance(target, dict) or not target:
        raise UserError(f"{file} has no parameters under 'target': it is not a T5X checkpoint.")
    return {name: _leaf(file, name, value) for name, value in _flat(target, "")}


def _flat(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict) and not {"driver", "kvstore"} <= value.keys():
            yield from _flat(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _leaf(file: Path, name: str, value: Any) -> np.ndarray | str:
    """A small array, or the name of the array beside the file.

    "PLACEHOLDER://target.encoder.norm"                        Orbax
    {"driver": "zarr", "kvstore": {"path": "target.encoder.norm", ...}}, or the path outside of it before
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, str) and value.startswith(PLACEHOLDER):
        return inside(value.removeprefix(PLACEHOLDER), file)
    store = value.get("kvstore") if isinstance(value, dict) else None
    path = {**value, **store}.get("path") if isinstance(value, dict) and isinstance(store, dict) else None
    if isinstance(path, str):
        return inside(PurePosixPath(path).name, file)
    raise UserError(f"The msgpack file {file} has neither an array nor a place of one for {name!r}: {AGAIN}.")


def _from_metadata(file: Path) -> dict[str, np.ndarray | str]:
    try:
        entries = parse(file.read_bytes())["tree_metadata"].values()
        paths = [[str(key["key"]) for key in entry["key_metadata"]] for entry in entries]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file} is damaged ({str(error).rstrip('.')}): {AGAIN}.") from error
    found: dict[str, np.ndarray | str] = {
        "/".join(rest): inside(".".join([top, *rest]), file) for top, *rest in paths if top == "target"
    }
    if not found:
        raise UserError(f"{file} has no parameters under 'target': it is not a T5X checkpoint.")
    return found


def _apart(name: str, rank: int) -> str | None:
    """`query`, `key`, `value` or `out`, if the tensor is such a kernel with heads and kv as dimensions of their own.

    decoder/layers_0/self_attention/query/kernel   [embed, heads, kv]
    decoder/decoder/self_attention/query/kernel    [embed, layers, heads, kv]
    decoder/decoder/self_attention/out/kernel      [heads, layers, kv, embed]
    """
    found = _HEADS.fullmatch(name)
    return found[2] if found and rank == 3 + bool(found[1]) else None


def _joined_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with heads and kv as one dimension, where they are two: [embed, layers, heads * kv]."""
    kind = _apart(name, len(shape))
    if kind == "out":
        return (shape[0] * shape[-2], *shape[1:-2], shape[-1])
    return (*shape[:-2], shape[-2] * shape[-1]) if kind else shape
