"""The examples of a split, as the files of a source have it or as a hash of each example cuts it."""

import dataclasses
from collections.abc import Iterator

from t5like.config import Data, Source
from t5like.data.example import Example
from t5like.data.sources import Document, Unit, part_rows, units
from t5like.data.sources.faults import Faults
from t5like.data.sources.records import Row
from t5like.data.splits import AnySplit, left_to_hash, shares_of, split_by_hash
from t5like.data.tasks.examples import examples_of, prompt_of, target_text
from t5like.errors import UserError


def documents(source: Source, unit: Unit, faults: Faults) -> Iterator[Document]:
    """The examples of a unit as documents of two texts, the prompt and the target.

    Raises:
      UserError: a row makes no example, and the source's `on_error` is to stop.
    """
    assert source.task is not None
    for number, part in enumerate(unit.parts):
        for row in part_rows(source, part, faults):
            try:
                found = list(examples_of(source.task, row))
            except UserError as error:
                faults.add(str(error))
                continue
            for example in found:
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
    faults = Faults()
    faults.skip = source.on_error == "skip"
    for document in _whole(source, own, faults):
        if own != "train" or split_by_hash(document.group, shares) == split:
            assert document.example is not None
            yield document.example


def unlabelled(source: Source) -> Iterator[Row]:
    """The rows of a source's files, of which only what its task asks about has to be there.

    Raises:
      UserError: a file cannot be read.
    """
    assert source.task is not None
    reading = dataclasses.replace(source, task=None, fields=source.task.asked)
    for unit in units((reading,)):
        for part in unit.parts:
            yield from part_rows(reading, part, Faults())


def _whole(source: Source, split: AnySplit, faults: Faults) -> Iterator[Document]:
    if split == "test":
        named = "split" if source.kind in ("tfds", "arrow") else "path"
        test = dataclasses.replace(source, **{named: source.test}, validation="", test="")
        found = units((test,))
    else:
        found = [unit for unit in units((source,)) if (unit.split or "train") == split]
    for part in (part for unit in found for part in unit.parts):
        yield from documents(source, Unit(0, None, (part,), 0), faults)
