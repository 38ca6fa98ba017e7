"""Places of files: local paths, and objects at gs:// and s3://, behind the methods of `pathlib.Path`.

A local path stays a `pathlib.Path`; what buckets need is imported when the first one is named.
"""

import contextlib
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from t5like.errors import UserError

if TYPE_CHECKING:
    from etils import epath

    Path = pathlib.Path
else:
    Path = pathlib.PurePath
    """A `pathlib.Path` or a `BucketPath`, which has its methods but not its class."""

SCHEMES = ("gs://", "s3://")
SECRET = re.compile(r"(?i)sig|auth|.*(token|signature|secret|passw(or)?d|credential)|((api|access)[_-]?)?key")
"""Names of secrets behind the `?` of an address."""


def is_remote(place: "str | pathlib.PurePath") -> bool:
    """True if a path lies in object storage."""
    return "://" in str(place)


def path_of(place: "str | pathlib.PurePath") -> Path:
    """The path of a file or folder, with `~` for the home of local ones.

    Raises:
      UserError: its scheme is not one of `SCHEMES`, or it names no bucket.
    """
    return cast(Path, _bucket_path(str(place))) if is_remote(place) else pathlib.Path(place).expanduser()


def etils_path(place: "str | pathlib.PurePath") -> "epath.Path":
    """`path_of`, whose local paths are of the class of etils too."""
    from etils import epath

    return _bucket_path(str(place)) if is_remote(place) else epath.Path(place).expanduser()


def require_no_secret(place: str, name: str = "An address") -> None:
    """Raises `UserError`, which does not repeat it, if an address has a password, or a key behind its `?`: configs,
    stores, logs and messages show addresses."""
    scheme, found, rest = place.partition("://")
    host, query = re.split(r"[/?#]", rest, maxsplit=1)[0], rest.partition("?")[2]
    user, at, host = host.rpartition("@")
    keys = [key for key in re.findall(r"([^?&=#]+)=", query) if SECRET.fullmatch(key)]
    if found and (keys or (at and (":" in user or scheme.startswith("http")))):
        raise UserError(
            f"{name} at {scheme}://{host} holds {f'a secret ({keys[0]}=...)' if keys else 'a name or password'}, which "
            "would be written into files of runs and stores: give that to its client by the environment or ~/.netrc, "
            "or fetch the file first."
        )


def _bucket_path(place: str) -> "epath.Path":
    require_no_secret(place)
    scheme, _, rest = place.partition("://")
    if f"{scheme}://" not in SCHEMES:
        raise UserError(f"{place} has the scheme {scheme}://, where {' and '.join(SCHEMES)} are possible.")
    if not rest.split("/")[0]:
        raise UserError(f"{place} names no bucket: write {scheme}://BUCKET/FOLDER.")
    from t5like.bucket_path import BucketPath

    return BucketPath(place)


def inside(name: object, file: "str | pathlib.PurePath", folders: bool = False) -> str:
    """A name that a `file` gives to another one beside it, or, with `folders`, somewhere below.

    Raises:
      UserError: it is no name, or leads out of the folder.
    """
    parts = name.split("/") if isinstance(name, str) and folders else [name]
    if not all(
        isinstance(part, str) and part not in ("", ".", "..") and not set("/\\\0") & set(part) for part in parts
    ):
        raise UserError(f"{file} names {name!r}, which is no file of its folder: it is damaged, or not to be trusted.")
    return str(name)


def write_small(path: Path, content: str) -> None:
    """Write a small file whole or not at all."""
    if is_remote(path):  # where an object appears whole
        path.write_text(content, "utf-8")
        return
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(content, "utf-8")
    partial.replace(path)


def size_of(path: Path) -> int:
    """The bytes of a file."""
    status = path.stat()
    return status.length if is_remote(path) else status.st_size  # pyright: ignore[reportAttributeAccessIssue]


def copy_folder(source: Path, target: Path, last: str = "") -> None:
    """Copy a folder's files, and those in folders of it, between disks and buckets; one file's name may come `last`."""
    if not (is_remote(source) or is_remote(target)):
        shutil.copytree(source, target, dirs_exist_ok=True)
        return
    for path in sorted(source.iterdir(), key=lambda path: path.name == last):
        if path.is_dir():
            copy_folder(path, target / path.name)
            continue
        if not is_remote(target):
            target.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as read, (target / path.name).open("wb") as written:
            shutil.copyfileobj(read, written, 2**22)


@contextlib.contextmanager
def local_copy(folder: Path, beside: str = "") -> Iterator[pathlib.Path]:
    """A folder where libraries can map its files: itself, or a copy of a bucket's, with a file `beside` the folder that
    may be there, which is removed again."""
    if not is_remote(folder):
        yield pathlib.Path(folder)
        return
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        copy_folder(folder, pathlib.Path(made, folder.name))
        if beside and (folder.parent / beside).is_file():
            pathlib.Path(made, beside).write_bytes((folder.parent / beside).read_bytes())
        yield pathlib.Path(made, folder.name)


@contextlib.contextmanager
def local_stage(folder: Path, last: str = "") -> Iterator[pathlib.Path]:
    """A folder for libraries that write to disks alone: for a bucket's, one that is copied there at the end."""
    if not is_remote(folder):
        yield pathlib.Path(folder)
        return
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        yield pathlib.Path(made)
        copy_folder(pathlib.Path(made), folder, last)
