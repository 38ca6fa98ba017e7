"""The documents of a unit: texts as a source has them, or the examples of its task."""

from collections.abc import Iterator

from t5like.config import Source
from t5like.data import sources
from t5like.data.sources import Document, Unit
from t5like.data.sources.faults import Faults
from t5like.data.tasks.reading import documents as examples


def documents(source: Source, unit: Unit, faults: Faults | None = None) -> Iterator[Document]:
    """The documents of a unit (see `sources.read`); `faults` counts what is left out because it cannot be read."""
    if source.task is None:
        return sources.read(source, unit, faults)
    faults = faults or Faults()
    faults.skip = source.on_error == "skip"
    return examples(source, unit, faults)
