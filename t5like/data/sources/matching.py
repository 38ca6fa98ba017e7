"""Files of a source: which ones a path or glob names, each once, on local disks and in buckets."""

import contextlib
import glob
import os
import re
from collections.abc import Iterator
from typing import Protocol, cast, runtime_checkable

from etils import epath

from t5like.errors import UserError
from t5like.storage import SCHEMES, etils_path, is_remote


@runtime_checkable
class Readable(Protocol):
    """An opened file, local or in a bucket."""

    def read(self, size: int = -1, /) -> bytes: ...

    def seek(self, offset: int, /) -> int: ...


def matching_files(pattern: str, setting: str = "path") -> list[tuple[str, int]]:
    """The files that a path or glob names, sorted, with their sizes in bytes; one with several names counts once.

    Raises:
      UserError: there is none, or they cannot be reached; `setting` is the field of the source that the pattern is of.
    """
    with reached(pattern):
        if by_fsspec(pattern):
            files, folder = _elsewhere(pattern), False
        else:
            path = etils_path(pattern)
            if path.is_file():
                paths = [path]
            elif "://" in pattern:
                root, *rest = re.split(r"/(?=[^/]*[*?\[])", pattern, maxsplit=1)
                paths = etils_path(root).glob(rest[0]) if rest else []
            else:
                paths = map(epath.Path, _once(_expanded(str(path))))
            files = sorted({(str(path), path.stat().length) for path in paths if path.is_file()})
            folder = not files and path.is_dir()
    if folder:
        raise UserError(f"{pattern!r} is a folder: give data.sources.N.{setting} a glob such as '{pattern}/**/*.txt'.")
    if not files:
        raise UserError(
            f"No file matches {pattern!r}: give data.sources.N.{setting} an existing file or a glob that matches."
        )
    return files


def by_fsspec(name: str) -> bool:
    """True if a file is opened by fsspec: all remote ones but those of `storage.SCHEMES`."""
    return is_remote(name) and not name.startswith(SCHEMES)


@contextlib.contextmanager
def opened(name: str) -> Iterator[Readable]:
    """Open a file for its bytes as they lie there."""
    if by_fsspec(name):
        import fsspec

        system, path = fsspec.url_to_fs(name)
        file = system.open(path, "rb")
    else:
        file = etils_path(name).open("rb")
    with file as entered:
        yield cast(Readable, entered)


def _elsewhere(pattern: str) -> list[tuple[str, int]]:
    """The files that a path or glob names at hf://, https:// and what else fsspec reads, with their sizes."""
    import fsspec

    system, path = fsspec.url_to_fs(pattern)
    names = sorted(system.glob(path)) if set("*?[") & set(path) else [path]
    found = [(system.unstrip_protocol(name), system.info(name)) for name in names]
    return [(name, info["size"] or 0) for name, info in found if info["type"] == "file"]


@contextlib.contextmanager
def reached(name: str) -> Iterator[None]:
    """A sentence for a remote file that cannot be reached, whatever library says so; local files are not concerned."""
    if "://" not in name:
        yield
        return
    try:
        yield
    except UserError:
        raise
    except ImportError as error:  # of fsspec, which needs a package for that scheme
        raise UserError(f"{name} cannot be read without another package: {str(error).rstrip('.')}.") from None
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{name} cannot be reached: {lines[0].rstrip('.')}.") from None


def _expanded(pattern: str) -> Iterator[str]:
    """The paths that match a glob, as `glob.glob` finds them, but with each folder behind `**` once.

    A folder that a link leads to is entered, so a link to a folder above would otherwise be entered for ever.
    """
    head, *tail = re.split(r"(?:^|(?<=/))\*\*(?:/|$)", pattern, maxsplit=1)
    if not tail:
        yield from glob.glob(pattern)
        return
    rest = re.sub(r"^(\*\*(/|$))+", "", tail[0]) or "*"
    for root in glob.glob(head) if head else [""]:
        for folder in _folders(root):
            yield from _expanded(glob.escape(_within(folder, "")) + rest)


def _folders(root: str) -> Iterator[str]:
    """A folder and all within it that are not hidden, those of the fewest names first, each real one once."""
    seen, waiting = {os.path.realpath(root)}, [root]
    while waiting:
        yield (folder := waiting.pop(0))
        with contextlib.suppress(OSError):
            for entry in sorted(os.scandir(folder or "."), key=lambda entry: entry.name):
                path = _within(folder, entry.name)
                if entry.is_dir() and not entry.name.startswith(".") and (real := os.path.realpath(path)) not in seen:
                    seen.add(real)
                    waiting.append(path)


def _within(folder: str, name: str) -> str:
    """A path in a folder, which is empty for the current one, as globs write it."""
    return f"{folder}{'' if not folder or folder.endswith('/') else '/'}{name}"


def _once(paths: Iterator[str]) -> list[str]:
    """One path for each real file: the shortest, and of these the first."""
    found: dict[str, str] = {}
    for path in sorted(set(paths), key=lambda path: (len(path), path)):
        found.setdefault(os.path.realpath(path), path)
    return list(found.values())
