"""The rows that a run learns from: it knows the hash of its store, and the files that this was made from.

Both lie in `store.json` of the run directory. A run that goes on refuses another store, wherever that and its sources
lie; one that is lost is made again as it was. A branch has the rows of its run, unless it
is given other data. Runs of earlier versions have no such file: they go on, and get one.
"""

import json

from etils import epath

from t5like.config import Config
from t5like.data.files import write_whole
from t5like.data.objectives.words import require_segmenter
from t5like.data.prepare import prepare
from t5like.data.prepare.begin import Lost
from t5like.data.prepare.inputs import compare, inputs_in, inputs_of, prepared_in
from t5like.data.prepare.plan import plan_of
from t5like.data.sources.identity import Differences
from t5like.data.store import Store, read_manifest
from t5like.data.store.forms import Inputs
from t5like.data.vocabulary import Vocabulary, open_vocabulary
from t5like.errors import UserError
from t5like.json_files import Digest, read_object, sealed
from t5like.runs.directory import RunDirectory, named_checkpoint, relocated
from t5like.storage import etils_path


class _Form(Inputs):
    """The content of `store.json`, which says nothing of inputs where the store is of an earlier version."""

    sha256: Digest


def prepare_rows(run: RunDirectory, config: Config) -> Vocabulary:
    """Prepare the store of a run as `prepare` does. One that begins takes in added files, one that goes on takes its
    store as it is.

    Raises:
      UserError: the rows would not be those that the run has learned from so far, or the store cannot be prepared.
    """
    require_segmenter(config.data)
    check_rows(run, config)
    owner = _owner(run, config)
    there = prepared_in(_known(owner) or {}) if owner else None
    lost = Lost(there, open_vocabulary(etils_path(owner.vocabulary)).pieces) if owner and there else None
    vocabulary = prepare(config.data, update="none" if owner else "added", lost=lost)
    check_rows(run, config)
    return vocabulary


def knows_rows(run: RunDirectory) -> bool:
    """True if the run has begun and knows its rows."""
    return run.begun() and _known(run) is not None


def check_rows(run: RunDirectory, config: Config) -> None:
    """Refuse another store than that of a run that goes on, or, where there is none, files that would make another.

    Raises:
      UserError: the rows would not be those that the run has learned from so far.
    """
    owner = _owner(run, config)
    if owner is None or (known := _known(owner)) is None:
        return
    folder, before = etils_path(config.data.store), inputs_in(known)
    if read_manifest(folder) is None:
        _refuse(owner, config, compare(before, inputs_of(config.data)))
        return
    store = Store(folder)
    if store.hash == known["sha256"]:
        return
    _refuse(owner, config, compare(before, inputs_in(store.manifest.get("inputs", {}))))
    raise UserError(
        f"{owner.path} was trained on other rows than {folder} holds, although these were made from the same files, "
        f"perhaps in another order or by another version: put the run's own store back, or delete {folder} and have it "
        f"made again. {_remedy(owner)}"
    )


def keep_rows(run: RunDirectory, config: Config) -> None:
    """Write the hash of the run's store, and its inputs and units, into the run directory, unless a run that goes on
    has them."""
    if knows_rows(run):
        return
    store = Store(etils_path(config.data.store))
    inputs = store.manifest.get("inputs", {}) | {"records": []}
    write_whole(_path(run), sealed(json.dumps({"sha256": store.hash, **inputs})))


def _owner(run: RunDirectory, config: Config) -> RunDirectory | None:
    """The run whose rows a run goes on with: itself once it has begun, or the one that it is a branch of."""
    if run.begun():
        return run
    if not config.train.branch_from:
        return None
    source = named_checkpoint(config.train.branch_from)[0]
    known = relocated(source.config(), str(source.path))
    before, now = (plan_of(data) | {"vocabulary": None} for data in (known.data, config.data))
    return source if before == now else None


def _path(run: RunDirectory) -> epath.Path:
    return etils_path(run.path) / "store.json"


def _known(run: RunDirectory) -> dict | None:
    """The content of the run's `store.json`; None for runs of earlier versions."""
    if not _path(run).exists():
        return None
    return read_object(_path(run), _Form, "delete it to go on without knowing whether data.store is still the run's")


def _refuse(run: RunDirectory, config: Config, found: Differences) -> None:
    if found:
        raise UserError(
            f"{run.path} was trained on other rows than data.store={config.data.store} has with the files of now "
            f"({found}): put them back as they were and run `t5like prepare {run.path}`. {_remedy(run)}"
        )


def _remedy(run: RunDirectory) -> str:
    return (
        "To go on with the new rows, start another run from this one: "
        f"`t5like train {run.path} --train.directory runs/NEW --train.init_from {run.path}`."
    )
