"""Sources of documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from t5like.config.checks import require, require_fields, require_positive
from t5like.config.marks import applies_to

FILES = ("text", "jsonl", "parquet", "tfrecord")
"""Kinds that are read from files at a path."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source of documents. A document has one text, or several parts such as a question and its answer."""

    kind: Literal["python_library", "text", "jsonl", "parquet", "tfrecord", "tfds"] = "python_library"
    """Python's own modules and their English prose; text files; JSON lines; Parquet; TFRecord of tf.train.Example;
    a TensorFlow Datasets builder. Text and JSON lines may be .gz, .xz or .zst, TFRecord .gz."""
    path: str = ""
    """Files of the source, a glob such as `corpus/**/*.txt.gz`; for tfds its data_dir (empty: TFDS's own default)."""
    dataset: Annotated[str, applies_to("kind", "tfds")] = ""
    """`name`, `name/config` or `name/config:version`."""
    split: Annotated[str, applies_to("kind", "tfds")] = "train"
    """Split of the data set that is read."""
    validation: str = ""
    """Documents of the validation split where the source has its own: files like `path`, for tfds a split. Without it,
    a hash of each document decides (`data.held_out`)."""
    fields: tuple[str, ...] = ("text",)
    """Names of the fields (columns, features) that are read; a dot enters a field within a field, `translation.en`,
    or a list by a number, `answers.text.0`."""
    template: tuple[str, ...] = ()
    """The parts of a document, with {field} for a field: ("translate English to Chinese: {en}", "{zh}"). Without it,
    each field is a part."""
    document: Annotated[Literal["file", "line"], applies_to("kind", "text")] = "file"
    """A document is a whole file, or each line of one. `data.documents` then says whether an example is a document."""
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
        require(
            self.kind != "python_library" or not (self.path or self.validation),
            f"data.sources.N.path={self.path or self.validation!r} is for other sources: set data.sources.N.kind to "
            "'text' or 'jsonl'.",
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
    def parts(self) -> int:
        """Parts that a document has."""
        return len(self.template or self.fields)
