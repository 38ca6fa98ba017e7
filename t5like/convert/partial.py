"""Folders that are there whole or not at all."""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator

from t5like.errors import UserError
from t5like.lock import locked
from t5like.storage import Path, is_remote, local_stage


@contextlib.contextmanager
def whole_folder(target: Path) -> Iterator[pathlib.Path]:
    """Yields an empty folder in `<target>.partial`, which is renamed to `target` at the end, or removed after an error.

    For a folder in a bucket it is one on this machine, which is copied there at the end, with config.json last.

    Raises:
      UserError: something cannot be written.
      TransientError: another process writes this folder.
    """
    if is_remote(target):
        with local_stage(target, "config.json") as stage:
            yield stage
        return
    partial = target.with_name(f"{target.name}.partial")
    try:
        with locked(partial, "import or export"):
            for left in partial.iterdir():  # by a process that was killed
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
            stage = partial / target.name
            try:
                stage.mkdir()
                yield stage
                stage.rename(target)
            finally:
                shutil.rmtree(stage, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror or error}.") from None
    finally:
        with contextlib.suppress(OSError):  # it is not there, or another process's by now
            partial.rmdir()
