"""Parts of a source, files or ranges of them, and the rows that the reader of their kind finds there."""

import functools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from t5like.config import Source
from t5like.config.sources import PLAIN, kind_of, sides
from t5like.data.sources.columnar import parquet_row_groups, read_arrow, read_parquet
from t5like.data.sources.conll import read_conll
from t5like.data.sources.encoding import check_share, check_text
from t5like.data.sources.faults import DamagedError, Faults
from t5like.data.sources.files import readable
from t5like.data.sources.folders import files_of, split_of
from t5like.data.sources.library import library_files, read_library
from t5like.data.sources.parallel import read_parallel
from t5like.data.sources.readers import read_json, read_json_lines, read_text
from t5like.data.sources.records import Row, Wanted, plain, value_of
from t5like.data.sources.tables import read_csv, read_tsv
from t5like.data.sources.tensorflow_records import read_tfds, read_tfrecord, tfds_shards
from t5like.errors import UserError

READERS = {
    "python_library": read_library,
    "text": read_text,
    "jsonl": read_json_lines,
    "json": read_json,
    "csv": read_csv,
    "tsv": read_tsv,
    "conll": read_conll,
    "parallel": read_parallel,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "tfrecord": read_tfrecord,
    "tfds": read_tfds,
}
Made = TypeVar("Made")


@dataclass(frozen=True)
class Part:
    """A file, or a range of it, that one reader reads."""

    name: str
    """Path of a file, or of parallel files with braces; for tfds the split."""
    start: int = 0
    """Start of the range: a byte (lines of text, JSON lines), a row group (Parquet) or a shard (tfds)."""
    stop: int | None = None
    """End of the range; None: that of the file."""


def parts_of(
    source: Source, split: Literal["train", "validation", "test"], wanted: Wanted
) -> Iterator[tuple[Part, int]]:
    """The source's files, or the shards and row groups that they are made of, in order, with their bytes.

    Raises:
      UserError: there are none, or they lack a field.
    """
    if source.kind == "tfds":
        name = split_of(source, split)
        for shard, size in enumerate(tfds_shards(source, name, wanted)):
            yield Part(name, shard, shard + 1), size
    elif source.kind == "python_library":
        yield from ((Part(name), size) for name, size in library_files())
    else:
        for name, size in files_of(source, split):
            if file_kind(source, name) == "parquet":
                groups = enumerate(parquet_row_groups(name, wanted))
                yield from ((Part(name, group, group + 1), length) for group, length in groups)
            else:
                yield Part(name), size


def read_part(
    source: Source,
    part: Part,
    wanted: Wanted,
    faults: Faults,
    made: Callable[[Iterator[Row]], Iterator[tuple[Made, int, int]]],
) -> Iterator[Made]:
    """All that is made of a part's rows; a file that is damaged, or no text where it should be, ends where that is
    found.

    Args:
      made: gives with each the invalid sequences and the characters that it has.

    Raises:
      UserError: the file is damaged or no text, and the source's `on_error` is to stop.
    """
    kind = file_kind(source, part.name)
    invalid = characters = 0
    try:
        for name in sides(part.name).values() if kind == "parallel" else [part.name] if kind in PLAIN else []:
            check_text(source, name, part.start, part.stop)
        for each, wrong, length in made(READERS[kind](source, part.name, part.start, part.stop, wanted)):
            invalid, characters = invalid + wrong, characters + length
            yield each
        if kind in PLAIN and kind != "parallel" and not faults.skip:
            check_share(source, part.name, invalid, characters)
    except DamagedError as error:
        if not faults.skip:
            raise
        faults.add(str(error))


def part_rows(source: Source, part: Part, wanted: Wanted, faults: Faults) -> Iterator[Row]:
    """The rows of a part as values of Python's own: dictionaries, lists, texts, numbers, truths, None. Empty lines are
    none.

    Args:
      wanted: fields that each row must have, None among their values; with `whole` the rows have all others too.
      faults: counts the rows that cannot be read, if the source's `on_error` is to skip them.

    Raises:
      UserError: a row cannot be read or lacks a field.
    """

    def made(rows: Iterator[Row]) -> Iterator[tuple[Row, int, int]]:
        for row in rows:
            try:
                row = _whole(row, wanted)
            except UserError as error:
                faults.add(str(error))
                continue
            yield row, row.invalid, _characters(row.values)

    return read_part(source, part, wanted, faults, made)


def rows_of(
    source: Source,
    split: Literal["train", "validation", "test"],
    fields: tuple[str, ...] = (),
    faults: Faults | None = None,
    setting: str = "data.sources.N.fields",
) -> Iterator[Row]:
    """All rows of a split, with all their fields, in the order of the files (`part_rows`). The training split is that
    of `Source.path`, whatever share of it is held out.

    Args:
      fields: those that each row must have, a dot entering a field or list as in `Source.fields`; the first line of CSV
        and TSV is a header if it names them all, or, without any, if it looks like one.
      faults: counts the rows that are left out, if the source's `on_error` is to skip them.
      setting: the setting that names the fields, for errors.

    Raises:
      UserError: the source has no such split, a file cannot be read, or a row lacks a field.
    """
    faults = faults or Faults()
    faults.skip = source.on_error == "skip"
    wanted = Wanted(fields, True, setting)
    if split != "train" and not split_of(source, split):
        raise UserError(f"The source has no {split} split of its own: set data.sources.N.{split}.")
    for part, _ in parts_of(source, split, wanted):
        yield from part_rows(source, part, wanted, faults)


def _whole(row: Row, wanted: Wanted) -> Row:
    """The row with plain values, in which all fields were found."""
    if row.problem:
        raise UserError(f"{row.where()} {row.problem}")
    values, invalid = plain(row.values)
    row = row._replace(values=values, invalid=row.invalid + invalid)
    for field in wanted.fields:
        value_of(row, field, wanted.setting)
    return row


def _characters(value: object) -> int:
    """The characters of all texts in a value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_characters, value.values()))
    return sum(map(_characters, value)) if isinstance(value, list) else 0


def file_kind(source: Source, name: str) -> str:
    """The kind of a file, by its name or else its content where the source leaves it open."""
    return source.kind if source.kind != "files" else kind_of(name) or _kind_within(name)


@functools.lru_cache(maxsize=4096)
def _kind_within(name: str) -> str:
    """The kind of a file by its first bytes."""
    with readable(name) as file:
        head = file.read(2**16)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start[:1] == b"[" and start[1:].lstrip()[:1] == b"{":
        return "json"
    try:
        return "jsonl" if isinstance(json.loads(start.split(b"\n")[0]), dict) else "text"
    except (ValueError, RecursionError):
        return "text"
