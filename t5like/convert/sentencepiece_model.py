"""Fields of a serialized SentencePiece model that its library does not tell: kinds, normaliser, algorithm.

The classes that sentencepiece generates from its schema need another protobuf than TensorFlow has, so the few fields
are read by their numbers in sentencepiece_model.proto (github.com/google/sentencepiece).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

KINDS = {1: "normal", 2: "unknown", 3: "control", 4: "user", 5: "unused", 6: "byte"}
ALGORITHMS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}


@dataclass
class Description:
    """The parts of a model that another library needs to do the same; the defaults are the schema's."""

    scores: list[float] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    """Kind of each piece, one of `KINDS`."""
    algorithm: str = "unigram"
    byte_fallback: bool = False
    space_after: bool = False
    """True if the space that is put beside each text stands behind it."""
    charsmap: bytes = b""
    """The normaliser's compiled table; empty where it changes nothing."""
    adds_space: bool = True
    """True if a space is put beside each text."""
    removes_spaces: bool = True
    """True if spaces at the ends go and runs of them become one."""
    escapes_spaces: bool = True
    """True if a space is written U+2581 in pieces."""


def describe(serialized: bytes) -> Description:
    """Reads the fields of a model."""
    found = Description()
    for number, part in _fields(serialized):
        numbers, contents = _split(part)
        if number == 1:  # pieces: 2 is the score, 3 the kind
            found.scores.append(struct.unpack("<f", contents.get(2, bytes(4)))[0])
            found.kinds.append(KINDS[numbers.get(3, 1)])
        elif number == 2:  # trainer_spec: 3 is the algorithm, 24 treat_whitespace_as_suffix, 35 byte_fallback
            found.algorithm = ALGORITHMS[numbers.get(3, 1)]
            found.byte_fallback, found.space_after = bool(numbers.get(35)), bool(numbers.get(24))
        elif number == 3:  # normalizer_spec
            found.charsmap = contents.get(2, b"")
            found.adds_space, found.removes_spaces = bool(numbers.get(3, 1)), bool(numbers.get(4, 1))
            found.escapes_spaces = bool(numbers.get(5, 1))
    return found


def _split(part: int | bytes) -> tuple[dict[int, int], dict[int, bytes]]:
    """The fields of an inner message that are numbers, and those that are bytes."""
    fields = dict(_fields(part)) if isinstance(part, bytes) else {}
    numbers = {number: value for number, value in fields.items() if isinstance(value, int)}
    return numbers, {number: value for number, value in fields.items() if isinstance(value, bytes)}


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protocol buffer message.

    A field begins with the varint `number << 3 | type`. Type 0 is a varint, 1 is 8 bytes, 5 is 4 bytes, and 2 is a
    length, a varint, with so many bytes: 08 96 01 12 02 68 69 is (1, 150), (2, b"hi").
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(key & 7)
        if size is None:
            size, at = _varint(message, at)
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A whole number of 7 bits a byte, the lowest first, and the position behind it: 96 01 is 0x16 | 1 << 7 = 150."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
