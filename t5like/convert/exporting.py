"""`t5like export`: a run becomes a folder that transformers loads with its own classes.

Weights are written parameter by parameter into files of a bounded size, so that a host holds one file and one parameter
beside the run itself. The folder is written beside its place and moved there when it is whole: an export that is
killed leaves nothing that could be taken for one.
"""

import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np
from flax.traverse_util import flatten_dict

from t5like.config import Model
from t5like.config.options import ExportOptions
from t5like.convert.card import model_card
from t5like.convert.families import FAMILIES, kind_of
from t5like.convert.files import INDEX, WEIGHTS
from t5like.convert.kept import generation_config
from t5like.convert.kept_fields import kept_kind, written_back
from t5like.convert.layout import Place, Places, is_stacked, names_of, their_shape, to_theirs
from t5like.convert.tokenizer_files import write_tokenizer
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.infer.constraints import FILE, constraints_of
from t5like.runs.opened import Restored

DTYPES: dict[str, Any] = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def export_run(restored: Restored, target: pathlib.Path, options: ExportOptions) -> str:
    """Writes the folder `target` of a restored run and returns the class of transformers that loads it.

    Raises:
      UserError: the target is there already or cannot be written, or transformers has no such model.
    """
    if target.exists():
        raise UserError(f"{target} is there already: name a new folder, or move that away.")
    model, vocabulary = restored.config.model, restored.vocabulary
    kind = kind_of(model, options.type, kept_kind(restored.run))
    family = FAMILIES[kind]
    name = family.CLASSES[kind][model.head]
    partial = target.with_name(f"{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        places, repeated = family.places(model), family.repeated(model)
        write_weights(restored.params, places, partial, options.dtype, options.shard_gigabytes, repeated)
        settings = {"architectures": [name], "model_type": kind, "dtype": options.dtype}
        kept, special = restored.run.hugging_face, special_ids(vocabulary, model)
        settings |= family.settings_of(model, kind) | special
        _write_json(partial / "config.json", written_back(settings, restored.run))
        if model.decoder_layers and model.predicts_pieces:
            _write_json(partial / FILE, generation_config(kept, special, constraints_of(restored)))
        write_tokenizer(vocabulary, model, restored.frame, partial, kept)
        (partial / "README.md").write_text(model_card(restored, name, target.name), "utf-8")
        partial.rename(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return name


def special_ids(vocabulary: Vocabulary, model: Model) -> dict[str, int]:
    """The numbers of pieces that frame a text, as config.json names them; a tokenizer without padding has none."""
    control = vocabulary.pieces.control
    ids = {} if control.pad is None else {"pad_token_id": control.pad}
    if model.family == "encoder":
        return ids
    start = "decoder_start_token_id" if model.family == "encoder-decoder" else "bos_token_id"
    return ids | {"eos_token_id": vocabulary.eos, start: vocabulary.start}


def write_weights(
    params: Any,
    places: Places,
    folder: pathlib.Path,
    dtype: str,
    most_gigabytes: float = 5.0,
    repeated: Mapping[str, str] | None = None,
) -> None:
    """Writes parameters as model.safetensors, or as files of at most `most_gigabytes` with their index.

    `repeated` are names under which a tensor, also by name, is stored once more.

    Raises:
      UserError: a file cannot be written, or a number is too large for `dtype`.
    """
    import safetensors
    import safetensors.numpy

    kind = np.dtype(DTYPES[dtype])
    leaves: dict[str, Any] = flatten_dict(params, sep="/")  # pyright: ignore[reportAssignmentType]
    groups = list(_groups(leaves, places, repeated or {}))
    files = _files(groups, kind.itemsize, most_gigabytes * 1e9)
    weight_map: dict[str, str] = {}
    total = 0
    for number, tensors in enumerate(_in_files(leaves, groups, files, kind), 1):
        name = WEIGHTS if len(files) == 1 else f"model-{number:05}-of-{len(files):05}.safetensors"
        weight_map |= dict.fromkeys(tensors, name)
        total += sum(tensor.size for tensor in tensors.values())
        try:
            safetensors.numpy.save_file(tensors, folder / name, {"format": "pt"})
        except safetensors.SafetensorError as error:
            raise UserError(f"{folder / name} cannot be written: {error}.") from None
    if len(files) > 1:
        sizes = {"total_parameters": total, "total_size": total * kind.itemsize}
        _write_json(folder / INDEX, {"metadata": sizes, "weight_map": dict(sorted(weight_map.items()))})


class Group(NamedTuple):
    """Parameters that share tensors, in the order of their parts, and those tensors with their shape."""

    paths: Sequence[str]
    place: Place
    names: Sequence[str]
    shape: tuple[int, ...]


def _groups(leaves: Mapping[str, Any], places: Places, repeated: Mapping[str, str]) -> Iterator[Group]:
    together: dict[str, list[str]] = {}
    for path in leaves:
        together.setdefault(places[path].name, []).append(path)
    for paths in together.values():
        paths.sort(key=lambda path: places[path].part)
        path, place = paths[0], places[paths[0]]
        shape = leaves[path].shape
        one = shape[1:] if is_stacked(path) else shape
        names = names_of(path, place, shape)
        again = [second for second, first in repeated.items() if first in names]
        yield Group(paths, place, [*names, *again], their_shape(place, one))


def _files(groups: Sequence[Group], itemsize: int, most: float) -> list[set[str]]:
    """The names of the tensors of each file; a tensor is never cut."""
    files: list[set[str]] = [set()]
    used = 0
    for group in groups:
        size = int(np.prod(group.shape)) * itemsize
        for name in group.names:
            if files[-1] and used + size > most:
                files.append(set())
                used = 0
            files[-1].add(name)
            used += size
    return files


def _in_files(
    leaves: Mapping[str, Any], groups: Sequence[Group], files: Sequence[set[str]], kind: np.dtype
) -> Iterator[dict[str, np.ndarray]]:
    """The tensors of each file in turn."""
    tensors: dict[str, np.ndarray] = {}
    waiting = iter(files)
    wanted = next(waiting)
    for group in groups:
        arrays = [np.asarray(jax.device_get(leaves[path])) for path in group.paths]
        for layer, name in enumerate(group.names):
            if name not in wanted:
                yield tensors
                tensors, wanted = {}, next(waiting)
            parts = [array[layer] if is_stacked(group.paths[0]) else array for array in arrays]
            tensors[name] = _cast(to_theirs(parts, group.place), kind, name)
    yield tensors


def _cast(tensor: np.ndarray, kind: np.dtype, name: str) -> np.ndarray:
    """The tensor in another type.

    Raises:
      UserError: one of its numbers would become infinite.
    """
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(tensor.astype(kind))
    if (lost := np.isinf(cast) & np.isfinite(tensor)).any():
        largest, most = np.abs(tensor[lost]).max(), ml_dtypes.finfo(kind).max
        raise UserError(
            f"--dtype {kind.name} holds numbers up to {most:.4g}, but the tensor {name!r} has {largest:.4g}: export "
            f"with --dtype {'bfloat16' if kind == np.float16 else 'float32'}."
        )
    return cast


def _write_json(file: pathlib.Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
