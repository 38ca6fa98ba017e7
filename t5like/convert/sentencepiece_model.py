"""What a serialized SentencePiece model says of itself that its library does not tell: kinds, normaliser, algorithm.

The classes that sentencepiece generates from its schema need another protobuf than TensorFlow has, so the few fields
are read by their numbers in sentencepiece_model.proto (github.com/google/sentencepiece).
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

KINDS = {1: "normal", 2: "unknown", 3: "control", 4: "user", 5: "unused", 6: "byte"}
BPE = 2


class Description(NamedTuple):
    """The parts of a model that another library needs to do the same."""

    scores: list[float]
    kinds: list[str]
    """Kind of each piece, one of `KINDS`."""
    bpe: bool
    charsmap: bytes
    """The normaliser's compiled table; empty where it changes nothing."""
    adds_space: bool
    """Whether a space is put before each text."""
    removes_spaces: bool
    """Whether spaces at the ends go and runs of them become one."""


def describe(serialized: bytes) -> Description:
    """Reads the fields of a model."""
    scores, kinds, algorithm = [], [], 1
    charsmap, adds_space, removes_spaces = b"", True, True
    for field, value in _fields(serialized):
        match field:
            case 1:
                score, kind = 0.0, 1
                for inner, content in _fields(_bytes(value)):
                    score = struct.unpack("<f", _bytes(content))[0] if inner == 2 else score
                    kind = int(content) if inner == 3 and isinstance(content, int) else kind
                scores.append(score)
                kinds.append(KINDS[kind])
            case 2:
                algorithm = next((c for inner, c in _fields(_bytes(value)) if inner == 3), algorithm)
            case 3:
                for inner, content in _fields(_bytes(value)):
                    charsmap = _bytes(content) if inner == 2 else charsmap
                    adds_space = bool(content) if inner == 3 else adds_space
                    removes_spaces = bool(content) if inner == 4 else removes_spaces
    return Description(scores, kinds, algorithm == BPE, charsmap, adds_space, removes_spaces)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field of a protocol buffer message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        match key & 7:
            case 0:
                value, at = _varint(message, at)
                yield key >> 3, value
            case 1 | 5:
                size = 8 if key & 7 == 1 else 4
                yield key >> 3, message[at : at + size]
                at += size
            case _:
                size, at = _varint(message, at)
                yield key >> 3, message[at : at + size]
                at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _bytes(value: int | bytes) -> bytes:
    return value if isinstance(value, bytes) else b""
