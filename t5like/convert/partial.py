"""Folders that are there whole or not at all."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator

from t5like.errors import UserError


@contextlib.contextmanager
def whole_folder(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the empty folder `<target>.partial`, which is renamed to `target` at the end, or removed after an error.

    Raises:
      UserError: something cannot be written.
    """
    partial = target.with_name(f"{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        partial.rename(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
