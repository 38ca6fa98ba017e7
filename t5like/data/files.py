"""Files that appear whole or not at all, on local disks and in buckets."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from types import TracebackType
from typing import IO, cast

from etils import epath

from t5like.errors import UserError
from t5like.storage import is_remote


class WholeFile:
    """A file that is written bit by bit and appears whole at `close`, which returns its SHA-256, or not at all.

    Its partial name holds the process, so that two processes that write the same file do not meet.
    """

    def __init__(self, path: epath.Path):
        self.path, self._partial = path, path.parent / f"{path.name}.{os.getpid()}.partial"
        self._hash, self._opened = hashlib.sha256(), contextlib.ExitStack()
        with self._sentences():
            path.parent.mkdir(parents=True, exist_ok=True)
            opened = path.open("wb") if is_remote(path) else self._partial.open("wb")
            self._file = cast(IO[bytes], self._opened.enter_context(opened))

    def __enter__(self) -> "WholeFile":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave no partial file behind."""
        if is_remote(self.path):
            self._opened.pop_all()  # an object that nothing has closed does not appear
            return
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        self._hash.update(content)
        with self._sentences():
            self._file.write(content)

    def close(self) -> str:
        with self._sentences():
            if is_remote(self.path):
                self._opened.close()
                return self._hash.hexdigest()
            # A machine that stops must not leave an empty file of that name.
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self.path)
        return self._hash.hexdigest()

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        """Turn an error of the system into a sentence."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written: {error.strerror or error}; "
                "once that is mended, the same command goes on from where it stopped."
            ) from None


def write_whole(path: epath.Path, content: bytes) -> str:
    """Write a file whole or not at all and return its SHA-256.

    Raises:
      UserError: the disk is full, or the folder cannot be written.
    """
    with WholeFile(path) as file:
        file.write(content)
        return file.close()
