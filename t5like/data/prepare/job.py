"""The job of a preparation's workers, and the names of its temporary folders in the store."""

import functools
from dataclasses import dataclass

from etils import epath

from t5like import config
from t5like.data import sources
from t5like.data.cleaning import Cleaner
from t5like.data.cleaning.duplicates import Duplicates
from t5like.storage import etils_path

UNITS, SIGNATURES, DUPLICATES = "units", "signatures", "duplicates"
"""Folders of a store that is being prepared."""


@dataclass(frozen=True)
class Job:
    """Settings that a worker needs besides the unit; they travel to other processes."""

    store: str
    data: config.Data

    @property
    def folder(self) -> epath.Path:
        return etils_path(self.store)

    @property
    def duplicate_filters(self) -> dict[int, Duplicates]:
        """The filters that see all documents at once, by their numbers."""
        return {number: each for number, each in enumerate(self.data.filters) if isinstance(each, Duplicates)}


Task = tuple[int, sources.Unit]
"""A unit and its number."""


@functools.lru_cache(maxsize=1)
def cleaner(job: Job) -> Cleaner:
    """The filters, with the n-grams of evaluation sets, made once in each process."""
    return Cleaner(job.data.filters)
