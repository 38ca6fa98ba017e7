"""A user's wishes for a task and its files, all of which may be left to what the files say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from t5like.config.checks import FLAGS, require_fields
from t5like.config.tasks import Kind


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A task as flags name it; what is empty is found in the files."""

    task: Literal["", Kind] = ""
    """Kind of the task. By default the one that the columns suggest."""
    input: str = ""
    """Column of the text, of the words to tag, of the question, or of the messages."""
    second: str = ""
    """Column of the second text of two."""
    context: str = ""
    """Column of the text that is asked about."""
    target: str = ""
    """Column of the label, number, labels, answers, or text to learn."""
    candidates: tuple[str, ...] = ()
    """Columns of the candidates of a choice, or one with a list of them."""
    labels: tuple[str, ...] = ()
    """All labels, in the order of a head's scores. By default those of the training rows."""
    multi_label: bool = False
    """A text has any number of labels: a list, or labels with commas between."""
    prompt: str = ""
    """The text that a T5 or GPT reads, such as "review: {input} sentiment:"."""
    metric: str = ""
    """Metric by which the task is judged."""
    head: bool = False
    """Learn by a head on a T5's encoder, or on a GPT's last token, instead of writing text."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The form of the files, where they do not show it; fields of a source."""

    columns: tuple[str, ...] = ()
    """Names of all columns of a table without a header line."""
    delimiter: str = ""
    """The character between the columns of a CSV."""
    encoding: str = "utf-8"
    """Encoding of the files by its name in Python, such as gb18030."""
    on_error: Literal["stop", "skip"] = "stop"
    """A row that cannot be read ends the command, or is left out."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
