"""Duplicates in a preparation: the workers sign each unit's documents, then it is decided for all at once what goes.

Signatures lie on the disk and are mapped, not read; the decision takes about 60 bytes of memory a document (and 2 bytes
a line where repeated lines go), and twice 32 bytes of disk for exact duplicates and twice 528 for near ones of 128
permutations. So 10^8 documents suit a
workstation, and 10^9 need a machine with 64 GB and, for near duplicates, 1 TB of disk; where the store is at gs://,
signatures are read into memory. Many more than that should be deduplicated before they become a source.
"""

import contextlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple, cast

import numpy as np
from etils import epath
from jaxtyping import Bool, Int, UInt64

from t5like.data.cleaning import Dropped
from t5like.data.cleaning.duplicates import columns, partners, signature
from t5like.data.cleaning.repeated_lines import line_hashes, repeated
from t5like.data.files import WholeFile, write_whole
from t5like.data.prepare.documents import documents
from t5like.data.prepare.job import DUPLICATES, SIGNATURES, Job, Task, cleaner
from t5like.storage import is_remote

PLACES, LINES, COUNTS = "places", "lines", "counts"
"""Ends of the names of files beside the signatures: file and record of each document, hashes of all lines, and lines of
each document."""


def sign(job: Job, task: Task) -> int:
    """Write the signatures of a unit's documents unless they are there: a file for each filter of duplicates, one of
    the documents' places, and for repeated lines the hashes and the number of each document's lines. Returns the unit's
    number."""
    number, unit = task
    names = [PLACES, *map(str, job.duplicate_filters), *((LINES, COUNTS) if job.line_filters else ())]
    paths = {name: job.folder / SIGNATURES / f"{number:05}.{name}" for name in names}
    if all(path.exists() for path in paths.values()):
        return number
    clean = cleaner(job)
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(WholeFile(path)) for name, path in paths.items()}
        for document in documents(job.data.sources[unit.source], unit):
            cleaned = clean(document)
            if isinstance(cleaned, Dropped):
                continue
            parts = cleaned.document.parts
            files[PLACES].write(np.array([document.file, document.record], np.uint64).tobytes())
            for filter, settings in job.duplicate_filters.items():
                files[str(filter)].write(signature(settings, parts).tobytes())
            if job.line_filters:
                hashes = line_hashes(parts[0])
                files[LINES].write(hashes.tobytes())
                files[COUNTS].write(np.array([len(hashes)], np.uint64).tobytes())
        for file in files.values():
            file.close()
    return number


def find_duplicates(job: Job, tasks: Sequence[Task]) -> None:
    """Decide, over all units at once, which documents and lines go, and write it for each unit unless it is there."""
    paths = [job.folder / DUPLICATES / f"{number:05}.npz" for number, _ in tasks]
    if all(path.exists() for path in paths):
        return
    numbers = [number for number, _ in tasks]
    places = _signatures(job, PLACES, 2, numbers)
    found = {
        filter: partners(settings, _signatures(job, str(filter), columns(settings), numbers))
        for filter, settings in job.duplicate_filters.items()
    }
    lines = _repeated_lines(job, numbers, found) if job.line_filters else []
    for index, path in enumerate(paths):
        arrays: dict[str, np.ndarray] = {"lines": lines[index]} if lines else {}
        for filter, units in found.items():
            arrays[str(filter)] = units[index] >= 0
            names = json.dumps(_names(units[index], tasks, places)).encode()
            arrays[f"{filter}.partners"] = np.frombuffer(names, np.uint8)
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        write_whole(path, content.getvalue())


def _names(
    found: Int[np.ndarray, " documents"], tasks: Sequence[Task], places: Sequence[UInt64[np.ndarray, "_ 2"]]
) -> list[str]:
    """The ids of the partners of a unit's documents, of those that have one."""
    starts = np.cumsum([0, *map(len, places)])
    partners = found[found >= 0]
    units = np.searchsorted(starts, partners, side="right") - 1
    names = []
    for unit, number in zip(units.tolist(), partners.tolist(), strict=True):
        file, record = places[unit][number - starts[unit]].tolist()
        names.append(f"{tasks[unit][1].parts[file].name}#{record}")
    return names


def _repeated_lines(
    job: Job, numbers: Sequence[int], found: Mapping[int, Sequence[Int[np.ndarray, " _"]]]
) -> list[Bool[np.ndarray, " _"]]:
    """For each unit, which lines of its documents go; documents that go as duplicates count for nothing."""
    counts = [each[:, 0].astype(np.int64) for each in _signatures(job, COUNTS, 1, numbers)]
    gone = [np.any([units[n] >= 0 for units in found.values()], axis=0) for n in range(len(numbers))] if found else None
    idle = [np.repeat(gone[n] if gone else np.zeros(len(each), bool), each) for n, each in enumerate(counts)]
    lines = _signatures(job, LINES, 1, numbers)
    ends = np.cumsum([len(each) for each in lines])
    whole = np.concatenate(idle) if idle else np.zeros(0, bool)
    return np.split(repeated(_mapped(job.folder / SIGNATURES / f"all.{LINES}"), whole), ends[:-1]) if lines else []


class Repeated(NamedTuple):
    """The decisions for the documents of a unit that passed the other filters."""

    filter: Int[np.ndarray, " documents"]
    """The filter of duplicates that drops it, -1 for none."""
    partner: list[str]
    """The ids of the partners of those that go."""
    lines: Bool[np.ndarray, " lines"]
    """Of each line, whether it is in an earlier document."""


def decisions(job: Job, number: int) -> Repeated:
    """The decisions for a unit."""
    if not job.together:
        return Repeated(np.zeros(0, np.int64), [], np.zeros(0, bool))
    with np.load(io.BytesIO((job.folder / DUPLICATES / f"{number:05}.npz").read_bytes())) as arrays:
        filter, partner = np.zeros(0, np.int64), {}
        for which in reversed(job.duplicate_filters):
            drop = arrays[str(which)]
            filter = np.where(drop, which, filter if len(filter) else -1)
            names = json.loads(arrays[f"{which}.partners"].tobytes())
            partner |= dict(zip(np.flatnonzero(drop).tolist(), names, strict=True))
        lines = arrays["lines"] if job.line_filters else np.zeros(0, bool)
        return Repeated(filter, [partner[position] for position in sorted(partner)], lines)


def _signatures(
    job: Job, name: str, columns: int, numbers: Sequence[int]
) -> list[UInt64[np.ndarray, "documents columns"]]:
    """The signatures of each unit: parts of one file, for there may be more units than files that may be open."""
    whole, lengths = job.folder / SIGNATURES / f"all.{name}", []
    with WholeFile(whole) as file:
        for number in numbers:
            path = job.folder / SIGNATURES / f"{number:05}.{name}"
            with cast(IO[bytes], path.open("rb")) as part:
                shutil.copyfileobj(part, file, 2**22)
            lengths.append(path.stat().length // (8 * columns))
        file.close()
    rows = _mapped(whole).reshape(-1, columns)
    return np.split(rows, np.cumsum(lengths)[:-1]) if lengths else []


def _mapped(path: epath.Path) -> UInt64[np.ndarray, " numbers"]:
    if is_remote(path) or not path.stat().length:
        return np.frombuffer(path.read_bytes(), np.uint64)
    return np.asarray(np.memmap(path, np.uint64, "r"))
