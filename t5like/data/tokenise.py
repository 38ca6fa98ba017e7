"""The work of one unit: its documents are read, cleaned, tokenised and written.

Both functions are pure in what they write: a unit's files follow from the plan and the unit alone. Each file is
written whole or not at all and the unit's record comes last, so a unit is done exactly when its record is there.
"""

import contextlib
import functools
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from etils import epath

from t5like import config
from t5like.data import sources
from t5like.data.cleaning import Cleaner, Dropped
from t5like.data.duplicates import Duplicates, signature
from t5like.data.store import SPLITS, Split, WholeFile, documents_name, token_type, write_whole
from t5like.data.vocabulary import Vocabulary, open_vocabulary
from t5like.errors import UserError

UNITS, SIGNATURES, DUPLICATES = "units", "signatures", "duplicates"
"""Folders of a store that is being prepared."""
EXAMPLES = 3
"""Dropped documents that a unit's record shows for each filter."""
EXCERPT = 200
BATCH_CHARACTERS = 2**20
"""Text that is given to the tokeniser at once."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to know besides the unit; it travels to other processes."""

    store: str
    data: config.Data

    @property
    def folder(self) -> epath.Path:
        return epath.Path(self.store)

    @property
    def duplicate_filters(self) -> dict[int, Duplicates]:
        """The filters that see all documents at once, by their numbers."""
        return {number: each for number, each in enumerate(self.data.filters) if isinstance(each, Duplicates)}


Task = tuple[int, sources.Unit]
"""A unit and its number."""


def sign(job: Job, task: Task) -> None:
    """Writes the signatures of a unit's documents, an array for each filter of duplicates, unless they are there."""
    number, unit = task
    file = job.folder / SIGNATURES / f"{number:05}.npz"
    if file.exists():
        return
    found: dict[int, list[np.ndarray]] = {filter: [] for filter in job.duplicate_filters}
    cleaner = _cleaner(job)
    for document in sources.read(job.data.sources[unit.source], unit):
        cleaned = cleaner(document)
        if not isinstance(cleaned, Dropped):
            for filter, settings in job.duplicate_filters.items():
                found[filter].append(signature(settings, cleaned.document.parts))
    write_arrays(file, {filter: np.array(rows, np.uint64) for filter, rows in found.items()})


def tokenise(job: Job, task: Task) -> dict[str, Any]:
    """Writes a unit's files and then its record, unless the record is there, and returns it.

    Raises:
      UserError: the unit's files changed since the preparation began, or something cannot be read or written.
    """
    number, unit = task
    record_file = job.folder / UNITS / f"{number:05}.json"
    names = hashlib.sha256(repr(unit).encode()).hexdigest()
    if record_file.exists():
        record = json.loads(record_file.read_text())
        if record["names"] == names:
            return record
        raise UserError(
            f"The files of data.sources changed while {job.store} was being prepared: delete it and start again."
        )
    counts = Counts(job, number, unit)
    record = {"number": number, "names": names, **_write(job, number, unit, counts), **counts.record()}
    write_whole(record_file, json.dumps(record).encode())
    return record


class Counts:
    """What was read from a unit, and what became of it in each filter."""

    def __init__(self, job: Job, number: int, unit: sources.Unit):
        self._job, self._unit = job, unit
        self._documents = self._bytes = self._invalid = self._lines = 0
        self._filters: list[dict[str, Any]] = [{"dropped": 0, "noted": 0, "examples": []} for _ in job.data.filters]
        self._duplicates = _duplicates(job, number)

    def kept(self) -> Iterator[sources.Document]:
        """The documents that every filter lets through, cleaned."""
        cleaner, position = _cleaner(self._job), 0
        for document in sources.read(self._job.data.sources[self._unit.source], self._unit):
            self._documents += 1
            self._bytes += sum(len(part.encode("utf-8", "replace")) for part in document.parts)
            self._invalid += document.invalid
            cleaned = cleaner(document)
            if isinstance(cleaned, Dropped):
                self._note(cleaned.filter, "dropped", document, cleaned.reason)
                continue
            self._lines += cleaned.lines_removed
            for filter, reason in cleaned.notes:
                self._note(filter, "noted", document, reason)
            repeated = next((filter for filter, drop in self._duplicates.items() if drop[position]), None)
            position += 1
            if repeated is None:
                yield cleaned.document
            else:
                self._note(repeated, "dropped", document, "an earlier document has this text")

    def _note(self, filter: int, what: str, document: sources.Document, reason: str) -> None:
        counts = self._filters[filter]
        counts[what] += 1
        if len(counts["examples"]) < EXAMPLES:
            text = " | ".join(document.parts)[:EXCERPT]
            id = sources.document_id(self._unit, document)
            counts["examples"].append({"document": id, "reason": reason, "text": text})

    def record(self) -> dict[str, Any]:
        read = {"documents": self._documents, "bytes": self._bytes}
        return {"read": read, "invalid": self._invalid, "lines_removed": self._lines, "filters": self._filters}


def split_of(unit: sources.Unit, document: sources.Document, held_out: float) -> Split:
    """The split of the unit, or the one that a hash of the document's group puts it in."""
    if unit.split:
        return unit.split
    number = int.from_bytes(hashlib.blake2b(document.group.encode("utf-8", "replace"), digest_size=8).digest(), "big")
    return "validation" if number < held_out * 2**64 else "train"


def _write(job: Job, number: int, unit: sources.Unit, counts: Counts) -> dict[str, Any]:
    """Writes the files of a unit and returns the part of its record that tells of them."""
    vocabulary = _vocabulary(job)
    writers: dict[Split, _Writer] = {}
    with contextlib.ExitStack() as stack:
        for batch in _batches(counts.kept()):
            encoded = iter(vocabulary.encode_documents([part for document in batch for part in document.parts]))
            for document in batch:
                split = split_of(unit, document, job.data.held_out)
                if split not in writers:
                    path = job.folder / split / f"{number:05}.bin"
                    writers[split] = _Writer(path, token_type(vocabulary.pieces.size), stack)
                writers[split].add(document, [next(encoded) for _ in document.parts])
        read = [part.name for part in unit.parts]
        return {"splits": {split: writers[split].close(read) for split in SPLITS if split in writers}}


class _Writer:
    """The files of one unit in one split."""

    def __init__(self, path: epath.Path, kind: np.dtype, stack: contextlib.ExitStack):
        self._kind = kind
        self._tokens = stack.enter_context(WholeFile(path))
        self._table = stack.enter_context(WholeFile(path.parent / documents_name(path.name)))
        self._counts = {"documents": 0, "bytes": 0, "tokens": 0, "longest": 0}

    def add(self, document: sources.Document, parts: list[np.ndarray]) -> None:
        lengths = [len(part) for part in parts]
        for part in parts:
            self._tokens.write(part.astype(self._kind).tobytes())
        self._table.write(np.array([*lengths, document.file, document.record], "<u8").tobytes())
        self._counts["documents"] += 1
        self._counts["bytes"] += sum(len(part.encode("utf-8", "replace")) for part in document.parts)
        self._counts["tokens"] += sum(lengths)
        self._counts["longest"] = max(self._counts["longest"], sum(lengths))

    def close(self, read: list[str]) -> dict[str, Any]:
        hashes = {"sha256": self._tokens.close(), "documents_sha256": self._table.close()}
        return {**self._counts, "file": {"name": self._tokens.path.name, "read": read, **hashes}}


def _batches(documents: Iterator[sources.Document]) -> Iterator[list[sources.Document]]:
    """Documents of about `BATCH_CHARACTERS` together."""
    batch: list[sources.Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += sum(map(len, document.parts))
        if characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


@functools.lru_cache(maxsize=1)
def _vocabulary(job: Job) -> Vocabulary:
    """The learned pieces, opened once in each process."""
    return Vocabulary(open_vocabulary(job.folder / "vocabulary").pieces)


@functools.lru_cache(maxsize=1)
def _cleaner(job: Job) -> Cleaner:
    """The filters, with the n-grams of evaluation sets, made once in each process."""
    return Cleaner(job.data.filters)


def _duplicates(job: Job, number: int) -> dict[int, np.ndarray]:
    """For each filter of duplicates, which of the documents that passed the other filters go."""
    return read_arrays(job.folder / DUPLICATES / f"{number:05}.npz") if job.duplicate_filters else {}


def write_arrays(path: epath.Path, arrays: dict[int, np.ndarray]) -> None:
    """Writes numbered arrays into one file."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **{str(number): array for number, array in arrays.items()})
    write_whole(path, content.getvalue())


def read_arrays(path: epath.Path) -> dict[int, np.ndarray]:
    """What `write_arrays` wrote."""
    with np.load(io.BytesIO(path.read_bytes())) as arrays:
        return {int(name): arrays[name] for name in arrays}
