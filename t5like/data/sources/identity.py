"""The identity of a store's inputs: for each file its name, its size, and a hash of its content.

Names are relative to the part of the pattern that is fixed, and identity goes by content, so sources may be moved. A
file of up to `WHOLE` bytes is hashed whole; of a larger one `SAMPLES` blocks, the first and the last among them, evenly
spaced: half a gigabyte costs milliseconds. A change of the same length between the blocks is not seen.

A data set of TensorFlow Datasets is known by its version and its files, Python's library by its modules.
"""

import concurrent.futures
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from t5like.config import Source
from t5like.config.sources import sides, with_braces
from t5like.data.sources.folders import files_of, split_of
from t5like.data.sources.library import library_files, library_folder
from t5like.data.sources.matching import opened, reached
from t5like.data.sources.tensorflow_records import tfds_files
from t5like.errors import UserError
from t5like.storage import etils_path

SAMPLES, BLOCK = 8, 2**14
"""Blocks of a large file that are hashed, and the bytes of each."""
WHOLE = SAMPLES * BLOCK
SAMPLED = "sample:"
HASHES = (
    f"SHA-256 of files of up to {WHOLE:,} bytes; behind {SAMPLED!r}, of larger ones, that of {SAMPLES} blocks of "
    f"{BLOCK:,} bytes, evenly spaced from the first byte to the last"
)
"""What the hashes of identities are of, for people."""
THREADS = 16
"""Files that are read at once: in a bucket each read waits."""


class Key(NamedTuple):
    """A file's place among a store's inputs."""

    source: int
    """Number in `data.sources`."""
    split: str
    """"train" or "validation" where the source has files of its own for each, else empty."""
    name: str
    """Relative to the fixed part of the pattern."""


class Identity(NamedTuple):
    """The content of a file."""

    size: int
    hash: str
    """SHA-256 of the whole content or, behind `sample:`, of the blocks."""


Inputs = Mapping[Key, Identity]


class Differences(NamedTuple):
    """The inputs in which two stores differ."""

    added: list[Key]
    changed: list[Key]
    removed: list[Key]
    renamed: dict[Key, Key]
    """Old -> new place of files that have another name and the same content, which is no difference of rows."""

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def __str__(self) -> str:
        """The files by what happened to them, as part of a sentence."""
        kinds = {"added": self.added, "changed": self.changed, "removed": self.removed}
        return "; ".join(f"{word} {named(keys)}" for word, keys in kinds.items() if keys)


SHOWN = 5
"""Files that a sentence names."""


def named(keys: Iterable[Key]) -> str:
    """The names of files as part of a sentence, the first of many."""
    names = [key.name for key in keys]
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def root_of(source: Source, split: Literal["train", "validation"]) -> str:
    """The fixed part of a pattern with the slash behind it: `corpus/` of `corpus/**/*.txt` and of `corpus/a.txt`. Names
    of parts that are no files, of tfds and Python's library, are relative already."""
    if source.kind in ("tfds", "python_library"):
        return ""
    pattern = source.path if split == "train" else source.validation
    pattern = with_braces(pattern) if source.kind == "parallel" else pattern
    pattern = pattern if "://" in pattern else str(etils_path(pattern))
    fixed = re.split(r"[*?\[{]" if source.kind == "parallel" else r"[*?\[]", pattern, maxsplit=1)[0]
    return fixed[: fixed.rfind("/") + 1]


def identify(sources: tuple[Source, ...]) -> dict[Key, Identity]:
    """The inputs of a store; of a source none of whose files is there, none.

    Raises:
      UserError: a file cannot be read.
    """
    found: dict[Key, list[tuple[str, int]]] = {}
    for number, source in enumerate(sources):
        splits: tuple[Literal["train", "validation"], ...] = ("train", "validation")
        for split in splits if source.validation else splits[:1]:
            place = split if source.validation else ""
            found |= {Key(number, place, name): files for name, files in _files(source, split)}
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        hashes = pool.map(_identity, [file for files in found.values() for file in files])
        return {key: _joined([(path, next(hashes)) for path, _ in files]) for key, files in found.items()}


def identify_file(path: str) -> Identity:
    """The identity of one file.

    Raises:
      UserError: it cannot be read.
    """
    return _identity((path, etils_path(path).stat().length))


def differences(before: Inputs, now: Inputs) -> Differences:
    """The files that were added, changed and removed; of the files with one content some may have got new names."""
    gone: dict[tuple[int, str, Identity], list[Key]] = {}
    for key in before:
        if key not in now:
            gone.setdefault((key.source, key.split, before[key]), []).append(key)
    added, renamed = [], {}
    for key in now:
        if key not in before:
            if alike := gone.get((key.source, key.split, now[key])):
                renamed[alike.pop(0)] = key
            else:
                added.append(key)
    changed = [key for key in now if key in before and before[key] != now[key]]
    return Differences(added, changed, [key for keys in gone.values() for key in keys], renamed)


def _files(source: Source, split: Literal["train", "validation"]) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """The name of each input and the files that it consists of, with their sizes."""
    try:
        if source.kind == "tfds":
            name = split_of(source, split)
            yield name, tfds_files(source, name)
        elif source.kind == "python_library":
            yield from ((name, [(str(library_folder() / name), size)]) for name, size in library_files())
        else:
            root = root_of(source, split)
            for path, size in files_of(source, split):
                together = sides(path).values() if source.kind == "parallel" else ()
                files = [(each, etils_path(each).stat().length) for each in together]
                yield path.removeprefix(root), files or [(path, size)]
    except UserError:
        return  # the sources of a finished store need not be at hand


def _identity(file: tuple[str, int]) -> Identity:
    """The size and the hash of a file."""
    path, size = file
    digest = hashlib.sha256()
    try:
        with reached(path), opened(path) as source:
            if size <= WHOLE:
                digest.update(source.read())
                return Identity(size, digest.hexdigest())
            for number in range(SAMPLES):
                source.seek((size - BLOCK) * number // (SAMPLES - 1))
                digest.update(source.read(BLOCK))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    return Identity(size, f"{SAMPLED}{digest.hexdigest()}")


def _joined(named: list[tuple[str, Identity]]) -> Identity:
    """The identity of an input that consists of one file, or of several with their names."""
    if len(named) == 1:
        return named[0][1]
    content = repr([(PurePosixPath(path).name, *identity) for path, identity in named])
    sampled = SAMPLED if any(identity.hash.startswith(SAMPLED) for _, identity in named) else ""
    total = sum(identity.size for _, identity in named)
    return Identity(total, f"{sampled}{hashlib.sha256(content.encode()).hexdigest()}")
