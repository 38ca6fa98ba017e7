"""Forms of the JSON files of a store, against which one without a checksum is checked."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from t5like.json_files import Count, Digest

FORMAT = 2


class File(TypedDict):
    """The tokens of a unit, and the table of its documents."""

    name: str  # which `storage.inside` checks where it is used
    read: list[str]
    sha256: Digest
    documents_sha256: Digest


class CountedFile(File):
    tokens: Count
    documents: Count


class Split(TypedDict):
    """The counts of a source's split."""

    documents: Count
    bytes: Count
    tokens: Count
    longest: Count
    files: list[CountedFile]


class UnitSplit(TypedDict):
    """The counts of a unit's documents of one split."""

    documents: Count
    bytes: Count
    tokens: Count
    longest: Count
    file: File


class Splits(TypedDict):
    train: Split
    validation: Split


class Read(TypedDict):
    documents: Count
    bytes: Count
    lines_removed: NotRequired[Count]


class Dropped(TypedDict):
    document: str
    reason: str
    text: str


class FilterCounts(TypedDict):
    kind: NotRequired[str]
    dropped: Count
    noted: Count
    lines: NotRequired[Count]
    examples: list[Dropped]


class Skipped(TypedDict):
    count: Count
    examples: list[str]


class Source(TypedDict):
    name: str
    kind: str
    parts: Annotated[int, range(1, 2**10)]
    units: Count
    read: Read
    splits: Splits
    filters: list[FilterCounts]
    skipped: NotRequired[Skipped]


class Record(TypedDict):
    """The record of the work on one unit."""

    number: Count
    splits: dict[str, UnitSplit]
    read: Read
    invalid: Count
    lines_removed: Count
    filters: list[FilterCounts]
    skipped: NotRequired[Skipped]
    cut: NotRequired[tuple[Count, Count]]


class Part(TypedDict):
    name: str
    start: Count
    stop: Count | None


class Unit(TypedDict):
    number: Count
    source: Count
    split: Literal["train", "validation"] | None
    parts: list[Part]
    size: Count


class Inputs(TypedDict, total=False):
    """The inputs and units of a store; earlier versions say less of them."""

    hashes: str
    files: list[tuple[Annotated[int, range(-1, 2**31)], str, str, Count, str]]
    units: list[Unit]
    tail: bool
    records: list[Record]


class Manifest(TypedDict):
    """`manifest.json`."""

    format: Annotated[int, range(FORMAT, FORMAT + 1)]
    dtype: Literal["<u2", "<u4"]
    vocabulary_sha256: str
    created_with: dict[str, str]
    invalid_sequences: Count
    sources: list[Source]
    inputs: NotRequired[Inputs]


class Plan(TypedDict):
    """`plan.json`."""

    sources: NotRequired[list[dict[str, Any]]]
    filters: NotRequired[list[dict[str, Any]]]
    vocabulary: NotRequired[dict[str, Any]]


class Table(TypedDict):
    drawings: NotRequired[Annotated[int, range(1, 2**31)]]
    examples: Count
    rows: Count
    cut: Count
    tokens: list[Count]
    sha256: tuple[Digest, Digest]


class Tables(TypedDict):
    """`table.json`."""

    lengths: dict[str, Count]
    objective: str
    tables: dict[str, Table]
