"""`t5like export`: a run becomes a folder that transformers loads with its own classes.

Weights are written parameter by parameter into files of a bounded size, so that a host holds one file and one parameter
beside the run itself. The folder is written as `<name>.partial` and renamed when it is whole: an export that is killed
leaves nothing that could be taken for one.
"""

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import ml_dtypes
import numpy as np

from t5like.config import Model
from t5like.convert.card import model_card
from t5like.convert.families import FAMILIES
from t5like.convert.files import INDEX, WEIGHTS
from t5like.convert.kept import generation_config
from t5like.convert.kept_fields import kept_kind, written_back
from t5like.convert.kinds import kind_of
from t5like.convert.layout import (
    TensorMapping,
    TensorMappings,
    leaves_of,
    names_of,
    their_shape,
    to_theirs,
)
from t5like.convert.options import ExportOptions
from t5like.convert.partial import whole_folder
from t5like.convert.tokenizer_files import write_tokenizer
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.infer.constraints import FILE, constraints_of
from t5like.json_files import write_json
from t5like.model.sharding import Params
from t5like.runs.opened import Restored, with_merged_adapters
from t5like.storage import Path


def export_run(restored: Restored, target: Path, options: ExportOptions) -> str:
    """Writes the folder `target` of a restored run and returns the class of transformers that loads it.

    Adapters are added to the matrices that they belong to.

    Raises:
      UserError: the target is there already or cannot be written, or transformers has no such model.
    """
    if target.exists():
        raise UserError(f"{target} is there already: name a new folder, or move that away.")
    restored = with_merged_adapters(restored)
    model, vocabulary = restored.config.model, restored.vocabulary
    kind = kind_of(model, options.type, kept_kind(restored.run))
    family = FAMILIES[kind]
    name = family.CLASSES[kind][model.head]
    with whole_folder(target) as partial:
        mappings, repeated = family.tensor_mappings(model), family.repeated(model)
        write_weights(restored.params, mappings, partial, options.dtype, options.shard_gigabytes, repeated)
        settings = {"architectures": [name], "model_type": kind, "dtype": options.dtype}
        kept, special = restored.run.hugging_face, special_ids(vocabulary, model)
        settings |= family.settings_of(model, kind) | special
        write_json(partial / "config.json", written_back(settings, restored.run))
        if model.decoder_layers and model.predicts_pieces:
            write_json(partial / FILE, generation_config(kept, special, constraints_of(restored)))
        write_tokenizer(vocabulary, model, restored.frame, partial, kept)
        (partial / "README.md").write_text(model_card(restored, name, target.name), "utf-8")
    return name


def special_ids(vocabulary: Vocabulary, model: Model) -> dict[str, int]:
    """The ids of the tokens that frame a text, by their fields of config.json; not all tokenizers have padding."""
    control = vocabulary.pieces.control
    ids = {} if control.pad is None else {"pad_token_id": control.pad}
    if model.family == "encoder":
        return ids
    start = "decoder_start_token_id" if model.family == "encoder-decoder" else "bos_token_id"
    return ids | {"eos_token_id": vocabulary.eos, start: vocabulary.start}


def write_weights(
    params: Params,
    mappings: TensorMappings,
    folder: pathlib.Path,
    dtype: str,
    most_gigabytes: float = 5.0,
    repeated: Mapping[str, str] | None = None,
) -> None:
    """Writes parameters as model.safetensors, or as files of at most `most_gigabytes` with their index.

    `repeated` maps the names under which a tensor is stored once more to its own.

    Raises:
      UserError: a file cannot be written, or a number is too large for `dtype`.
    """
    import safetensors
    import safetensors.numpy

    kind = _numpy_type(dtype)
    leaves = leaves_of(params)
    groups = list(_groups(leaves, mappings, repeated or {}))
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
        write_json(folder / INDEX, {"metadata": sizes, "weight_map": dict(sorted(weight_map.items()))})


class TensorGroup(NamedTuple):
    """Parameters that share tensors, in the order of their parts, and those tensors with their shape."""

    paths: Sequence[str]
    mapping: TensorMapping
    names: Sequence[str]
    shape: tuple[int, ...]


def _groups(
    leaves: Mapping[str, jax.Array], mappings: TensorMappings, repeated: Mapping[str, str]
) -> Iterator[TensorGroup]:
    """Groups of parameters by their tensors: query, key and value of a GPT-2 are one, all others stand alone."""
    together: dict[str, list[str]] = {}
    for path in leaves:
        together.setdefault(mappings[path].name, []).append(path)
    for paths in together.values():
        paths.sort(key=lambda path: mappings[path].part)
        path, mapping = paths[0], mappings[paths[0]]
        shape = leaves[path].shape
        one = shape[1:] if mapping.stacked else shape
        names = names_of(mapping, shape)
        again = [second for second, first in repeated.items() if first in names]
        yield TensorGroup(paths, mapping, [*names, *again], their_shape(mapping, one))


def _files(groups: Sequence[TensorGroup], itemsize: int, most: float) -> list[set[str]]:
    """The names of the tensors of each file, filled in their order up to `most` bytes; a tensor is never cut."""
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
    leaves: Mapping[str, jax.Array], groups: Sequence[TensorGroup], files: Sequence[set[str]], kind: np.dtype
) -> Iterator[dict[str, np.ndarray]]:
    """The tensors of each file in turn; at any time one file's and one group's are in memory."""
    tensors: dict[str, np.ndarray] = {}
    waiting = iter(files)
    wanted = next(waiting)
    for group in groups:
        arrays = [np.asarray(jax.device_get(leaves[path])) for path in group.paths]
        for layer, name in enumerate(group.names):
            if name not in wanted:  # `files` are filled in the order of the groups: the one before is complete
                yield tensors
                tensors, wanted = {}, next(waiting)
            parts = [array[layer] if group.mapping.stacked else array for array in arrays]
            tensors[name] = cast_tensor(to_theirs(parts, group.mapping), kind.name, name)
    yield tensors


def cast_tensor(tensor: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """The tensor in another type.

    Raises:
      UserError: one of its numbers would become infinite.
    """
    kind = _numpy_type(dtype)
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(tensor.astype(kind))
    if (lost := np.isinf(cast) & np.isfinite(tensor)).any():
        largest, most = np.abs(tensor[lost]).max(), ml_dtypes.finfo(kind).max
        raise UserError(
            f"--dtype {kind.name} holds numbers up to {most:.4g}, but the tensor {name!r} has {largest:.4g}: export "
            f"with --dtype {'bfloat16' if kind == np.float16 else 'float32'}."
        )
    return cast


def _numpy_type(dtype: str) -> np.dtype:
    return np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
