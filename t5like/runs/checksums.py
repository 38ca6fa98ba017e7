"""Checksums of a checkpoint's files: a CRC32C (RFC 3720) of each, in the checkpoint itself before it is committed.

`checksums.json` has the bytes and the checksum of every file but those that Orbax writes at the commit, of which
nothing is restored. Checkpoints of earlier versions have no such file, and nothing is known of theirs.
"""

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import google_crc32c

from t5like.errors import UserError
from t5like.json_files import parse
from t5like.processes.distributed import connection, outcome_of, raise_outcome
from t5like.storage import Path

FILE = "checksums.json"
MARK = "checksums"
"""The key in the note of a checkpoint that has them, so that one that has lost them is not taken for an older one."""
AT_COMMIT = ("_CHECKPOINT_METADATA", "commit_success.txt")
BLOCK = 2**20
"""Bytes that are read at once; larger blocks are slower, since they do not stay in the processor's cache."""
THREADS = 8
AGREED_WITHIN = 3600
"""Seconds within which all processes say what they have found."""
_looks = itertools.count()


class Sum(NamedTuple):
    """The length of a file in bytes, and its CRC32C."""

    bytes: int
    crc32c: int


def write(folder: Path) -> None:
    """Write the checksums of all files that are in a folder."""
    names = [name for name in _names(folder) if name not in (FILE, *AT_COMMIT)]
    with ThreadPoolExecutor(THREADS) as threads:
        sums = dict(zip(names, threads.map(lambda name: _sum(folder / name), names), strict=True))
    content = {name: [each.bytes, f"{each.crc32c:08x}"] for name, each in sums.items()}
    (folder / FILE).write_text(json.dumps({"crc32c": content}, indent=1) + "\n", "utf-8")


def find_damage(folder: Path, index: int = 0, count: int = 1) -> str:
    """The first file of a checkpoint that is not as it was written, as part of a sentence; empty if there is none, or
    if the checkpoint has no checksums.

    Args:
      index, count: the share of the files that is read, one of `count` about equal ones.

    Raises:
      UserError: a file is there and cannot be read.
    """
    try:
        sums = _read(folder)
    except (ValueError, TypeError, KeyError, AttributeError):
        return f"{FILE} is damaged"
    largest = sorted(sums, key=lambda name: (-sums[name].bytes, name))[index::count]
    with ThreadPoolExecutor(THREADS) as threads:
        return next(filter(None, threads.map(lambda name: _difference(folder / name, name, sums[name]), largest)), "")


def agreed_damage(folder: Path) -> str:
    """`find_damage` by all processes of a run, each of which reads a share and gets the same.

    Raises:
      UserError: as there.
    """
    if (connected := connection()) is None:
        return find_damage(folder)
    error, found = None, ""
    try:
        found = find_damage(folder, connected.index, connected.count)
    except UserError as raised:
        error = outcome_of(raised)
    key = f"t5like/checksums/{next(_looks)}"
    connected.share(key, [found, error])
    said = connected.collect(key, AGREED_WITHIN).values()
    raise_outcome(next((error for _, error in said if error), None))
    return next((found for found, _ in said if found), "")


def _read(folder: Path) -> dict[str, Sum]:
    try:
        content = parse((folder / FILE).read_bytes())["crc32c"]
    except FileNotFoundError:
        if _is_marked(folder):
            raise ValueError("it is missing") from None
        return {}
    return {name: Sum(int(size), int(crc, 16)) for name, (size, crc) in content.items()}


def _is_marked(folder: Path) -> bool:
    try:
        return MARK in parse((folder / "about" / "metadata").read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _difference(file: Path, name: str, expected: Sum) -> str:
    try:
        found = _sum(file)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return f"{name} is missing"
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}.") from None
    if found.bytes != expected.bytes:
        return f"{name} has {found.bytes:,} bytes where {expected.bytes:,} were written"
    return "" if found == expected else f"{name} has other bytes than were written"


def _sum(file: Path) -> Sum:
    size = crc = 0
    with file.open("rb") as opened:
        while block := opened.read(BLOCK):
            size, crc = size + len(block), google_crc32c.extend(crc, block)
    return Sum(size, crc)


def _names(folder: Path, before: str = "") -> Iterator[str]:
    """Names of all files in a folder, such as `state/d/0a1b`."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from _names(path, f"{before}{path.name}/")
        else:
            yield f"{before}{path.name}"
