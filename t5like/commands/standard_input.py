"""Standard input as a file, which a command may read from the first line on, also a second time."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import NamedTuple

from t5like.errors import UserError


class Named(NamedTuple):
    """The path of a file, and of standard input the hash of all that it had, else nothing."""

    path: str
    sha256: str = ""


@contextlib.contextmanager
def named(file: str) -> Iterator[Named]:
    """The file, or for - one with all of standard input, whose content says which form it has."""
    if file != "-":
        yield Named(file)
        return
    import hashlib
    import pathlib
    import tempfile

    content = sys.stdin.buffer.read()
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / "standard input"
        copy.write_bytes(content)
        try:
            yield Named(str(copy), hashlib.sha256(content).hexdigest())
        except UserError as error:
            raise UserError(str(error).replace(str(copy), copy.name)) from None
