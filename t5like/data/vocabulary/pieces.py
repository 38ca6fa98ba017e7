"""Tokenizers behind one Protocol: SentencePiece and bytes here, Hugging Face's in `hugging_face.py`.

Each gives the ids of a text's pieces and says what every piece spells; what surrounds them (named special tokens and
sentinels of a run) is `Vocabulary`'s. Pieces that a file marks as special are never found in the text of a
document: there, "<|endoftext|>" is text like any other.
"""

import codecs
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from t5like.config.vocabulary import ROLES
from t5like.data.vocabulary.offsets import Span, character_of_byte, shared
from t5like.errors import UserError

SPACE = "\u2581"
UNUSED, UNUSED_NAME = "<unused>", re.compile(r"[\[<]unused\d*[\]>]")
SENTINEL = re.compile(r"<extra_id_(\d+)>")
PART = 1000
"""Characters from which a text is cut where its pieces allow it: tokenizers take 50 to 120 bytes of memory a byte,
SentencePiece's BPE n·log n steps, and its unigram adds up scores in float32, which lose their digits in long texts."""


class Control(NamedTuple):
    """Ids of the control pieces; `pad` is None where a tokenizer has none."""

    pad: int | None
    eos: int
    unk: int
    start: int


@runtime_checkable
class Pieces(Protocol):
    """A tokenizer: text to the ids of its pieces and back."""

    size: int
    """Rows, the special ones of the file included."""
    control: Control
    special: dict[str, int]
    """Special pieces of the file by name, <extra_id_N> among them."""
    file: str
    """Name of the file that `serialized` is saved as; empty where there is nothing to save."""
    serialized: bytes
    continuation: str
    """Prefix of pieces within a word: "##" in WordPiece, which has no pieces for spaces."""
    strips_after: bool
    """True if spaces after the name of a special token in a prompt count for nothing. In byte-level BPE they begin the
    next piece."""
    strips: Mapping[str, tuple[bool, bool]]
    """Special pieces of which the file itself says whether spaces before and after them count for nothing."""

    finds: Collection[str]
    """Special pieces of the file whose names `encode_prompt` finds in a text."""
    roles: Mapping[str, str]
    """Roles that the file, or a config beside it, gives to pieces by their names."""

    def encode(self, text: str) -> list[int]: ...

    def encode_prompt(self, text: str) -> list[int]:
        """As `encode`, but `finds` are these pieces, with the treatment of the spaces around them that the file has."""
        ...

    def encode_with_spans(self, text: str, prompt: bool) -> tuple[list[int], list[Span]]:
        """The ids of `encode_prompt` or of `encode`, and the characters of the text that each stands for."""
        ...

    def encode_documents(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The int32 ids of each text and EOS, in one thread."""
        ...

    def decode(self, ids: Sequence[int]) -> str: ...

    def settled(self, ids: Sequence[int]) -> bool:
        """True if no ids that follow can change the text of these, which begin a text or follow such ones: if they do
        not end within a character."""
        ...

    def decode_each(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """`decode` of each of many rows, in one call of the library."""
        ...

    def name(self, number: int) -> str: ...

    def spelt(self, number: int) -> bytes:
        """The UTF-8 bytes of text that a piece stands for, perhaps part of a character; none for special pieces."""
        ...


def roles_of(called: Mapping[str, str], names: Collection[str]) -> Mapping[str, str]:
    """The roles of `called`, which are names of pieces, that are given to pieces that exist."""
    return {role: called[role] for role in ROLES if called.get(role) in names}


CUT = re.compile(rf"\n|(?<=[^\s{SPACE}]) (?=[^\s{SPACE}])")

USER_DEFINED_SENTINEL = re.compile(rb"(<extra_id_\d+>(?:\x15.{4})?\x18)\x04", re.DOTALL)
"""A sentinel in a serialized model: its name, its score (field 2) and its type (field 3), user-defined (4). The classes
that sentencepiece has for this need another protobuf than TensorFlow."""


class SentencePiece:
    """A SentencePiece model (Kudo and Richardson 2018) with the control pieces that it names itself."""

    file, continuation, strips_after = "spiece.model", "", True
    strips: Mapping[str, tuple[bool, bool]] = MappingProxyType({})
    finds: Collection[str] = ()

    def __init__(self, serialized: bytes, control: Control | None = None, called: Mapping[str, str] | None = None):
        """`control` overrides the ids of the control pieces that the model names itself; `called` names the
        pieces of roles."""
        import sentencepiece

        self.serialized = serialized
        self._model = sentencepiece.SentencePieceProcessor()
        self._model.load_from_serialized_proto(serialized)
        self.size = self._model.get_piece_size()
        self._names: list[str] = self._model.id_to_piece(list(range(self.size)))
        pad, eos, unk, bos = (getattr(self._model, f"{name}_id")() for name in ("pad", "eos", "unk", "bos"))
        if eos < 0:
            raise UserError("The SentencePiece model has no end-of-text piece (eos_id): train it with one.")
        start = next(number for number in (bos, pad, eos) if number >= 0)
        self.own_control = Control(pad if pad >= 0 else None, eos, unk, start)
        self.control = control or self.own_control
        self.special = self._find_special()
        self.roles = roles_of(called or {}, self._names)
        self._separable, self._prefix = self._is_separable(), len(self._model.encode("\n")) - 1

    def _find_special(self) -> dict[str, int]:
        """Control pieces beyond pad, bos, eos and unk; sentinels that the model finds in texts, as mT5's does, become
        such."""
        if any(SENTINEL.fullmatch(name.lstrip(SPACE)) for name in self._names):
            self._model.load_from_serialized_proto(USER_DEFINED_SENTINEL.sub(rb"\1" + b"\x03", self.serialized))
        control = (number for number in range(self.size) if self._model.is_control(number))
        own = {*self.control, self._model.bos_id()}
        return {self._names[number].lstrip(SPACE): number for number in control if number not in own}

    def _is_separable(self) -> bool:
        """True if a text is the sum of the parts that `CUT` leaves: nothing is normalised, a space stands before each
        text, and no piece holds a space after other characters or a line feed beside others."""
        encode, odd = self._model.encode, "a  \u3000Ａ\u00a0 "
        crossing = re.compile(rf"[^{SPACE}]{SPACE}|.\n|\n.", re.DOTALL)
        return (
            self._model.decode(encode(odd)) == odd
            and encode("a a") == 2 * encode("a")
            and "\n" in self._names
            and encode("\n")[-1] == self._names.index("\n")
            and not any(map(crossing.search, self._names))
        )

    def encode(self, text: str) -> list[int]:
        return self.encode_documents([text])[0][:-1].tolist()

    def encode_prompt(self, text: str) -> list[int]:
        return self.encode(text)

    def encode_documents(self, texts: Sequence[str]) -> list[np.ndarray]:
        long = [number for number, text in enumerate(texts) if len(text) > PART] if self._separable else []
        whole = list(texts)
        for number in long:
            whole[number] = ""
        rows: list[np.ndarray] = self._model.encode_as_numpy(whole, num_threads=1, add_eos=True)
        for number in long:
            rows[number] = self._encode_in_parts(texts[number])
        if self.control.eos != self.own_control.eos:
            return [np.array([*row[:-1], self.control.eos], np.int32) for row in rows]
        return rows

    def _encode_in_parts(self, text: str) -> np.ndarray:
        """The pieces of a text and EOS. SentencePiece puts a space before each part: it stands for the one at which
        the text was cut, but before a line feed there was none."""
        parts = [part for _, part in parts_of(text, CUT)]
        first, *rows = self._model.encode_as_numpy(parts, num_threads=1)
        rest = (row[self._prefix :] if part[0] == "\n" else row for part, row in zip(parts[1:], rows, strict=True))
        return np.concatenate([first, *rest, np.array([self.control.eos], np.int32)])

    def encode_with_spans(self, text: str, prompt: bool) -> tuple[list[int], list[Span]]:
        ids: list[int] = []
        spans: list[Span] = []
        parts = parts_of(text, CUT) if self._separable else [(0, text)]
        for begin, part in parts:
            numbers, places = self._aligned(part)
            first = self._prefix if begin and part[0] == "\n" else 0
            if begin and not first and places[0] == (0, 0):
                places[0] = (-1, 0)  # the space at which the text was cut
            ids += numbers[first:]
            spans += [(begin + start, begin + stop) for start, stop in places[first:]]
        return ids, spans

    def _aligned(self, text: str) -> tuple[list[int], list[Span]]:
        """The ids of a text and the characters of each. SentencePiece knows the bytes that it normalised, and of the
        pieces that one character became gives these to the last."""
        pieces = self._model.encode(text, return_type="proto").pieces
        characters = character_of_byte(text).tolist()
        spans = [(characters[piece.begin], characters[piece.end]) for piece in pieces]
        return [piece.id for piece in pieces], shared(
            spans, [not n and piece.piece == SPACE for n, piece in enumerate(pieces)]
        )

    def decode(self, ids: Sequence[int]) -> str:
        return self._model.decode(list(ids))

    def settled(self, ids: Sequence[int]) -> bool:
        return not self._model.is_byte(ids[-1]) or is_whole(b"".join(map(self.spelt, ids)))

    def decode_each(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return self._model.decode([list(ids) for ids in rows]) if rows else []

    def name(self, number: int) -> str:
        return self._names[number]

    def spelt(self, number: int) -> bytes:
        model, name = self._model, self._names[number]
        unused = model.is_unused(number) or UNUSED_NAME.fullmatch(name)
        if model.is_control(number) or model.is_unknown(number) or unused:
            return b""
        return bytes.fromhex(name[3:5]) if model.is_byte(number) else name.replace(SPACE, " ").encode()


class Bytes:
    """UTF-8 bytes shifted by three, after pad, eos and unk, as in ByT5 (Xue et al. 2022)."""

    size, control, file, serialized = 259, Control(0, 1, 2, 0), "", b"bytes"
    continuation, strips_after = "", True
    strips: Mapping[str, tuple[bool, bool]] = MappingProxyType({})
    finds: Collection[str] = ()
    roles: Mapping[str, str] = MappingProxyType({})

    def __init__(self) -> None:
        self.special: dict[str, int] = {}

    def encode(self, text: str) -> list[int]:
        return [byte + 3 for byte in text.encode("utf-8")]

    def encode_prompt(self, text: str) -> list[int]:
        return self.encode(text)

    def encode_with_spans(self, text: str, prompt: bool) -> tuple[list[int], list[Span]]:
        characters = character_of_byte(text)[:-1].tolist()
        return self.encode(text), [(number, number + 1) for number in characters]

    def encode_documents(self, texts: Sequence[str]) -> list[np.ndarray]:
        rows = [np.frombuffer(text.encode("utf-8") + b"\0", np.uint8).astype(np.int32) + 3 for text in texts]
        for row in rows:
            row[-1] = self.control.eos
        return rows

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(number - 3 for number in ids if number >= 3).decode("utf-8", errors="replace")

    def settled(self, ids: Sequence[int]) -> bool:
        return is_whole(b"".join(map(self.spelt, ids)))

    def decode_each(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return [self.decode(ids) for ids in rows]

    def name(self, number: int) -> str:
        return ("<pad>", "</s>", "<unk>")[number] if number < 3 else f"<0x{number - 3:02X}>"

    def spelt(self, number: int) -> bytes:
        return bytes([number - 3]) if number >= 3 else b""


def is_whole(text: bytes) -> bool:
    """True if bytes do not end within a character of UTF-8; what is not UTF-8 in itself may end anywhere."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(text)
    return not decoder.getstate()[0]


def parts_of(text: str, cut: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Cut a text at the first match after every `PART` characters; what is matched goes, but for a line feed. Each part
    comes with where it begins."""
    begin = 0
    while len(text) - begin > PART and (found := cut.search(text, begin + PART)):
        yield begin, text[begin : found.start()]
        begin = found.start() if found[0] == "\n" else found.end()
    yield begin, text[begin:]
