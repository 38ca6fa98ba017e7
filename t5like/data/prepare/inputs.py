"""The inputs of a store and the units that were made of them: what a later preparation compares and what it keeps.

A finished store has them in its manifest, one that is being prepared in `units/inputs`, without the units' records.
Files lie there by their names relative to the sources' patterns (`sources.identity`). Stores of earlier versions say
nothing of their inputs and are taken as they are.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from etils import epath

from t5like import config
from t5like.data import sources
from t5like.data.prepare.job import Task
from t5like.data.sources.identity import (
    HASHES,
    Differences,
    Identity,
    Inputs,
    Key,
    differences,
    identify,
    identify_file,
    root_of,
)
from t5like.data.store import read_manifest
from t5like.storage import etils_path

BESIDE = -1
"""`Key.source` of files that the sources do not name: evaluation sets, and the file of a vocabulary."""


class Prepared(NamedTuple):
    """The inputs and units of a store."""

    inputs: dict[Key, Identity]
    units: list[Task]
    """Units with relative names and their numbers, which name their files, in the order of the rows."""
    records: dict[int, dict[str, Any]]
    """The units' records by number, where the store is finished."""
    tail: bool
    """True if the validation split is the end of all text, `held_out.Tail`."""


def inputs_of(data: config.Data) -> dict[Key, Identity]:
    """The files that the store of `data` depends on, as far as they are at hand.

    Raises:
      UserError: a file cannot be read.
    """
    found = identify(data.sources)
    for number, filter in enumerate(data.filters):
        if isinstance(filter, config.Overlap):
            for key, identity in identify(filter.sources).items():
                place = f"data.filters.{number}.sources.{key.source}"
                found[Key(BESIDE, place, key.name)] = identity
    path = etils_path(data.vocabulary.path)
    if data.vocabulary.path and path.is_file():
        found[Key(BESIDE, "data.vocabulary.path", path.name)] = identify_file(str(path))
    return found


def compare(before: Inputs, now: Inputs) -> Differences:
    """The differences of inputs. Sources and other files of which nothing is at hand now count as unchanged, for a
    finished store does without them."""
    at_hand = {(key.source, key.split) for key in now}
    return differences({key: before[key] for key in before if (key.source, key.split) in at_hand}, now)


def without_library(data: config.Data, found: Differences) -> Differences:
    """The differences but for Python's library, which is another one on each machine."""

    def kept(keys: list[Key]) -> list[Key]:
        return [key for key in keys if key.source == BESIDE or data.sources[key.source].kind != "python_library"]

    return Differences(kept(found.added), kept(found.changed), kept(found.removed), found.renamed)


def next_units(
    data: config.Data, now: Inputs, before: Prepared | None, grows: bool, anew: bool = False
) -> tuple[list[Task], set[int]]:
    """The units to make a store of, and the numbers of those that were made before and stay.

    A store that is being prepared gets the units of all its files in their order. A finished one, which `grows`, keeps
    its units and has the new ones behind them. A unit stays if none of its files changed; where filters look at all
    documents at once, units stay only if files were added to a finished store. None stays if all are made `anew`.
    """
    if before is None:
        return list(enumerate(sources.units(data.sources))), set()
    found = compare(before.inputs, now)
    stale, together = {*found.changed, *found.removed}, any(isinstance(f, config.Together) for f in data.filters)
    whole = [task for task in before.units if not stale & set(_keys(task[1]))]
    kept = [(number, _located(data, unit, found.renamed)) for number, unit in whole]
    if not found:
        return kept, _numbers(kept)
    if anew or (together and (stale or not grows)):
        kept = []
    fresh = itertools.count(max(_numbers(before.units), default=-1) + 1 if grows or kept else 0)
    if not (grows and kept):
        known = {unit: number for number, unit in kept}
        tasks = [(known[unit] if unit in known else next(fresh), unit) for unit in sources.units(data.sources)]
        return tasks, _numbers(kept) & _numbers(tasks)
    covered = {key for _, unit in whole for key in _keys(unit, found.renamed)}
    wanted = [key for key in now if key.source != BESIDE and key not in covered]
    return kept + [(next(fresh), unit) for unit in sources.units(data.sources, wanted)], _numbers(kept)


def _numbers(tasks: Sequence[Task]) -> set[int]:
    return {number for number, _ in tasks}


def _keys(unit: sources.Unit, renamed: Mapping[Key, Key] | None = None) -> Iterator[Key]:
    """The inputs of a unit with relative names."""
    for part in unit.parts:
        key = Key(unit.source, unit.split or "", part.name)
        yield (renamed or {}).get(key, key)


def _located(data: config.Data, unit: sources.Unit, renamed: Mapping[Key, Key]) -> sources.Unit:
    """A unit with the names by which its files are read now."""
    root = root_of(data.sources[unit.source], unit.split or "train")
    names = (root + key.name for key in _keys(unit, renamed))
    parts = tuple(dataclasses.replace(part, name=name) for part, name in zip(unit.parts, names, strict=True))
    return dataclasses.replace(unit, parts=parts)


def _relative(data: config.Data, unit: sources.Unit) -> sources.Unit:
    root = root_of(data.sources[unit.source], unit.split or "train")
    parts = tuple(dataclasses.replace(part, name=part.name.removeprefix(root)) for part in unit.parts)
    return dataclasses.replace(unit, parts=parts)


def described(
    data: config.Data, now: Inputs, tasks: Sequence[Task], tail: bool, records: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """The inputs and units of a store, and the records where it is finished, as JSON has them."""
    return {
        "hashes": HASHES,
        "files": [[*key, *identity] for key, identity in now.items()],
        "units": [{"number": number, **dataclasses.asdict(_relative(data, unit))} for number, unit in tasks],
        "tail": tail,
        "records": list(records),
    }


def prepared_in(description: dict[str, Any]) -> Prepared | None:
    """The inverse of `described`; None for what an earlier version wrote.

    Raises:
      KeyError, TypeError: it is damaged.
    """
    if "units" not in description:
        return None
    units = [(unit["number"], _unit(unit)) for unit in description["units"]]
    records = {record["number"]: record for record in description["records"]}
    return Prepared(inputs_in(description), units, records, description.get("tail", False))


def prepared(folder: epath.Path) -> Prepared | None:
    """The inputs and units of a finished store; None where it is not finished or of an earlier version."""
    return prepared_in((read_manifest(folder) or {}).get("inputs", {}))


def inputs_in(description: dict[str, Any]) -> dict[Key, Identity]:
    """The inputs in what `described` made."""
    return {Key(*file[:3]): Identity(*file[3:]) for file in description.get("files", ())}


def _unit(fields: dict[str, Any]) -> sources.Unit:
    parts = tuple(sources.Part(**part) for part in fields["parts"])
    return sources.Unit(**{name: fields[name] for name in fields if name not in ("number", "parts")}, parts=parts)
