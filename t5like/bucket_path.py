"""Paths at gs:// and s3:// with the methods of `pathlib.Path`, which Orbax and JAX know since they are etils' paths.

A bucket has objects and no folders: a folder is there while an object has its name before a slash, and making one does
nothing. An object appears whole when the block that writes it ends, and never if that fails.
"""

import contextlib
import errno
import fnmatch
import io
import posixpath
import re
from collections.abc import Iterator
from typing import IO, Any, cast

import obstore
import obstore.exceptions
from etils import epath
from etils.epath import gpath, stat_utils

from t5like.buckets import errors, head_of, located

BLOCK = 2**22
"""Bytes that are read at once."""
Version = dict[str, str]
"""The version of an object, by the names that its bucket gives."""


class _Buckets:
    """Files of buckets by their full names, such as gs://bucket/folder/file, by the methods of etils' backends."""

    @contextlib.contextmanager
    def open(self, path: str, mode: str) -> Iterator[IO[Any]]:
        if "r" in mode:
            file = io.BufferedReader(_Object(path), BLOCK)
            yield file if "b" in mode else io.TextIOWrapper(file, "utf-8")
            return
        if "a" in mode:
            raise io.UnsupportedOperation(f"{path}: objects cannot grow")
        with errors(path):
            writer = obstore.open_writer(*located(path))
        yield cast(IO[Any], _Writer(writer, path, None if "b" in mode else "utf-8"))
        with errors(path):  # not after an exception, so that no part of an object is taken for it
            writer.close()

    def exists(self, path: str) -> bool:
        return head_of(path) is not None or self.isdir(path)

    def isdir(self, path: str) -> bool:
        store, name = located(path)
        with errors(path):
            return any(len(some) for some in store.list(name or None, chunk_size=1))

    def listdir(self, path: str) -> list[str]:
        return [posixpath.basename(name) for name in self._entries(path)]

    def glob(self, path: str) -> list[str]:
        scheme, _, rest = path.partition("://")
        bucket, *parts = rest.split("/")
        found = [f"{scheme}://{bucket}"]
        for number, part in enumerate(parts, 1):
            if not re.search(r"[*?\[]", part):
                found = [f"{folder}/{part}" for folder in found]
                found = [name for name in found if number < len(parts) or self.exists(name)]
            else:
                names = (name for folder in found for name in self._entries(folder))
                found = [name for name in names if fnmatch.fnmatchcase(posixpath.basename(name), part)]
        return sorted(found)

    def makedirs(self, path: str, *, exist_ok: bool = False, mode: int | None = None) -> None:
        self.mkdir(path, exist_ok=exist_ok)

    def mkdir(self, path: str, *, exist_ok: bool = False, mode: int | None = None) -> None:
        if not exist_ok and self.exists(path):
            raise FileExistsError(errno.EEXIST, "is there already", path)

    def rmtree(self, path: str) -> None:
        store, name = located(path)
        with errors(path):
            objects = [each["path"] for some in store.list(name or None) for each in some]
            if not objects and head_of(path) is None:
                raise FileNotFoundError(errno.ENOENT, "is not there", path)
            store.delete(objects or [name])

    def remove(self, path: str) -> None:
        store, name = located(path)
        if head_of(path) is None:
            raise FileNotFoundError(errno.ENOENT, "is not there", path)
        with errors(path):
            store.delete(name)

    def rename(self, path: str, dst: str) -> None:
        self.replace(path, dst)

    def replace(self, path: str, dst: str) -> None:
        store, name = located(path)
        other, new = located(dst)
        if store is not other:
            raise OSError(errno.EXDEV, "is of another bucket", dst)
        with errors(path):
            inside = [each["path"] for some in store.list(name) for each in some]
            for each in inside or [name]:
                store.copy(each, new + each.removeprefix(name))
            store.delete(inside or [name])

    def copy(self, path: str, dst: str, overwrite: bool) -> None:
        if not overwrite and self.exists(dst):
            raise FileExistsError(errno.EEXIST, "is there already", dst)
        store, name = located(path)
        with errors(path):
            store.copy(name, located(dst)[1])

    def stat(self, path: str) -> stat_utils.StatResult:
        head = head_of(path)
        if head is None and not self.isdir(path):
            raise FileNotFoundError(errno.ENOENT, "is not there", path)
        size, time = (head["size"], int(head["last_modified"].timestamp())) if head else (0, 0)
        return stat_utils.StatResult(head is None, size, time, None, None, None)

    def _entries(self, path: str) -> list[str]:
        folders, files = self._listed(path)
        return sorted([*folders, *files])

    def _listed(self, path: str) -> tuple[list[str], list[str]]:
        """The folders and the files of a folder, by their full names."""
        store, name = located(path)
        root = re.match(r"\w+://[^/]+", path)
        assert root is not None
        with errors(path):
            found = store.list_with_delimiter(name or None)
        files = [f"{root[0]}/{each['path']}" for each in found["objects"] if each["path"] != name]
        return [f"{root[0]}/{each}" for each in found["common_prefixes"]], files


@epath.register_path_cls(("gs://", "s3://"))  # `storage.SCHEMES`
class BucketPath(gpath.PosixGPath):
    """A path at gs:// or s3://."""

    _backend = _Buckets()  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def resolve(self, strict: bool = False) -> "BucketPath":
        return self

    def read_bytes(self) -> bytes:
        store, name = located(str(self))
        with errors(str(self)):
            return bytes(store.get(name).bytes())

    def read_text(self, encoding: str | None = None) -> str:
        return self.read_bytes().decode("utf-8")

    def write_new(self, content: bytes) -> bool:
        """Write an object unless there is one of that name, which no other process can do at the same time; True if
        it is now there with this content. So a request that was repeated although its first try arrived is no failure.
        """
        store, name = located(str(self))
        with errors(str(self)):
            try:
                store.put(name, content, mode="create", use_multipart=False)
            except obstore.exceptions.AlreadyExistsError:
                return self.read_bytes() == content
        return True

    def read_version(self) -> tuple[bytes, Version] | None:
        """The content of an object and its version; None where there is none."""
        store, name = located(str(self))
        try:
            with errors(str(self)):
                found = store.get(name)
                return bytes(found.bytes()), {k: v for k in ("e_tag", "version") if (v := found.meta[k]) is not None}
        except FileNotFoundError:
            return None

    def write_over(self, content: bytes, version: Version) -> bool:
        """Write an object if it still is of a version; True if it is now there with this content."""
        store, name = located(str(self))
        with errors(str(self)):
            try:
                store.put(name, content, mode=version, use_multipart=False)
            except (obstore.exceptions.PreconditionError, FileNotFoundError):
                found = self.read_version()
                return found is not None and found[0] == content
        return True


class _Object(io.RawIOBase):
    """The bytes of an object, by ranges."""

    def __init__(self, path: str):
        self._path, self._at = path, 0
        self._store, self._name = located(path)
        head = head_of(path)
        if head is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
        self._size = head["size"]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def readall(self) -> bytes:
        return self._range(self._size)

    def readinto(self, buffer: Any) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        content = self._range(min(self._at + len(buffer), self._size))
        buffer[: len(content)] = content
        return len(content)

    def _range(self, stop: int) -> bytes:
        if self._at >= stop:
            return b""
        with errors(self._path):
            content = bytes(self._store.get_range(self._name, start=self._at, end=stop))
        self._at = stop
        return content


class _Writer:
    """A file to write into; whoever opened it closes it."""

    def __init__(self, writer: Any, path: str, encoding: str | None):
        self._writer, self._path, self._encoding = writer, path, encoding

    def write(self, content: Any) -> int:
        with errors(self._path):
            self._writer.write(content.encode(self._encoding) if self._encoding else content)
        return len(content)

    def flush(self) -> None:
        """Nothing is there before the end."""
