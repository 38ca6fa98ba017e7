"""Forms of the JSON files of vocabularies, ours and other ones, as far as they count here."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from t5like.json_files import Count, Digest

Vocab = dict[str, Annotated[int, range(2**31)]]
"""`vocab.json`."""


class Control(TypedDict):
    """`pieces.Control`."""

    pad: Count | None
    eos: Count
    unk: Count
    start: Count


class Frame(TypedDict):
    """`frame.Frame`."""

    before: list[Count]
    behind: list[Count]


class Described(TypedDict):
    """Our `vocabulary.json`."""

    kind: Literal["sentencepiece", "tokenizers", "bytes"]
    extra: list[str]
    sentinels: Annotated[int, range(2**16)]
    control: NotRequired[Control]
    roles: NotRequired[dict[str, str]]
    frame: NotRequired[Frame | None]
    sha256: Digest


class Beside(TypedDict, total=False):
    """The part of a vocabulary.json that belongs to the pieces beside it."""

    control: Control
    roles: dict[str, str]


class Settings(TypedDict, total=False):
    """tokenizer_config.json."""

    do_lower_case: bool | None
    added_tokens_decoder: dict[str, Any] | None
