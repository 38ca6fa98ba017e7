"""Fields of a Hugging Face folder that `Model` cannot say: kept in the run directory, and written back by an export.

A run keeps the folder's config.json, and the fields that an export would have written at once. An export writes the
kept fields, except those that it would write otherwise by now: so names of labels, dropouts of single layers and fields
that nothing here reads survive, and training's changes are written. A run that starts from such a run takes both along
(`RunDirectory.take_hugging_face`).
"""

from collections.abc import Iterator, Mapping
from typing import Any, NotRequired, TypedDict

from t5like.config import Model
from t5like.convert.families import RECORD, Family
from t5like.convert.rotary import ROTARY
from t5like.convert.settings import ABSENT, LABEL_FIELDS, Settings, present
from t5like.json_files import json_object, read_object, write_json
from t5like.runs.directory import RunDirectory

CONFIG, STATED = "config.json", "stated.json"
OWN = ("architectures", "dtype", "torch_dtype", "model_type", "transformers_version", "_name_or_path", "auto_map")
"""Fields that an export writes by itself or that say nothing of it."""
WINDOW = ("max_position_embeddings", "sliding_window", "use_sliding_window", "max_window_layers", "layer_types")
TOGETHER = (ROTARY, (*LABEL_FIELDS, "num_labels"), WINDOW)
"""Fields that say the same thing in several ways, so that they are kept together or not at all."""


def keep(run: RunDirectory, settings: Settings, family: Family, model: Model, special: Mapping[str, int]) -> None:
    """Keeps the fields of a folder, and those that an export of `model` would write now, in a run directory.

    `special` are the ids of the tokens that frame a text; those that the folder has otherwise do not count as known.
    """
    kind = settings.get("model_type", "")
    fields = {**family.DROPOUTS, **settings.over({}, family.ALIASES).fields}
    known = {name: number for name, number in special.items() if _agree(fields.get(name), number)}
    stated = present(family.settings_of(model, kind)) | known
    run.hugging_face.mkdir(parents=True, exist_ok=True)
    write_json(run.hugging_face / CONFIG, fields)
    write_json(run.hugging_face / STATED, stated)


class _Record(TypedDict):
    """The content of `import.json`."""

    model_type: str
    unused: NotRequired[dict[str, str]]
    non_finite: NotRequired[list[str]]


def read_record(run: RunDirectory) -> dict[str, Any]:
    """The content of a run's `import.json`, with `from`, the folder; empty where the run was not imported."""
    file = run.path / RECORD
    return read_object(file, _Record, "delete it to forget where the run is from") if file.is_file() else {}


def kept_kind(run: RunDirectory) -> str:
    """The model type of the folder that a run's parameters were once imported from, or nothing."""
    if kind := json_object(run.hugging_face / CONFIG).get("model_type"):
        return kind
    return read_record(run).get("model_type", "")


def written_back(ours: Mapping[str, Any], run: RunDirectory) -> dict[str, Any]:
    """The fields of an export: those that the run keeps, but `ours` where these are others than at the import."""
    kept, stated = json_object(run.hugging_face / CONFIG), json_object(run.hugging_face / STATED)
    if kept.get("model_type") != ours["model_type"]:
        return present(ours)
    found = {name: value for name, value in kept.items() if name not in OWN}
    changed = {name for name, value in ours.items() if name in OWN or stated.get(name, ABSENT) != value}
    for group in TOGETHER:
        if changed & {*group}:
            found = {name: value for name, value in found.items() if name not in group}
    found |= {name: value for name, value in ours.items() if name in changed or name not in found}
    order = {name: found.pop(name) for name in ("architectures", "model_type", "dtype")}
    return present(order | found)


def notes_on(settings: Settings, family: Family, model: Model) -> Iterator[str]:
    """A line for the fields of a folder that are lost, and for the dropouts that training here does not follow."""
    if settings.fields.get("auto_map"):
        yield "Lost: auto_map of config.json, which names code of the folder's own."
    rates = {name: settings.fields.get(name, default) for name, default in family.DROPOUTS.items()}
    others = [f"{name}={rate}" for name, rate in rates.items() if rate is not None and rate != model.dropout]
    if others:
        yield (
            f"Training here drops {model.dropout:g} of all activations (model.dropout); {', '.join(others)} of "
            "config.json is kept for an export alone."
        )


def _agree(kept: Any, number: int) -> bool:
    """True if a field of config.json, an id or a list of them, has this id."""
    return number in kept if isinstance(kept, list) else kept == number
