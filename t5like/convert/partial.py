"""Folders that are there whole or not at all."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator

from t5like.errors import UserError
from t5like.storage import Path, is_remote, local_stage


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[pathlib.Path]:
    """Yields the empty folder `<target>.partial`, which is renamed to `target` at the end, or removed after an error.

    For a folder in a bucket it is one on this machine, which is copied there at the end, with config.json last.

    Raises:
      UserError: something cannot be written.
    """
    if is_remote(target):
        with local_stage(target, "config.json") as stage:
            yield stage
        return
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
