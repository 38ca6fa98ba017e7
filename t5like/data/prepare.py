"""Sources to a store: the vocabulary is learned, then each unit of a source is cleaned and tokenised once.

Units are independent, so any number of processes, or a Beam pipeline, ends with the same bytes; and a unit that is
done has a record on disk, so an interrupted preparation goes on with the units that have none.
"""

import dataclasses
import functools
import importlib.metadata
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath

import t5like
from t5like import config
from t5like.data import sources
from t5like.data.cleaning import Cleaner, Dropped
from t5like.data.duplicates import duplicates
from t5like.data.order import permute
from t5like.data.pack_table import make_tables
from t5like.data.store import FORMAT, SPLITS, VERIFIED, Split, Store, read_manifest, token_type, write_whole
from t5like.data.tokenise import (
    DUPLICATES,
    SIGNATURES,
    UNITS,
    Job,
    Task,
    read_arrays,
    sign,
    split_of,
    tokenise,
    write_arrays,
)
from t5like.data.vocabulary import Bytes, Pieces, Vocabulary, load_pieces, open_vocabulary, train_pieces
from t5like.data.workers import Workers, pool
from t5like.errors import UserError

Report = Callable[[str], None]
LEARNED = ("kind", "size", "path", "coverage", "lowercase", "train_characters")
MIXING = ("name", "rate")
"""Fields of a source that a store does not depend on."""
SMALL = 2**23
"""Bytes of input that are not worth the start of other processes."""
EXAMPLES = 5
"""Dropped documents that the manifest shows for each filter."""
REPORT_SECONDS = 5.0


def prepare(data: config.Data, report: Report = print, workers: Workers | None = None) -> Vocabulary:
    """Makes the store of `data` unless it is finished, and returns its vocabulary with the run's special pieces.

    Args:
      workers: who does the units; by default a process for each CPU.

    Raises:
      UserError: the folder is the store of something else or damaged, a source is missing or empty, or a vocabulary
        of that size cannot be learned.
    """
    folder = epath.Path(data.store).expanduser()
    plan = _plan(data)
    _check_plan(folder, plan)
    if read_manifest(folder) is None:
        _make(folder, data, plan, report, workers)
    if (folder / UNITS).exists():
        _tidy(folder)
    store = Store(folder)
    if store.bytes <= VERIFIED:
        for damaged in store.verify():
            raise UserError(damaged)
    vocabulary = Vocabulary(
        open_vocabulary(folder / "vocabulary").pieces, data.vocabulary.extra, data.vocabulary.sentinels
    )
    if vocabulary.hash != store.manifest["vocabulary_sha256"]:
        raise UserError(
            f"{folder} was tokenised with another vocabulary than {folder / 'vocabulary'} holds: delete the store and "
            "prepare it again."
        )
    if data.by_document:
        make_tables(store, data, report)
    return vocabulary


def _make(folder: epath.Path, data: config.Data, plan: dict[str, Any], report: Report, workers: Workers | None) -> None:
    started = time.monotonic()
    tasks = list(enumerate(sources.units(data.sources)))
    size = sum(unit.size for _, unit in tasks)
    workers = workers or pool(1 if size <= SMALL else cpus())
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"data.store={data.store} cannot be written: {error.strerror or error}.") from None
    write_whole(folder / "plan.json", json.dumps(plan, indent=2).encode())
    pieces = _pieces(folder, data, tasks, report)
    job = Job(str(folder), data)
    if job.duplicate_filters:
        report("Looking for duplicates ...")
        for _ in workers(functools.partial(sign, job), tasks):
            pass
        _find_duplicates(job, len(tasks))
    progress, records = Progress(len(tasks), size, report), []
    for record in workers(functools.partial(tokenise, job), tasks):
        records.append(record)
        progress(record, tasks[record["number"]][1].size)
    records.sort(key=lambda record: record["number"])
    _finish(folder, data, pieces, tasks, records, report, time.monotonic() - started)


def _tidy(folder: epath.Path) -> None:
    """Removes what only the preparation needed; the folder of units goes last, so that a kill leaves it to be found."""
    for place in (folder, folder / "vocabulary", *(folder / split for split in SPLITS)):
        for partial in place.glob("*.partial"):
            partial.unlink(missing_ok=True)
    for name in (SIGNATURES, DUPLICATES, UNITS):
        if (folder / name).exists():
            (folder / name).rmtree()


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Progress:
    """A line every few seconds: units, documents, tokens, speed, and the time that the rest will take."""

    def __init__(self, units: int, size: int, report: Report):
        self._units, self._size, self._report = units, size, report
        self._started = self._reported = time.monotonic()
        self._done = self._read = self._documents = self._tokens = self._bytes = 0

    def __call__(self, record: dict[str, Any], size: int) -> None:
        self._done, self._read = self._done + 1, self._read + size
        self._documents += record["read"]["documents"]
        self._bytes += record["read"]["bytes"]
        self._tokens += sum(split["tokens"] for split in record["splits"].values())
        now = time.monotonic()
        if now - self._reported < REPORT_SECONDS and self._done < self._units:
            return
        self._reported, seconds = now, max(now - self._started, 1e-3)
        left = round(seconds * (self._size - self._read) / max(self._read, 1))
        self._report(
            f"Tokenised {self._done:,} of {self._units:,} units: {self._documents:,} documents, {self._tokens:,} "
            f"tokens, {self._bytes / 1e6 / seconds:.1f} MB/s, {left // 60}:{left % 60:02} left"
        )


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


def _check_plan(folder: epath.Path, plan: dict[str, Any]) -> None:
    """Refuses a folder in which something was prepared by another plan; one without a vocabulary holds nothing yet."""
    if not (folder / "vocabulary" / "vocabulary.json").exists():
        return
    there = json.loads((folder / "plan.json").read_text())
    if there.get("format") != FORMAT:
        raise UserError(f"{folder} is a store of another version of t5like: choose another data.store, or delete it.")
    if different := [name for name in plan if there.get(name) != plan[name]]:
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
        pieces = load_pieces(epath.Path(settings.path).expanduser())
    else:
        report(f"Learning {settings.size:,} {settings.kind} pieces from {data.store}'s sources ...")
        units = [unit for _, unit in tasks]
        texts = sample(data.sources, data.filters, data.held_out, "train", settings.train_characters, units)
        pieces = train_pieces(settings, texts)
    if pieces.size != settings.size:
        raise UserError(f"{settings.path} has {pieces.size} pieces: set data.vocabulary.size={pieces.size}.")
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


def _find_duplicates(job: Job, units: int) -> None:
    """Decides, over all units at once, which documents go."""
    names = [f"{number:05}.npz" for number in range(units)]
    if all((job.folder / DUPLICATES / name).exists() for name in names):
        return
    signatures = [read_arrays(job.folder / SIGNATURES / name) for name in names]
    dropped = {
        number: duplicates(filter, [arrays[number] for arrays in signatures])
        for number, filter in job.duplicate_filters.items()
    }
    for number, name in enumerate(names):
        write_arrays(job.folder / DUPLICATES / name, {filter: drop[number] for filter, drop in dropped.items()})


def _finish(
    folder: epath.Path,
    data: config.Data,
    pieces: Pieces,
    tasks: Sequence[Task],
    records: list[dict[str, Any]],
    report: Report,
    seconds: float,
) -> None:
    """Writes the manifest from the units' records."""
    described = []
    for number, source in enumerate(data.sources):
        own = [record for record, (_, unit) in zip(records, tasks, strict=True) if unit.source == number]
        described.append(
            {"name": data.source_names[number], "kind": source.kind, "parts": source.parts} | _sums(data, own)
        )
    totals = {
        split: {
            name: sum(source["splits"][split][name] for source in described)
            for name in ("documents", "bytes", "tokens")
        }
        for split in SPLITS
    }
    for split, total in totals.items():
        if not total["documents"]:
            raise UserError(
                f"data.sources has no {split} documents with data.held_out={data.held_out}: "
                f"{'raise' if split == 'validation' else 'lower'} data.held_out or add text."
            )
    invalid = sum(record["invalid"] for record in records)
    manifest = {
        "format": FORMAT,
        "dtype": token_type(pieces.size).str,
        "vocabulary_sha256": Vocabulary(pieces).hash,
        "created_with": {"t5like": t5like.__version__, **_versions()},
        "invalid_sequences": invalid,
        "sources": described,
    }
    write_whole(folder / "manifest.json", json.dumps(manifest, indent=2, ensure_ascii=False).encode())
    if invalid:
        report(f"{invalid:,} invalid UTF-8 sequences were replaced by U+FFFD.")
    for filter, counts in zip(data.filters, _filter_sums(data, records), strict=True):
        report(f"Filter {filter.kind}: {counts['dropped']:,} documents dropped, {counts['noted']:,} reported.")
    train, held_out = totals["train"], totals["validation"]
    report(
        f"Prepared {folder} in {seconds:.0f} s: {train['documents']:,} documents, {train['tokens']:,} tokens, "
        f"{train['bytes'] / 1e6:.1f} MB for training; {held_out['documents']:,} documents, "
        f"{held_out['tokens']:,} tokens held out."
    )


def _sums(data: config.Data, records: list[dict[str, Any]]) -> dict[str, Any]:
    """What the manifest says of one source."""
    splits = {}
    for split in SPLITS:
        parts = [record["splits"][split] for record in records if split in record["splits"]]
        splits[split] = {
            **{name: sum(part[name] for part in parts) for name in ("documents", "bytes", "tokens")},
            "longest": max((part["longest"] for part in parts), default=0),
            "files": [part["file"] | {name: part[name] for name in ("tokens", "documents")} for part in parts],
        }
    read = {name: sum(record["read"][name] for record in records) for name in ("documents", "bytes")}
    read["lines_removed"] = sum(record["lines_removed"] for record in records)
    return {"units": len(records), "read": read, "splits": splits, "filters": _filter_sums(data, records)}


def _filter_sums(data: config.Data, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sums = []
    for number, filter in enumerate(data.filters):
        counts = [record["filters"][number] for record in records]
        examples = [example for count in counts for example in count["examples"]][:EXAMPLES]
        totals = {name: sum(count[name] for count in counts) for name in ("dropped", "noted")}
        sums.append({"kind": filter.kind, **totals, "examples": examples})
    return sums


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("sentencepiece", "tokenizers")}
