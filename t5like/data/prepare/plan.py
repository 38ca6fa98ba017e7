"""The plan of a store: all settings that it depends on. A folder takes no other plan than that of what lies in it.

Paths are no settings: sources, evaluation sets and the file of a vocabulary may lie elsewhere, if their content is the
same (`inputs.py`).
"""

import dataclasses
import json
import typing
from typing import Any

from etils import epath

from t5like import config
from t5like.config.conditions import effective
from t5like.data.prepare.inputs import Prepared, compare, inputs_of, prepared
from t5like.data.sources.identity import Differences
from t5like.data.store import forms
from t5like.data.store.forms import FORMAT
from t5like.errors import UserError
from t5like.json_files import read_object

LEARNED = ("kind", "size", "path", "coverage", "lowercase", "train_characters")
MIXING = ("name", "rate", "on_error", "test")
"""Fields of a source that a store does not depend on."""
JUDGING = ("metric", "chinese", "tokens")
"""Fields of a task that it does not depend on."""


def plan_of(data: config.Data) -> dict[str, Any]:
    """All that a store depends on."""
    read = [dataclasses.asdict(source) for source in data.sources]
    learned = {name: getattr(data.vocabulary, name) for name in LEARNED}
    plan: dict[str, Any] = {
        "format": FORMAT,
        "sources": list(map(_kept, read)),
        "filters": [dataclasses.asdict(filter) for filter in data.filters],
        "vocabulary": learned,
        "held_out": data.held_out,
    }
    if data.has_tasks:
        plan["held_out_test"] = data.held_out_test
        if data.objective.spec.head:
            kind, own = data.objective.kind, data.vocabulary
            plan["rows"] = [kind, data.length, own.extra, own.sentinels]
    return json.loads(json.dumps(plan))


def check_plan(folder: epath.Path, data: config.Data) -> None:
    """Refuse a folder in which something was prepared by another plan; one without a vocabulary holds nothing yet.

    Raises:
      UserError: the plan is another one, is damaged, or is of another version.
    """
    if not (folder / "vocabulary" / "vocabulary.json").exists():
        return
    stored = read_object(folder / "plan.json", forms.Plan, f"delete {folder} and prepare it again")
    if stored.get("format") != FORMAT:
        raise UserError(f"{folder} is a store of another version of t5like: choose another data.store, or delete it.")
    before, now = _used(stored), _used(plan_of(data))
    different = [name for name in now if before.get(name) != now.get(name)]
    moved = different and _without_paths(before) == _without_paths(now)
    if moved and (there := prepared(folder)) and not _elsewhere(there, data):
        return
    if different:
        raise UserError(
            f"{folder} was prepared with other {' and '.join(f'data.{name}' for name in different)}: "
            "choose another data.store, or delete that folder."
        )


def _elsewhere(there: Prepared, data: config.Data) -> Differences:
    """The differences of a store's inputs from files at other paths, all of which must be at hand; further files are
    none."""
    now = inputs_of(data)
    found, at_hand = compare(there.inputs, now), {(key.source, key.split) for key in now}
    lost = [key for key in there.inputs if (key.source, key.split) not in at_hand]
    return found._replace(added=[], removed=[*found.removed, *lost])


def _used(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan without the settings that have no effect beside the others, which older stores may hold, and with the
    defaults of fields that are newer than it."""
    filters = []
    for filter in plan.get("filters", []):
        kind = next((kind for kind in typing.get_args(config.Filter) if kind.kind == filter.get("kind")), None)
        filter = filter | {"sources": list(map(_source, filter["sources"]))} if "sources" in filter else filter
        filters.append(_complete(kind, filter) if kind else filter)
    vocabulary = _complete(config.Vocabulary, plan.get("vocabulary", {}))
    return plan | {
        "sources": list(map(_source, plan.get("sources", []))),
        "filters": filters,
        "vocabulary": {name: value for name, value in vocabulary.items() if name in LEARNED},
    }


def _source(stored: dict[str, Any]) -> dict[str, Any]:
    return _kept(_complete(config.Source, stored))


def _kept(source: dict[str, Any]) -> dict[str, Any]:
    """The fields of a source that a store depends on."""
    kept = {name: value for name, value in source.items() if name not in MIXING}
    if (task := kept.pop("task", None)) is not None:
        kept["task"] = {name: value for name, value in _complete(config.Task, task).items() if name not in JUDGING}
    return kept


def _complete(kind: type, stored: dict[str, Any]) -> dict[str, Any]:
    """The stored fields of a dataclass that have an effect, with the defaults of absent ones."""
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    return json.loads(json.dumps(effective(kind, defaults | stored)))


def _without_paths(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan without the places of files."""
    filters = [f | {"sources": list(map(_anywhere, f["sources"]))} if "sources" in f else f for f in plan["filters"]]
    return plan | {
        "sources": list(map(_anywhere, plan["sources"])),
        "filters": filters,
        "vocabulary": plan["vocabulary"] | {"path": bool(plan["vocabulary"].get("path"))},
    }


def _anywhere(source: dict[str, Any]) -> dict[str, Any]:
    """A source without its paths; the validation split of a data set has a name, which counts."""
    own = {} if source.get("kind") == "tfds" else {"validation": bool(source.get("validation"))}
    return source | own | {"path": bool(source.get("path"))}
