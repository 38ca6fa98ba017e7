"""The beginning of a preparation: which units there are to make, and which of an earlier one are kept.

A store whose files changed grows while its manifest still is that of the store as it was: units that stay keep their
numbers and files, new ones get new numbers, and the manifest that is written last names both.
"""

import hashlib
import json
from collections.abc import Sequence, Set
from typing import Any, Literal, NamedTuple

from etils import epath

from t5like import config
from t5like.data.files import write_whole
from t5like.data.prepare.held_out import Tail, find_tail
from t5like.data.prepare.inputs import (
    BESIDE,
    Prepared,
    compare,
    described,
    inputs_of,
    next_units,
    prepared,
    prepared_in,
    without_library,
)
from t5like.data.prepare.job import DROPPED, DUPLICATES, SIGNATURES, UNITS, Task
from t5like.data.prepare.progress import Report
from t5like.data.sources.identity import Identity, Key, named
from t5like.data.store import forms, read_manifest
from t5like.data.vocabulary import Pieces, Vocabulary
from t5like.errors import UserError
from t5like.json_files import read_object, sealed

EARLY, VOCABULARY = "The files of data.sources", "The vocabulary"
"""Names of hashes in `units/inputs`; the first is that of earlier versions, in which nothing else was said of files."""
Update = Literal["all", "added", "none"]
"""Changes of files that a finished store takes in: all, added files alone, or none."""


def is_current(folder: epath.Path, data: config.Data, update: Update) -> bool:
    """True if the store is finished and, as far as `update` asks for it, made from the files of now.

    Raises:
      UserError: files changed that are not taken in.
    """
    if read_manifest(folder) is None:
        return False
    if update == "none" or not (there := prepared(folder)):
        return True
    found = compare(there.inputs, inputs_of(data))
    if beside := [key for keys in (found.added, found.changed, found.removed) for key in keys if key.source == BESIDE]:
        places = ", ".join(sorted({key.split for key in beside}))
        raise UserError(
            f"{places} changed since {folder} was prepared ({named(beside)}): put it back as it was, choose another "
            "data.store, or delete that folder."
        )
    if update == "added":
        found = without_library(data, found)
        if found.changed or found.removed:
            raise UserError(
                f"{folder} was made from other files than data.sources names now ({found}): put them back as they "
                "were, take the changes in with `t5like prepare`, after which the order of rows is new, or choose "
                "another data.store."
            )
    return not found


def grows_still(folder: epath.Path) -> bool:
    """True if the folder of units is of a store that was growing when its preparation stopped."""
    begun, finished = _begun(folder), prepared(folder)
    if begun is None or finished is None:
        return False
    return (begun.inputs, begun.units) != (finished.inputs, finished.units)


class Lost(NamedTuple):
    """A store that is lost and shall be made again as it was, also if it had grown."""

    prepared: Prepared
    pieces: Pieces


def begin(
    folder: epath.Path, data: config.Data, report: Report, lost: Lost | None
) -> tuple[dict[Key, Identity], list[Task], Tail | None]:
    """The inputs and the units of the store and what is held out of them, after the units of earlier preparations that
    stay were put in place.

    Raises:
      UserError: a source is missing or empty, or an earlier version began with other files.
    """
    inputs, finished, begun = inputs_of(data), prepared(folder), _begun(folder)
    grows = read_manifest(folder) is not None
    before = begun or finished or (lost and lost.prepared)
    tasks, kept = next_units(data, inputs, before, grows)
    tail = find_tail(data, tasks)
    if before and compare(before.inputs, inputs) and (before.tail or tail):  # the split of each unit is another one
        tasks, kept = next_units(data, inputs, before, grows, anew=True)
        tail = find_tail(data, tasks)
    if before and finished:
        found, new = compare(finished.inputs, inputs), len(tasks) - len(kept)
        units = f"{new:,} unit{'s' * (new != 1)} to make, {len(kept):,} kept"
        report(f"Files of data.sources differ from those of {folder} ({found}): {units}; the order of rows is new.")
    if begun and begun.inputs == inputs:
        return inputs, tasks, tail
    path, early = folder / UNITS / "inputs", _read(folder)
    if EARLY in early:
        _check_early(folder, early[EARLY], tasks)
    elif begun or finished:
        _forget(folder, kept, grows)
        for number, record in finished.records.items() if finished else ():
            if number in kept:
                write_whole(folder / UNITS / f"{number:05}.json", sealed(json.dumps(record)))
    hash = (read_manifest(folder) or {}).get("vocabulary_sha256") or early.get(VOCABULARY, "")
    known = {VOCABULARY: hash} if hash and (folder / "vocabulary").exists() else {}
    write_whole(path, sealed(json.dumps(described(data, inputs, tasks, tail is not None) | known)))
    return inputs, tasks, tail


def check_vocabulary(folder: epath.Path, vocabulary: Vocabulary) -> None:
    """Refuse to mix the units of a preparation with those of another vocabulary."""
    inputs = _read(folder)
    if inputs.get(VOCABULARY, vocabulary.hash) != vocabulary.hash:
        raise UserError(f"{VOCABULARY} changed while {folder} was being prepared: delete that folder and start again.")
    if VOCABULARY not in inputs:
        write_whole(folder / UNITS / "inputs", sealed(json.dumps(inputs | {VOCABULARY: vocabulary.hash})))


def _read(folder: epath.Path) -> dict[str, Any]:
    """The description of the units that are being made; empty where there are none."""
    path = folder / UNITS / "inputs"
    remedy = f"delete {folder} and prepare it again"
    return read_object(path, forms.Inputs, remedy) if path.exists() else {}


def _begun(folder: epath.Path) -> Prepared | None:
    """The units that are being made; None where there are none, or where an earlier version began."""
    return prepared_in(_read(folder))


def _check_early(folder: epath.Path, hash: str, tasks: Sequence[Task]) -> None:
    """Refuse to go on with what an earlier version began with other files."""
    if hash != hashlib.sha256(repr([unit for _, unit in tasks]).encode()).hexdigest():
        raise UserError(f"{EARLY} changed while {folder} was being prepared: delete that folder and start again.")


def _forget(folder: epath.Path, kept: Set[int], grows: bool) -> None:
    """Remove what was made of units that do not stay, and of a store that is made anew all of it."""
    if not (kept or grows) and (folder / "vocabulary").exists():
        (folder / "vocabulary").rmtree()
    if (folder / DUPLICATES).exists():
        (folder / DUPLICATES).rmtree()
    for name in (UNITS, SIGNATURES, DROPPED):
        for path in (folder / name).glob("*"):
            if path.name.split(".")[0].isdecimal() and int(path.name.split(".")[0]) not in kept:
                path.unlink(missing_ok=True)
