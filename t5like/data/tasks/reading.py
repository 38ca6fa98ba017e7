"""The examples of a split, as the files of a source have it or as a hash of each example cuts it."""

import dataclasses
from collections.abc import Iterable, Iterator

from t5like.config import Data, Source
from t5like.config.tasks import Task
from t5like.data.example import Example
from t5like.data.sources import Document, Row, Unit, part_rows, rows_of
from t5like.data.sources.faults import Faults
from t5like.data.sources.records import wanted_of
from t5like.data.splits import AnySplit, left_to_hash, shares_of, split_by_hash
from t5like.data.tasks.examples import SETTING, examples_of, prompt_of, target_text
from t5like.errors import UserError


def documents(source: Source, unit: Unit, faults: Faults) -> Iterator[Document]:
    """The examples of a unit as documents of two texts, the prompt and the target.

    Raises:
      UserError: a row makes no example, and the source's `on_error` is to stop.
    """
    assert source.task is not None
    for number, part in enumerate(unit.parts):
        for row, example in _made(source.task, part_rows(source, part, wanted_of(source), faults), faults):
            texts = (prompt_of(source.task, example), target_text(source.task, example))
            yield Document(texts, example.group, number, row.number, row.invalid, example)


def examples(data: Data, number: int, split: AnySplit) -> Iterator[Example]:
    """The examples of a split of the source with that number, in the order of its files.

    Raises:
      UserError: the source has no task, the split no files and no share, or a row makes no example.
    """
    source, shares = data.sources[number], left_to_hash(data.sources[number], shares_of(data))
    if source.task is None:
        raise UserError(f"data.sources.{number} has no task: give it data.sources.{number}.task.kind.")
    if split == "test" and not source.test and not shares.test:
        raise UserError(
            f"The source {data.source_names[number]!r} has no test split: give it files, data.sources.{number}.test, "
            "or a share of the examples, data.held_out_test, before it is trained on."
        )
    own = split if (split == "validation" and source.validation) or (split == "test" and source.test) else "train"
    faults = Faults(source.on_error == "skip")
    for _, example in _made(source.task, rows_of(source, own, source.task.fields, faults, SETTING), faults):
        if own != "train" or split_by_hash(example.group, shares) == split:
            yield example


def unlabelled(source: Source) -> Iterator[Row]:
    """The rows of a source's files, of which only what its task asks about has to be there.

    Raises:
      UserError: a file cannot be read, or lacks a field.
    """
    assert source.task is not None
    return rows_of(dataclasses.replace(source, task=None), "train", source.task.asked, None, SETTING)


def _made(task: Task, rows: Iterable[Row], faults: Faults) -> Iterator[tuple[Row, Example]]:
    """The rows with the examples that they make; those that make none are faults."""
    for row in rows:
        try:
            found = list(examples_of(task, row))
        except UserError as error:
            faults.add(str(error))
            continue
        yield from ((row, example) for example in found)
