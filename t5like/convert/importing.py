"""`t5like import`: a folder of Hugging Face, or a checkpoint of T5X, becomes a run directory.

Everything that needs no numbers is checked first: config, names, shapes, tokenizer. Then each tensor is read once and
cut up for the devices of the mesh, so that a host holds its share of the parameters and one layer more. The run
directory is written as `<name>.partial` and renamed when it is whole.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from t5like.config import Config, Data, Eval, Model, Objective, Optimizer, Train, presets
from t5like.config import Vocabulary as VocabularySettings
from t5like.convert.exporting import special_ids
from t5like.convert.families import RECORD, Family, NamedTensors, family_of, model_in, unused_tensors
from t5like.convert.files import open_weights
from t5like.convert.kept import keep_files
from t5like.convert.kept_fields import keep, notes_on
from t5like.convert.layout import TensorMappings, Tensors, assemble, layers_of
from t5like.convert.options import ImportOptions
from t5like.convert.partial import whole_folder
from t5like.convert.rows import rows_for, with_rows
from t5like.convert.settings import Settings, read_settings
from t5like.convert.t5x import t5x_mappings, t5x_model
from t5like.convert.t5x_files import T5XTensors, is_t5x, open_t5x
from t5like.convert.tokenizer import read_tokenizer, with_frame
from t5like.data.vocabulary import Bytes, Vocabulary, load_pieces, open_vocabulary
from t5like.errors import UserError
from t5like.json_files import sealed
from t5like.model.network import make_network
from t5like.model.sharding import Params, make_mesh
from t5like.runs.checkpoints import Checkpoints
from t5like.runs.directory import RunDirectory
from t5like.runs.shapes import shapes_of
from t5like.storage import Path, local_copy, path_of

LONGEST = 512
"""Tokens of a row in an imported run's config; any command can change them."""


@dataclass
class Imported:
    """A checkpoint as it is known before its numbers are read, and the findings of reading them."""

    origin: str
    """Class of transformers, or T5X."""
    kind: str
    """`model_type` of transformers; empty for T5X."""
    tensors: NamedTensors | T5XTensors
    mappings: TensorMappings
    model: Model
    vocabulary: Vocabulary
    family: Family | None = None
    settings: Settings | None = None
    added: int = 0
    """Rows that the embedding has more than the checkpoint's."""
    notes: list[str] = field(default_factory=list)
    """Sentences for the user on fields and rows that were added, are lost, or are kept and not followed."""
    unused: dict[str, str] = field(default_factory=dict)
    non_finite: list[str] = field(default_factory=list)


def import_run(source: Path, target: Path, options: ImportOptions) -> Imported:
    """Makes the run directory `target` of the checkpoint at `source`.

    Raises:
      UserError: the target is there already, or something of the source is missing, damaged, contradictory or unknown.
    """
    if target.exists():
        raise UserError(f"{target} is there already: name a new run directory, or move that away.")
    if not source.is_dir():
        raise UserError(f"There is no folder {source} to import.")
    with local_copy(source, beside="config.gin") as folder:
        return _import_folder(folder, target, options)


def _import_folder(source: pathlib.Path, target: Path, options: ImportOptions) -> Imported:
    theirs = is_t5x(source) and not (source / "config.json").exists()
    found = _open_t5x(source, options) if theirs else _open_hugging_face(source, options)
    _fit_rows(found, options)
    config = imported_config(found, target, options)
    mesh = make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        network = make_network(config, mesh)
        abstract = network.params
        require_shapes(with_rows(found.tensors, found.mappings, found.added), found.mappings, abstract)
        if found.family and isinstance(found.tensors, NamedTensors):
            found.unused = unused_tensors(found.tensors, found.family, found.model, shapes_of(abstract), options.ignore)
        print(f"Reading {network.parameter_count:,} parameters of {source} onto {mesh.size} device(s) ...", flush=True)
        with whole_folder(target) as partial:
            _write(found, config, abstract, RunDirectory(partial))
            if not theirs:
                generates = bool(found.model.decoder_layers) and found.model.predicts_pieces
                fields = read_settings(source).fields
                found.notes += keep_files(source, RunDirectory(partial).hugging_face, fields, generates)
    return found


def require_shapes(tensors: Tensors, mappings: TensorMappings, abstract: Params) -> None:
    """Raises `UserError` for the first tensor that a parameter needs and that is missing or has another shape."""
    for path, shape in shapes_of(abstract).items():
        for _ in layers_of(_Described(tensors), path, mappings[path], shape):
            pass


def read_params(tensors: Tensors, mappings: TensorMappings, abstract: Params, non_finite: list[str]) -> Params:
    """Reads the parameters that `abstract` describes, with its shardings, from the tensors.

    Names of parameters with NaN or infinite values are added to `non_finite`.

    Raises:
      UserError: a tensor is missing or has another shape.
    """
    filled, wanted = {}, cast(dict[str, jax.ShapeDtypeStruct], flatten_dict(abstract, sep="/"))
    for path, leaf in wanted.items():
        layers = layers_of(tensors, path, mappings[path], leaf.shape)
        filled[path] = assemble(_watched(layers, path, non_finite), mappings[path].stacked, leaf)
    return unflatten_dict(filled, sep="/")


def imported_config(found: Imported, target: Path, options: ImportOptions) -> Config:
    """A config with which every command can use the run; its data are for the user to name before training."""
    model, vocabulary = found.model, found.vocabulary
    length = min(LONGEST, model.max_positions or LONGEST)
    optimizer = Optimizer(name="adamw", learning_rate=3e-5, schedule="constant", clip=1.0)
    if model.positions == "relative":  # how T5 is fine-tuned
        optimizer = Optimizer(name="adafactor", learning_rate=1e-3, schedule="constant")
    return Config(
        model=model,
        data=Data(
            store=f"stores/{target.name}",
            vocabulary=vocabulary_settings(vocabulary, target),
            objective=_objective(model, len(vocabulary.sentinels), length),
            length=length,
            held_out=0.05,
        ),
        optimizer=optimizer,
        mesh=options.mesh,
        rules=options.rules,
        train=Train(directory=str(target), steps=1000, batch=32),
        eval=Eval(rows=256, batch=32),
    )


def vocabulary_settings(vocabulary: Vocabulary, target: Path) -> VocabularySettings:
    """The settings that find the vocabulary in the run directory `target`."""
    extra = tuple(name for name in vocabulary.special if name not in vocabulary.pieces.special)
    extra = tuple(name for name in extra if not name.startswith("<extra_id_"))
    sentinels = len(vocabulary.sentinels)
    if isinstance(vocabulary.pieces, Bytes):
        return VocabularySettings(kind="bytes", size=vocabulary.pieces.size, extra=extra, sentinels=sentinels)
    size = vocabulary.size - len(extra) - sentinels
    path = str(RunDirectory(target).vocabulary)
    return VocabularySettings(kind="file", path=path, size=size, extra=extra, sentinels=sentinels)


def _open_hugging_face(source: pathlib.Path, options: ImportOptions) -> Imported:
    settings = read_settings(source)
    family, files = family_of(settings), open_weights(source)
    model = model_in(settings, files)
    # `_fit_rows` compares the rows of the embedding with the vocabulary, also with one that the options give.
    fields = {name: value for name, value in settings.fields.items() if name != "vocab_size"}
    vocabulary = _given(options)
    if vocabulary is None:
        vocabulary = read_tokenizer(source, fields)
    elif vocabulary.frame is None:
        path = path_of(options.vocabulary)
        vocabulary = with_frame(vocabulary, path if path.is_dir() else path.parent, settings.fields)
    kind = settings.get("model_type", "")
    return Imported(
        settings.architecture or kind,
        kind,
        NamedTensors(files, family, model),
        family.tensor_mappings(model),
        model,
        vocabulary,
        family,
        settings,
        notes=[*notes_on(settings, family, model)],
    )


def _fit_rows(found: Imported, options: ImportOptions) -> None:
    """Gives the embedding a row for each token of the vocabulary, if the options say so.

    Raises:
      UserError: there are more tokens than rows, and the options do not say so.
    """
    rows, tokens = found.model.vocab, found.vocabulary.size
    if tokens <= rows:
        return
    if not options.add_rows:
        raise UserError(
            f"The vocabulary has {tokens} pieces, but the embedding only {rows} rows: either the tokenizer belongs to "
            f"another model, or pieces were added to it that the model never saw; --add_rows True gives these rows."
        )
    found.added = rows_for(tokens, rows) - rows
    found.model = dataclasses.replace(found.model, vocab=rows + found.added)
    found.notes.append(f"Added {found.added} rows to the {rows} of the embedding, each the mean of these.")


def _open_t5x(source: pathlib.Path, options: ImportOptions) -> Imported:
    tensors = open_t5x(source)
    beside = (folder / "config.gin" for folder in (source, source.resolve().parent))
    model = t5x_model(tensors, next((file for file in beside if file.is_file()), None))
    vocabulary = _given(options)
    if vocabulary is None:
        raise UserError(
            f"{source} is a checkpoint of T5X, which holds no vocabulary: give --vocabulary, the spiece.model that it "
            "was trained with, or `bytes` for ByT5."
        )
    return Imported("T5X", "", tensors, t5x_mappings(model, tensors), model, vocabulary)


def _given(options: ImportOptions) -> Vocabulary | None:
    """The vocabulary that the options name, if any."""
    if not options.vocabulary:
        return None
    if options.vocabulary == "bytes":
        return Vocabulary(Bytes(), sentinels=11)
    path = path_of(options.vocabulary)
    if (path / "vocabulary.json").is_file():
        return open_vocabulary(path)
    pieces = load_pieces(path)
    own = any(name.startswith("<extra_id_") for name in pieces.special)
    return Vocabulary(pieces, sentinels=0 if own else options.sentinels)


class _Described:
    """Tensors without their numbers, to check names and shapes."""

    def __init__(self, tensors: Tensors):
        self.names, self.shape = tensors.names, tensors.shape

    def read(self, name: str) -> np.ndarray:
        return np.broadcast_to(np.float32(0), self.shape(name))


def _objective(model: Model, sentinels: int, length: int) -> Objective:
    """The objective that the family learns: spans of T5's mean length or ByT5's, by the sentinels, or else a prefix."""
    if model.family == "decoder":
        return Objective(kind="causal")
    if model.family == "encoder":
        return Objective(kind="next_sentence" if model.head == "next_sentence" else "masked")
    spans = (Objective(kind="span_corruption", mean_span=mean) for mean in (3.0, 20.0))
    return next((one for one in spans if one.span_lengths(length).spans <= sentinels), Objective(kind="prefix"))


def _write(found: Imported, config: Config, abstract: Params, run: RunDirectory) -> None:
    presets.write(config, run.path)
    found.vocabulary.save(run.vocabulary)
    tensors = with_rows(found.tensors, found.mappings, found.added)
    params = read_params(tensors, found.mappings, abstract, found.non_finite)
    with Checkpoints(run.checkpoints, 1, found.vocabulary.hash) as checkpoints:
        checkpoints.save_params(params, 0)
    if found.settings and found.family:
        before = dataclasses.replace(found.model, vocab=found.model.vocab - found.added)
        keep(run, found.settings, found.family, before, special_ids(found.vocabulary, before))
    record = {"from": found.origin, "model_type": found.kind, "unused": found.unused, "non_finite": found.non_finite}
    (run.path / RECORD).write_bytes(sealed(json.dumps(record, indent=2)))


def _watched(layers: Iterable[np.ndarray], path: str, non_finite: list[str]) -> Iterator[np.ndarray]:
    """The same layers; the path is added to `non_finite` if one of them has NaN or an infinite value."""
    for layer in layers:
        if path not in non_finite and not np.isfinite(layer).all():
            non_finite.append(path)
        yield layer
