"""Sources of documents."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal

from t5like.config.checks import require, require_fields, require_positive
from t5like.config.marks import applies_to
from t5like.config.tasks import Task
from t5like.storage import require_no_secret

FILES = ("files", "text", "jsonl", "json", "csv", "tsv", "conll", "parallel", "parquet", "arrow", "tfrecord")
"""Kinds that are read from files at a path."""
PLAIN = ("files", "text", "jsonl", "json", "csv", "tsv", "conll", "parallel")
"""Kinds whose files are text, in some encoding."""
SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
    ".txt": "text",
    ".md": "text",
    **dict.fromkeys((".conll", ".conllu", ".bio", ".iob", ".iob2", ".bioes", ".iobes", ".bmes", ".bmeso"), "conll"),
}
"""Kinds of files by the ends of their names, in small letters."""
SAVED = ("dataset_dict.json", "state.json")
"""Files of which one lies in a folder that Hugging Face's `datasets` saved."""
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
"""Ends of the names of compressed files, in small letters."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source of documents. A document has one text, or several parts such as a question and its answer."""

    kind: Literal[
        "python_library",
        "files",
        "text",
        "jsonl",
        "json",
        "csv",
        "tsv",
        "conll",
        "parallel",
        "parquet",
        "arrow",
        "tfrecord",
        "tfds",
    ] = "python_library"
    """Python's own modules and their English prose; files of which each is one of the following, by its name or
    content; text; JSON lines; JSON arrays or objects; CSV; TSV; columns of CoNLL, a token a line; files of which each
    has a line for each line of the others; Parquet; Arrow, as in folders that Hugging Face's `datasets` saved; TFRecord
    of tf.train.Example; a TensorFlow Datasets builder. All files but Parquet and Arrow may be compressed: .gz, .bz2,
    .xz, .zst, or .zip of one file."""
    path: str = ""
    """Files of the source, a glob such as `corpus/**/*.txt.gz`; for parallel `corpus/*.{en,zh}` or `train.en train.zh`,
    in which what differs names the fields; for arrow also a folder; for tfds its data_dir (empty: TFDS's own
    default)."""
    dataset: Annotated[str, applies_to("kind", "tfds")] = ""
    """`name`, `name/config` or `name/config:version`."""
    split: Annotated[str, applies_to("kind", "tfds", "arrow")] = "train"
    """Split of the data set that is read."""
    validation: str = ""
    """Documents of the validation split where the source has its own: files like `path`, or a split of tfds or of a
    folder of `datasets`. Without it, a hash of each document decides (`data.held_out`)."""
    test: str = ""
    """Files or split of the test split, like `validation`. Neither training nor a store reads them."""
    task: Task | None = None
    """The task whose examples the rows are; without, they are text."""
    fields: Annotated[tuple[str, ...], applies_to("is_text", words="sources without a task")] = ("text",)
    """Names of the fields (columns, features) that are read; a dot enters a field within a field, `translation.en`,
    or a list by a number, `answers.text.0`. Columns without names have numbers, from 0."""
    template: Annotated[tuple[str, ...], applies_to("is_text", words="sources without a task")] = ()
    """The parts of a document, with {field} for a field: ("translate English to Chinese: {en}", "{zh}"). Without it,
    each field is a part."""
    document: Annotated[Literal["file", "line", "paragraph"], applies_to("kind", "text", "files")] = "file"
    """A document is a whole text file, each line of one, or the lines between blank lines. `data.documents` then says
    whether an example is a document."""
    columns: Annotated[tuple[str, ...], applies_to("kind", "csv", "tsv", "conll")] = ()
    """Names of all columns where the files have no header line. Without it, the first line is the header if it names
    every field; if all fields are numbers there is none. CoNLL's files have none: their first column is `words` and
    their last `tags`, unless columns have these names."""
    records: Annotated[str, applies_to("kind", "json")] = ""
    """The list of records within the object that a JSON file is, with a dot into a list within a list: `data`, or in
    SQuAD's files `data.paragraphs.qas`. Fields beside a list are fields of its records too."""
    delimiter: Annotated[str, applies_to("kind", "csv")] = ""
    """The character between columns; empty: comma, semicolon, tab or |, as the first lines of a file tell. Behind a
    space the last column takes the rest of the line, as in `4 Who was Galileo ?`."""
    quotes: Annotated[bool | None, applies_to("kind", "csv", "tsv")] = None
    """Fields may stand in double quotes, and then hold delimiters and line feeds; by default in CSV and not in TSV, and
    in CSV with tabs or spaces where its first lines show it."""
    encoding: Annotated[str, applies_to("kind", *PLAIN)] = "utf-8"
    """Encoding of the files by its name in Python: gb18030, big5, utf-16, cp1252 and so on."""
    most_invalid: Annotated[float, applies_to("kind", *PLAIN)] = 0.001
    """Share of a file's characters that may be invalid in that encoding, and become U+FFFD; a file with more is an
    error that names the likely encoding."""
    on_error: Annotated[Literal["stop", "skip"], applies_to("kind", *FILES, "tfds")] = "stop"
    """A record that cannot be read (no JSON, a field missing, too long), or a damaged file, ends the preparation, or is
    left out, counted and reported."""
    most_bytes: Annotated[int, applies_to("kind", *FILES, "tfds")] = 2**26
    """Longest document in bytes; a longer one is an error, so that memory stays bounded."""
    name: str = ""
    """Name in reports; by default the kind, with the source's number where there are several."""
    rate: float | None = None
    """Share of the training rows that come from this source, against the sum of all rates; all sources have one or
    none has. Without rates the sizes decide (`data.temperature`, `data.size_cap`)."""

    def __post_init__(self) -> None:
        require_fields("data.sources.N", self)
        require_positive("data.sources.N", self, "most_bytes")
        require(
            self.kind not in FILES or bool(self.path),
            f"A source of kind {self.kind!r} needs a path: give data.sources.N.path a file or a glob.",
        )
        given = self.path or self.validation or self.test
        require(
            self.kind != "python_library" or not given,
            f"data.sources.N.path={given!r} is for other sources: set data.sources.N.kind to 'files', or to the kind "
            "of these files.",
        )
        for name, path in {"path": self.path, "validation": self.validation, "test": self.test}.items():
            require_no_secret(path, f"data.sources.N.{name}")
            require(
                self.kind != "parallel" or not path or sides(path).keys() == sides(self.path).keys() != set(),
                f"data.sources.N.{name}={path!r}: a source of kind 'parallel' names its files as 'train.{{en,zh}}' or "
                "'train.en train.zh', and those of its other splits by the same names.",
            )
        require(
            0 <= self.most_invalid <= 1 and len(self.delimiter) < 2,
            f"data.sources.N.most_invalid={self.most_invalid} must lie between 0 and 1, and "
            f"data.sources.N.delimiter={self.delimiter!r} be one character.",
        )
        require(
            _is_encoding(self.encoding),
            f"data.sources.N.encoding={self.encoding!r} is no encoding that Python knows; there are utf-8, utf-16, "
            "gb18030, big5, shift_jis, euc_kr, cp1252, latin-1 and others.",
        )
        require(
            self.kind != "tfds" or bool(self.dataset),
            "A source of kind 'tfds' needs data.sources.N.dataset, the name of a TensorFlow data set.",
        )
        require(
            self.rate is None or self.rate > 0,
            f"data.sources.N.rate={self.rate} must be above 0; leave a source out to give it no rows.",
        )
        require(
            bool(self.fields) and len(set(self.fields)) == len(self.fields) and all(self.fields),
            f"data.sources.N.fields={self.fields} must name at least one field, each once.",
        )
        require(
            self.kind not in ("text", "python_library") or len(self.fields) == 1,
            f"data.sources.N.fields={self.fields}: a source of kind {self.kind!r} has one text and no named fields.",
        )
        unknown = [name for part in self.template for name in self.names_in(part) if name not in self.fields]
        require(
            not unknown,
            f"data.sources.N.template uses {', '.join(f'{{{name}}}' for name in unknown)}, but data.sources.N.fields "
            f"names {', '.join(self.fields)}.",
        )

    @staticmethod
    def names_in(template: str) -> list[str]:
        """The fields that a part's template uses."""
        return re.findall(r"\{([^{}]+)\}", template)

    @staticmethod
    def fill(template: str, values: Mapping[str, str]) -> str:
        """A part's template with the text of each field instead of its name."""
        return re.sub(r"\{([^{}]+)\}", lambda name: values[name[1]], template)

    @property
    def is_text(self) -> bool:
        """True if its rows are text as it stands, and no task."""
        return self.task is None

    @property
    def parts(self) -> int:
        """Parts that a document has."""
        return len(self.template or self.fields)


def kind_of(name: str) -> str:
    """The kind of a file by its name, also of a compressed one; empty where the name does not say."""
    path = PurePosixPath(name.lower())
    if path.suffix in COMPRESSED:
        path = PurePosixPath(path.stem)
    return SUFFIXES.get(path.suffix, "")


def with_braces(path: str) -> str:
    """The path of parallel files with what differs in braces: `train.{en,zh}`, also of `train.en train.zh`."""
    names = [re.split("([./_-])", name) for name in path.split()]
    if len(names) < 2 or "{" in path:
        return path
    before = _alike(names)
    behind = _alike([name[: before - 1 if before else None : -1] for name in names])
    inside = ["".join(name[before : len(name) - behind]) for name in names]
    first = names[0]
    return f"{''.join(first[:before])}{{{','.join(inside)}}}{''.join(first[len(first) - behind :])}"


def _alike(names: Sequence[Sequence[str]]) -> int:
    """The parts with which all names begin."""
    return len(list(itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*names, strict=False))))


def sides(path: str) -> dict[str, str]:
    """The paths of parallel files by the names of their fields; none where a path does not name several.

    `train.{en,zh}` and `train.en train.zh` are {"en": "train.en", "zh": "train.zh"}.
    """
    found = re.fullmatch(r"([^{}]*)\{([^{}]*)\}([^{}]*)", with_braces(path))
    before, inside, behind = found.groups() if found else ("", "", "")
    names = inside.split(",")
    return {name: before + name + behind for name in names} if len(set(names) - {""}) == len(names) > 1 else {}


def _is_encoding(name: str) -> bool:
    """True if text can be decoded by a codec of that name; Python also has codecs of bytes and of text to text."""
    try:
        return bool("a".encode(name))
    except (LookupError, UnicodeError, ValueError):
        return False
