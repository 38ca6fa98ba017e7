"""Duplicates in a preparation: the workers sign each unit's documents, then it is decided for all at once what goes.

Signatures lie on the disk and are mapped, not read; the decision takes about 50 bytes of memory a document, and twice
16 bytes of disk for exact duplicates and twice 512 for near ones of 128 permutations. So 10^8 documents suit a
workstation, and 10^9 need a machine with 64 GB and, for near duplicates, 1 TB of disk; where the store is at gs://,
signatures are read into memory. Many more than that should be deduplicated before they become a source.
"""

import contextlib
import io
import shutil
from typing import IO, cast

import numpy as np
from etils import epath
from jaxtyping import Bool, UInt64

from t5like.data import sources
from t5like.data.cleaning import Dropped
from t5like.data.cleaning.duplicates import columns, duplicates, signature
from t5like.data.files import WholeFile, write_whole
from t5like.data.prepare.job import DUPLICATES, SIGNATURES, Job, Task, cleaner
from t5like.storage import is_remote


def sign(job: Job, task: Task) -> int:
    """Write the signatures of a unit's documents, a file for each filter of duplicates, unless they are there;
    returns the unit's number."""
    number, unit = task
    paths = {filter: job.folder / SIGNATURES / f"{number:05}.{filter}" for filter in job.duplicate_filters}
    if all(path.exists() for path in paths.values()):
        return number
    clean = cleaner(job)
    with contextlib.ExitStack() as stack:
        files = {filter: stack.enter_context(WholeFile(path)) for filter, path in paths.items()}
        for document in sources.read(job.data.sources[unit.source], unit):
            cleaned = clean(document)
            if not isinstance(cleaned, Dropped):
                for filter, settings in job.duplicate_filters.items():
                    files[filter].write(signature(settings, cleaned.document.parts).tobytes())
        for file in files.values():
            file.close()
    return number


def find_duplicates(job: Job, units: int) -> None:
    """Decide, over all units at once, which documents go, and write it for each unit unless it is there."""
    paths = [job.folder / DUPLICATES / f"{number:05}.npz" for number in range(units)]
    if all(path.exists() for path in paths):
        return
    dropped = {
        filter: duplicates(settings, _signatures(job, filter, columns(settings), units))
        for filter, settings in job.duplicate_filters.items()
    }
    for number, path in enumerate(paths):
        content = io.BytesIO()
        arrays = {str(filter): drop[number] for filter, drop in dropped.items()}
        np.savez(content, allow_pickle=False, **arrays)
        write_whole(path, content.getvalue())


def repeated(job: Job, number: int) -> dict[int, Bool[np.ndarray, " documents"]]:
    """For each filter of duplicates, which of a unit's documents that passed the other filters go."""
    if not job.duplicate_filters:
        return {}
    with np.load(io.BytesIO((job.folder / DUPLICATES / f"{number:05}.npz").read_bytes())) as arrays:
        return {int(name): arrays[name] for name in arrays}


def _signatures(job: Job, filter: int, columns: int, units: int) -> list[UInt64[np.ndarray, "documents columns"]]:
    """The signatures of each unit: parts of one file, for there may be more units than files that may be open."""
    whole, lengths = job.folder / SIGNATURES / f"all.{filter}", []
    with WholeFile(whole) as file:
        for number in range(units):
            path = job.folder / SIGNATURES / f"{number:05}.{filter}"
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
