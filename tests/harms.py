"""Damage: what a disk, a kill, a hand or an enemy may do to a file, a function of its bytes and of random choices."""

import json
import random
from collections.abc import Callable
from typing import Any

TOKENS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"null",
    b"-1",
    b"1e400",
    b"NaN",
    b"true",
    b"\n",
    b"\r\n",
    b"\x00",
    b"\xff",
]
TOKENS += [b"[" * 2000, b"9" * 5000, b"1" + b"0" * 400, b'"\\ud800"', b"\xef\xbb\xbf", b"../../x", b"\xf0\x9f\x98\x80"]
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    2**70,
    10**400,
    1.5,
    "",
    "x",
    "a\0b",
    "/etc/passwd",
    "../x",
    [],
    {},
    [[]],
]
VALUES += [
    [None],
    ["x"],
    {"x": 1},
    {"kind": []},
    {"content": 3},
    "\ud800",
    float("inf"),
    float("nan"),
    "9" * 30,
    [1, "x"],
]


def harmed(content: bytes, chance: random.Random) -> bytes:
    """The bytes after one harm, or a few."""
    for _ in range(1 if chance.random() < 0.7 else 3):
        ways = STRUCTURED if chance.random() < 0.5 else BYTES
        content = chance.choice(ways)(content, chance)
    return content


def _flip(content: bytes, chance: random.Random) -> bytes:
    if not content:
        return b"\x01"
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]


def _cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content) + 1)]


def _span(content: bytes, chance: random.Random) -> tuple[int, int]:
    begin = chance.randrange(len(content) + 1)
    return begin, min(len(content), begin + chance.choice([1, 2, 8, 64, 1000]))


def _without(content: bytes, chance: random.Random) -> bytes:
    begin, end = _span(content, chance)
    return content[:begin] + content[end:]


def _twice(content: bytes, chance: random.Random) -> bytes:
    begin, end = _span(content, chance)
    return content[:end] + content[begin:]


def _zeros(content: bytes, chance: random.Random) -> bytes:
    begin, end = _span(content, chance)
    return content[:begin] + bytes(end - begin) + content[end:]


def _noise(content: bytes, chance: random.Random) -> bytes:
    begin, end = _span(content, chance)
    return content[:begin] + chance.randbytes(end - begin) + content[end:]


def _token(content: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(content) + 1)
    return content[:at] + chance.choice(TOKENS) + content[at:]


def _value(content: bytes, chance: random.Random) -> bytes:
    """Another value in a place of the JSON that a file, or one of its lines, is."""
    lines = content.split(b"\n") if content.count(b"\n{") else [content]
    number = chance.randrange(len(lines))
    try:
        tree = [json.loads(lines[number])]
    except (ValueError, RecursionError):
        return _token(content, chance)
    node: Any = tree
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = chance.choice(keys)
        if isinstance(node[key], dict | list) and node[key] and (node is tree or chance.random() < 0.8):
            node = node[key]
            continue
        break
    if chance.random() < 0.2:
        del node[key]
    elif isinstance(node, dict) and chance.random() < 0.2:
        node[chance.choice(["x", "kind", "../x", ""])] = node.pop(key)
    else:
        node[key] = chance.choice(VALUES)
    lines[number] = json.dumps(tree[0] if tree else None).encode()
    return b"\n".join(lines)


Harm = Callable[[bytes, random.Random], bytes]
BYTES: list[Harm] = [_flip, _flip, _cut, _without, _twice, _zeros, _noise, _token]
STRUCTURED: list[Harm] = [_value]
