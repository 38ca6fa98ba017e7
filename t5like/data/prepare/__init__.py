"""Sources to a store: the vocabulary is learned, then each unit of a source is cleaned and tokenised once.

Units are independent, so any number of processes, or a Beam pipeline, ends with the same bytes; and a unit that is
done has a record on disk, so an interrupted preparation goes on with the units that have none.
"""

import contextlib
import functools
import json
import os
import time
from collections.abc import Iterator, Sequence

from etils import epath

from t5like import config
from t5like.data.files import write_whole
from t5like.data.packing.pack_table import has_tables, make_tables
from t5like.data.prepare.begin import Lost, Update, begin, check_vocabulary, grows_still, is_current
from t5like.data.prepare.held_out import Tail
from t5like.data.prepare.job import DROPPED, DUPLICATES, SIGNATURES, UNITS, Job, Task
from t5like.data.prepare.manifest import finish
from t5like.data.prepare.plan import check_plan, plan_of
from t5like.data.prepare.progress import Progress, Report
from t5like.data.prepare.sampling import sample
from t5like.data.prepare.signatures import find_duplicates, sign
from t5like.data.prepare.tokenise import tokenise
from t5like.data.prepare.workers import Workers, pool
from t5like.data.splits import shares_of
from t5like.data.store import SPLITS, VERIFIED, Store
from t5like.data.vocabulary import (
    Bytes,
    Pieces,
    Vocabulary,
    load_pieces,
    make_vocabulary,
    open_vocabulary,
    train_pieces,
)
from t5like.errors import UserError
from t5like.json_files import sealed
from t5like.lock import locked
from t5like.storage import etils_path, is_remote, path_of

SMALL = 2**23
"""Bytes of input that are not worth the start of other processes."""


def prepare(
    data: config.Data,
    report: Report = print,
    workers: Workers | None = None,
    update: Update = "none",
    lost: Lost | None = None,
) -> Vocabulary:
    """Make the store of `data` unless it is finished, and return its vocabulary with the run's special tokens.

    Args:
      workers: who does the units; by default a process for each CPU.
      update: what a finished store takes in of files that differ from those it was made from: "all" changes, "added"
        files alone, or "none", without a look at them.
      lost: the store that was there, which is made again with its units and vocabulary where there is none.

    Raises:
      UserError: the folder is the store of something else or damaged, a source is missing or empty, a vocabulary
        of that size cannot be learned, or files changed that are not taken in.
    """
    folder = etils_path(data.store)
    check_plan(folder, data)
    if (folder / UNITS).exists() or not is_current(folder, data, update):
        with _alone(folder, report):
            check_plan(folder, data)
            if not is_current(folder, data, update):
                _make(folder, data, report, workers, lost)
            if update != "none" or not grows_still(folder):
                _tidy(folder)
    store = Store(folder)
    if store.bytes <= VERIFIED:
        for damaged in store.verify():
            raise UserError(damaged)
    vocabulary = make_vocabulary(open_vocabulary(folder / "vocabulary").pieces, data.vocabulary)
    if vocabulary.hash != store.manifest["vocabulary_sha256"]:
        raise UserError(
            f"{folder} was tokenised with another vocabulary than {folder / 'vocabulary'} holds: delete the store and "
            "prepare it again."
        )
    if data.by_document and not has_tables(store, data):
        with _alone(folder, report):
            make_tables(store, data, vocabulary, report)
    return vocabulary


@contextlib.contextmanager
def _alone(folder: epath.Path, report: Report) -> Iterator[None]:
    """Make the folder, and wait while another process prepares it, which may finish it."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(path_of(folder), "prepare", report, wait=True))
        except OSError as error:
            raise UserError(f"data.store={folder} cannot be written: {error.strerror or error}.") from None
        yield


def _make(folder: epath.Path, data: config.Data, report: Report, workers: Workers | None, lost: Lost | None) -> None:
    started = time.monotonic()
    inputs, tasks, tail = begin(folder, data, report, lost)
    sizes = {number: unit.size for number, unit in tasks}
    workers = workers or pool(1 if sum(sizes.values()) <= SMALL else cpus())
    _remove_partial(folder)
    write_whole(folder / "plan.json", sealed(json.dumps(plan_of(data), indent=2)))
    if tail:
        report(str(tail))
    if lost and not (folder / "vocabulary" / "vocabulary.json").exists():
        Vocabulary(lost.pieces).save(folder / "vocabulary")
    pieces = _pieces(folder, data, tasks, tail, report)
    check_vocabulary(folder, Vocabulary(pieces))
    job = Job(str(folder), data, tail)
    if job.together:
        progress = Progress("Searched for duplicates:", sizes, _done(folder / SIGNATURES), report)
        for number in workers(functools.partial(sign, job), tasks):
            progress(number, sizes[number])
        find_duplicates(job, tasks)
    progress, records = Progress("Tokenised", sizes, _done(folder / UNITS), report), {}
    for record in workers(functools.partial(tokenise, job), tasks):
        records[record["number"]] = record
        tokens = sum(split["tokens"] for split in record["splits"].values())
        read = record["read"]
        progress(record["number"], read["bytes"], documents=read["documents"], tokens=tokens)
    finish(folder, data, pieces, inputs, tasks, tail, records, report, time.monotonic() - started)
    if (folder / "packs").exists() and not is_remote(folder):
        (folder / "packs").rmtree()  # of the store as it was


def _done(folder: epath.Path) -> set[int]:
    """The units that have a file in a folder."""
    return {int(path.stem) for path in folder.glob("*") if path.stem.isdecimal()} if folder.exists() else set()


def _tidy(folder: epath.Path) -> None:
    """Remove what only the preparation needed, and files of units that the store no longer has; the folder of units
    goes last, so that a kill leaves it to be found."""
    _remove_partial(folder)
    Store(folder).remove_others()
    for name in (SIGNATURES, DUPLICATES, DROPPED, UNITS):
        if (folder / name).exists():
            (folder / name).rmtree()


def _remove_partial(folder: epath.Path) -> None:
    """Remove the files that killed processes were writing."""
    for each in (folder, *(folder / name for name in ("vocabulary", *SPLITS, SIGNATURES, DUPLICATES, DROPPED, UNITS))):
        for partial in each.glob("*.partial"):
            partial.unlink(missing_ok=True)


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _pieces(folder: epath.Path, data: config.Data, tasks: Sequence[Task], tail: Tail | None, report: Report) -> Pieces:
    settings = data.vocabulary
    if (folder / "vocabulary" / "vocabulary.json").exists():
        return open_vocabulary(folder / "vocabulary").pieces
    if settings.kind == "bytes":
        pieces: Pieces = Bytes()
    elif settings.path:
        pieces = load_pieces(etils_path(settings.path), settings.lowercase)
    else:
        report(f"Learning {settings.size:,} {settings.kind} pieces from {data.store}'s sources ...")
        texts = sample(data.sources, data.filters, shares_of(data), "train", settings.train_characters, tasks, tail)
        pieces = train_pieces(settings, texts)
    make_vocabulary(pieces, settings)
    Vocabulary(pieces).save(folder / "vocabulary")
    return pieces
