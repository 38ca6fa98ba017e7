"""Sources to a store: the vocabulary is learned, then each unit of a source is cleaned and tokenised once.

Units are independent, so any number of processes, or a Beam pipeline, ends with the same bytes; and a unit that is
done has a record on disk, so an interrupted preparation goes on with the units that have none.
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath

from t5like import config
from t5like.config.conditions import effective
from t5like.data import sources
from t5like.data.cleaning import Cleaner, Dropped
from t5like.data.files import write_whole
from t5like.data.order import permute
from t5like.data.packing.pack_table import make_tables
from t5like.data.prepare.job import DUPLICATES, SIGNATURES, UNITS, Job, Task
from t5like.data.prepare.manifest import finish
from t5like.data.prepare.progress import Progress, Report
from t5like.data.prepare.signatures import find_duplicates, sign
from t5like.data.prepare.tokenise import split_of, tokenise
from t5like.data.prepare.workers import Workers, pool
from t5like.data.store import FORMAT, SPLITS, VERIFIED, Split, Store, read_manifest
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
from t5like.storage import etils_path, is_remote

LEARNED = ("kind", "size", "path", "coverage", "lowercase", "train_characters")
MIXING = ("name", "rate")
"""Fields of a source that a store does not depend on."""
SMALL = 2**23
"""Bytes of input that are not worth the start of other processes."""


def prepare(data: config.Data, report: Report = print, workers: Workers | None = None) -> Vocabulary:
    """Make the store of `data` unless it is finished, and return its vocabulary with the run's special tokens.

    Args:
      workers: who does the units; by default a process for each CPU.

    Raises:
      UserError: the folder is the store of something else or damaged, a source is missing or empty, or a vocabulary
        of that size cannot be learned.
    """
    folder = etils_path(data.store)
    plan = _plan(data)
    _check_plan(folder, plan)
    if read_manifest(folder) is None or (folder / UNITS).exists():
        with _alone(folder, report):
            _check_plan(folder, plan)
            if read_manifest(folder) is None:
                _make(folder, data, plan, report, workers)
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
    if data.by_document:
        with _alone(folder, report):
            make_tables(store, data, vocabulary, report)
    return vocabulary


@contextlib.contextmanager
def _alone(folder: epath.Path, report: Report) -> Iterator[None]:
    """Make the folder, and wait while another process of this machine prepares it, which may finish it.

    The system takes a lock away from a process that ends. Processes on other machines, or at gs://, do not wait: they
    write the same bytes, each file whole.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"data.store={folder} cannot be written: {error.strerror or error}.") from None
    if is_remote(folder):
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"Another process prepares {folder}; waiting for it ...")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)


def _make(folder: epath.Path, data: config.Data, plan: dict[str, Any], report: Report, workers: Workers | None) -> None:
    started = time.monotonic()
    tasks = list(enumerate(sources.units(data.sources)))
    sizes = [unit.size for _, unit in tasks]
    workers = workers or pool(1 if sum(sizes) <= SMALL else cpus())
    _remove_partial(folder)
    write_whole(folder / "plan.json", json.dumps(plan, indent=2).encode())
    pieces = _pieces(folder, data, tasks, report)
    _check_inputs(folder, tasks, pieces)
    job = Job(str(folder), data)
    if job.duplicate_filters:
        progress = Progress("Searched for duplicates:", sizes, _done(folder / SIGNATURES), report)
        for number in workers(functools.partial(sign, job), tasks):
            progress(number, sizes[number])
        find_duplicates(job, len(tasks))
    progress, records = Progress("Tokenised", sizes, _done(folder / UNITS), report), []
    for record in workers(functools.partial(tokenise, job), tasks):
        records.append(record)
        tokens = sum(split["tokens"] for split in record["splits"].values())
        read = record["read"]
        progress(record["number"], read["bytes"], documents=read["documents"], tokens=tokens)
    records.sort(key=lambda record: record["number"])
    finish(folder, data, pieces, tasks, records, report, time.monotonic() - started)


def _done(folder: epath.Path) -> set[int]:
    """The units that have a file in a folder."""
    return {int(path.stem) for path in folder.glob("*") if path.stem.isdecimal()} if folder.exists() else set()


def _check_inputs(folder: epath.Path, tasks: Sequence[Task], pieces: Pieces) -> None:
    """Refuse to mix the units of a preparation with those of other files or of another vocabulary."""
    units = hashlib.sha256(repr([unit for _, unit in tasks]).encode()).hexdigest()
    inputs = {"The files of data.sources": units, "The vocabulary": Vocabulary(pieces).hash}
    path = folder / UNITS / "inputs"
    if not path.exists():
        write_whole(path, json.dumps(inputs).encode())
    before = json.loads(path.read_text())
    for name, hash in inputs.items():
        if before.get(name) != hash:
            raise UserError(f"{name} changed while {folder} was being prepared: delete that folder and start again.")


def _tidy(folder: epath.Path) -> None:
    """Remove what only the preparation needed; the folder of units goes last, so that a kill leaves it to be found."""
    _remove_partial(folder)
    for name in (SIGNATURES, DUPLICATES, UNITS):
        if (folder / name).exists():
            (folder / name).rmtree()


def _remove_partial(folder: epath.Path) -> None:
    """Remove the files that killed processes were writing."""
    for each in (folder, *(folder / name for name in ("vocabulary", *SPLITS, SIGNATURES, DUPLICATES, UNITS))):
        for partial in each.glob("*.partial"):
            partial.unlink(missing_ok=True)


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _plan(data: config.Data) -> dict[str, Any]:
    """All that a store depends on."""
    read = [dataclasses.asdict(source) for source in data.sources]
    learned = {name: getattr(data.vocabulary, name) for name in LEARNED}
    plan = {
        "format": FORMAT,
        "sources": [{name: value for name, value in source.items() if name not in MIXING} for source in read],
        "filters": [dataclasses.asdict(filter) for filter in data.filters],
        "vocabulary": learned,
        "held_out": data.held_out,
    }
    return json.loads(json.dumps(plan))


def _used(plan: dict[str, Any]) -> dict[str, Any]:
    """A plan without the settings that have no effect beside the others, which older stores may hold."""
    read = [effective(config.Source, source) for source in plan.get("sources", [])]
    return plan | {"sources": read, "vocabulary": effective(config.Vocabulary, plan.get("vocabulary", {}))}


def _check_plan(folder: epath.Path, plan: dict[str, Any]) -> None:
    """Refuse a folder in which something was prepared by another plan; one without a vocabulary holds nothing yet."""
    if not (folder / "vocabulary" / "vocabulary.json").exists():
        return
    try:
        there = json.loads((folder / "plan.json").read_text())
    except (FileNotFoundError, ValueError):
        there = None
    if not isinstance(there, dict):
        raise UserError(f"{folder / 'plan.json'} is missing or damaged: delete {folder} and prepare it again.")
    if there.get("format") != FORMAT:
        raise UserError(f"{folder} is a store of another version of t5like: choose another data.store, or delete it.")
    before, now = _used(there), _used(plan)
    if different := [name for name in plan if before.get(name) != now.get(name)]:
        raise UserError(
            f"{folder} was prepared with other {' and '.join(f'data.{name}' for name in different)}: "
            "choose another data.store, or delete that folder."
        )


def _pieces(folder: epath.Path, data: config.Data, tasks: Sequence[Task], report: Report) -> Pieces:
    settings = data.vocabulary
    if (folder / "vocabulary" / "vocabulary.json").exists():
        return open_vocabulary(folder / "vocabulary").pieces
    if settings.kind == "bytes":
        pieces: Pieces = Bytes()
    elif settings.path:
        pieces = load_pieces(etils_path(settings.path), settings.lowercase)
    else:
        report(f"Learning {settings.size:,} {settings.kind} pieces from {data.store}'s sources ...")
        units = [unit for _, unit in tasks]
        texts = sample(data.sources, data.filters, data.held_out, "train", settings.train_characters, units)
        pieces = train_pieces(settings, texts)
    make_vocabulary(pieces, settings)
    Vocabulary(pieces).save(folder / "vocabulary")
    return pieces


def sample(
    read: tuple[config.Source, ...],
    filters: tuple[config.Filter, ...],
    held_out: float,
    split: Split,
    characters: int,
    units: Sequence[sources.Unit] | None = None,
) -> Iterator[str]:
    """Text of a split, up to so many characters: of each source by its share of the bytes, from shuffled units."""
    units = units or sources.units(read)
    left, size = characters, sum(unit.size for unit in units)
    for number, source in enumerate(read):
        own = [unit for unit in units if unit.source == number]
        own_size = sum(unit.size for unit in own)
        # What one source lacks, those after it may give.
        quota, size = left * own_size // max(size, 1), size - own_size
        for text in _texts(source, own, filters, held_out, split):
            text = text[:quota]
            yield text
            left, quota = left - len(text), quota - len(text)
            if not quota:
                break


def _texts(
    source: config.Source,
    units: Sequence[sources.Unit],
    filters: tuple[config.Filter, ...],
    held_out: float,
    split: Split,
) -> Iterator[str]:
    """The text of a source's documents in a split, by shuffled units."""
    cleaner = Cleaner(filters)
    for number in permute(np.arange(len(units)), len(units), np.zeros(len(units), np.uint64)):
        for document in sources.read(source, units[number]):
            if split_of(units[number], document, held_out) == split:
                cleaned = cleaner(document)
                yield from () if isinstance(cleaned, Dropped) else cleaned.document.parts
