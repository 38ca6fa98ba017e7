"""The work of one unit: its documents are read, cleaned, tokenised and written.

The work is pure in what it writes: a unit's files follow from the plan and the unit alone. Each file is written whole
or not at all and the unit's record comes last, so a unit is done exactly when its record is there.
"""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Bool

from t5like import config
from t5like.data import sources
from t5like.data.cleaning import Dropped
from t5like.data.cleaning.repeated_lines import reason_after, without
from t5like.data.files import WholeFile, write_whole
from t5like.data.prepare.documents import documents
from t5like.data.prepare.dropped import EXCERPT, DroppedPart, part_of
from t5like.data.prepare.held_out import splits_of
from t5like.data.prepare.job import UNITS, Job, Task, cleaner, store_type
from t5like.data.prepare.signatures import decisions
from t5like.data.sources.faults import Faults
from t5like.data.splits import shares_of
from t5like.data.store import SPLITS, Split, documents_name, forms
from t5like.data.tasks.encode import cut_texts, encode_example
from t5like.data.tasks.few import chosen, key_of
from t5like.data.vocabulary import Vocabulary, make_vocabulary, open_vocabulary
from t5like.json_files import read_object, sealed

EXAMPLES = 3
"""Dropped documents that a unit's record shows for each filter."""
BATCH_CHARACTERS = 2**20
"""Text that is given to the tokeniser at once."""


def tokenise(job: Job, task: Task) -> dict[str, Any]:
    """Write a unit's files and then its record, unless the record is there, and return it.

    Raises:
      UserError: something cannot be read or written.
    """
    number, unit = task
    path = job.folder / UNITS / f"{number:05}.json"
    if path.exists():
        return read_object(path, forms.Record, "delete it and run the same command again")
    with WholeFile(part_of(job, number)) if job.data.filters else contextlib.nullcontext() as file:
        dropped = DroppedPart(file, number, unit.source)
        counts = Counts(job, number, unit, dropped)
        record = {"number": number, **_write(job, number, unit, counts), **counts.record()}
        dropped.close()
    write_whole(path, sealed(json.dumps(record)))
    return record


class Counts:
    """Counts of a unit: what was read, and what each filter kept, edited and dropped."""

    def __init__(self, job: Job, number: int, unit: sources.Unit, dropped: DroppedPart):
        self._job, self._unit, self._dropped = job, unit, dropped
        self._documents = self._bytes = self._invalid = self._lines = 0
        empty = {"dropped": 0, "noted": 0, "lines": 0}
        self._filters: list[dict[str, Any]] = [{**empty, "examples": []} for _ in job.data.filters]
        self._cut = [0, 0]
        self._repeated = decisions(job, number)
        self._faults = Faults()

    def kept(self) -> Iterator[sources.Document]:
        """The documents that every filter lets through, cleaned."""
        clean, position, line = cleaner(self._job), 0, 0
        partners = iter(self._repeated.partner)
        for document in documents(self._job.data.sources[self._unit.source], self._unit, self._faults):
            self._documents += 1
            self._bytes += _bytes_of(document)
            self._invalid += document.invalid
            cleaned = clean(document)
            if isinstance(cleaned, Dropped):
                self._drop(cleaned.filter, document, cleaned.reason)
                continue
            self._lines += cleaned.lines_removed
            for filter, reason in cleaned.notes:
                self._note(filter, "noted", document, reason)
            by = int(self._repeated.filter[position]) if len(self._repeated.filter) else -1
            position, first = position + 1, line
            if self._job.line_filters:
                line += sum(not text.isspace() for text in cleaned.document.parts[0].split("\n") if text)
            if by >= 0:
                same = isinstance(self._job.data.filters[by], config.ExactDuplicates)
                partner = next(partners)
                self._drop(by, document, f"{'the' if same else 'nearly the'} text of {partner}", partner)
            elif left := self._without_lines(cleaned.document, self._repeated.lines[first:line]):
                yield left

    def _without_lines(self, document: sources.Document, flags: Bool[np.ndarray, " lines"]) -> sources.Document | None:
        """The document without its repeated lines, or None where too little is left."""
        for filter, settings in self._job.line_filters.items():
            self._filters[filter]["lines"] += int(flags.sum())
            text = without(document.parts[0], flags)
            if reason := reason_after(settings, text):
                self._drop(filter, document, reason)
                return None
            document = dataclasses.replace(document, parts=(text,))
        return document

    def _drop(self, filter: int, document: sources.Document, reason: str, partner: str | None = None) -> None:
        id, text = sources.document_id(self._unit, document), " | ".join(document.parts)[:EXCERPT]
        self._dropped.add(self._job.data.filters[filter].kind, id, reason, text, partner)
        self._note(filter, "dropped", document, reason)

    def _note(self, filter: int, what: str, document: sources.Document, reason: str) -> None:
        counts = self._filters[filter]
        counts[what] += 1
        if len(counts["examples"]) < EXAMPLES:
            text = " | ".join(document.parts)[:EXCERPT]
            id = sources.document_id(self._unit, document)
            counts["examples"].append({"document": id, "reason": reason, "text": text})

    def cut(self, question: bool, target: bool) -> None:
        """Count an example whose question, or whose target, is longer than a row."""
        self._cut[0] += question
        self._cut[1] += target

    def record(self) -> dict[str, Any]:
        read = {"documents": self._documents, "bytes": self._bytes}
        skipped = {"count": self._faults.count, "examples": self._faults.examples}
        counts = {"invalid": self._invalid, "lines_removed": self._lines, "filters": self._filters}
        return {"read": read, "skipped": skipped, "cut": self._cut, **counts}


def _write(job: Job, number: int, unit: sources.Unit, counts: Counts) -> dict[str, Any]:
    """Write the files of a unit and return the part of its record that tells of them."""
    vocabulary = _vocabulary(job)
    writers: dict[Split, _Writer] = {}
    with contextlib.ExitStack() as stack:
        for batch in _batches(counts.kept()):
            placed = [pair for d in batch for pair in splits_of((number, unit), d, shares_of(job.data), job.tail)]
            placed = [each for each in placed if _stays(job, unit.source, *each)]
            rows: dict[Split, list[Encoded]] = {}
            for (split, document), parts in _encoded(placed, job, unit.source, vocabulary, counts):
                rows.setdefault(split, []).append((document, parts))
            for split, documents in rows.items():
                if split not in writers:
                    path = job.folder / split / f"{number:05}.bin"
                    writers[split] = _Writer(path, store_type(job.data, vocabulary.pieces.size), stack)
                writers[split].add(documents)
        read = [part.name for part in unit.parts]
        return {"splits": {split: writers[split].close(read) for split in SPLITS if split in writers}}


Encoded = tuple[sources.Document, list[np.ndarray]]
"""A document and the tokens of its parts."""
Placed = tuple[Split, sources.Document]


def _stays(job: Job, source: int, split: Split, document: sources.Document) -> bool:
    """False for a training example that is none of the few that its task keeps."""
    task, example = job.data.sources[source].task, document.example
    if task is None or task.few is None or example is None or split != "train":
        return True
    return key_of(example, task.few_seed) in chosen(job.data, source)


def _encoded(
    placed: Sequence[Placed], job: Job, source: int, vocabulary: Vocabulary, counts: Counts
) -> Iterator[tuple[Placed, list[np.ndarray]]]:
    """The numbers of each document's parts; those of an example for a model with a head may be several documents."""
    data, task = job.data, job.data.sources[source].task
    if task is not None and data.objective.spec.head:
        for split, document in placed:
            assert document.example is not None
            rows = encode_example(document.example, task, data, vocabulary)
            counts.cut(any(row.cut for row in rows), False)
            for row in rows:
                yield (split, document), [np.array(part, np.int32) for part in (row.tokens, row.widths, row.labels)]
        return
    encoded = iter(vocabulary.encode_documents([part for _, document in placed for part in document.parts]))
    for each in placed:
        parts = [next(encoded) for _ in each[1].parts]
        if task is not None:
            counts.cut(*cut_texts(data, len(parts[0]), len(parts[1])))
        yield each, parts


class _Writer:
    """The files of one unit in one split."""

    def __init__(self, path: epath.Path, kind: np.dtype, stack: contextlib.ExitStack):
        self._kind = kind
        self._tokens = stack.enter_context(WholeFile(path))
        self._table = stack.enter_context(WholeFile(path.parent / documents_name(path.name)))
        self._counts = {"documents": 0, "bytes": 0, "tokens": 0, "longest": 0}

    def add(self, documents: list[Encoded]) -> None:
        tokens = np.concatenate([part for _, parts in documents for part in parts])
        table = np.array([(*map(len, parts), document.file, document.record) for document, parts in documents], "<u8")
        self._tokens.write(tokens.astype(self._kind).tobytes())
        self._table.write(table.tobytes())
        self._counts["documents"] += len(documents)
        self._counts["bytes"] += sum(_bytes_of(document) for document, _ in documents)
        self._counts["tokens"] += len(tokens)
        self._counts["longest"] = max(self._counts["longest"], int(table[:, :-2].sum(axis=1).max()))

    def close(self, read: list[str]) -> dict[str, Any]:
        hashes = {"sha256": self._tokens.close(), "documents_sha256": self._table.close()}
        return {**self._counts, "file": {"name": self._tokens.path.name, "read": read, **hashes}}


def _bytes_of(document: sources.Document) -> int:
    return sum(len(part if part.isascii() else part.encode("utf-8", "replace")) for part in document.parts)


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
    """The learned pieces, opened once in each process; with the special tokens where examples are framed by them."""
    pieces = open_vocabulary(job.folder / "vocabulary").pieces
    return make_vocabulary(pieces, job.data.vocabulary) if job.data.objective.spec.head else Vocabulary(pieces)
