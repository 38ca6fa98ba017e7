"""The job of a preparation's workers, and the names of its temporary folders in the store."""

import functools
from dataclasses import dataclass

import numpy as np
from etils import epath

from t5like import config
from t5like.data import sources
from t5like.data.cleaning import Cleaner
from t5like.data.cleaning.duplicates import Duplicates
from t5like.data.prepare.held_out import Tail
from t5like.data.store import token_type
from t5like.storage import etils_path

UNITS, SIGNATURES, DUPLICATES, DROPPED = "units", "signatures", "duplicates", "dropped"
"""Folders of a store that is being prepared."""


@dataclass(frozen=True)
class Job:
    """Settings that a worker needs besides the unit; they travel to other processes."""

    store: str
    data: config.Data
    tail: Tail | None = None
    """The end of the text that is held out, where no hash decides."""

    @property
    def folder(self) -> epath.Path:
        return etils_path(self.store)

    @property
    def duplicate_filters(self) -> dict[int, Duplicates]:
        """The filters of duplicates, by their numbers."""
        return {number: each for number, each in enumerate(self.data.filters) if isinstance(each, Duplicates)}

    @property
    def line_filters(self) -> dict[int, config.RepeatedLines]:
        """The filters of repeated lines, by their numbers."""
        return {n: each for n, each in enumerate(self.data.filters) if isinstance(each, config.RepeatedLines)}

    @property
    def together(self) -> bool:
        """True if a filter sees all documents at once."""
        return bool(self.duplicate_filters or self.line_filters)


Task = tuple[int, sources.Unit]
"""A unit and its number."""


def store_type(data: config.Data, pieces: int) -> np.dtype:
    """The type of a store's numbers: the smallest that holds every learned piece, or, where examples are framed by
    special tokens, every token."""
    head = data.objective.spec.head and data.has_tasks
    return token_type(max(pieces, data.vocabulary.pieces) if head else pieces)


@functools.lru_cache(maxsize=1)
def cleaner(job: Job) -> Cleaner:
    """The filters, with the n-grams of evaluation sets, made once in each process."""
    return Cleaner(job.data.filters)
