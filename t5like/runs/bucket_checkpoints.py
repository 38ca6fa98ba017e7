"""Orbax in buckets: it opens its arrays at gs:// and on disks; here they are opened at s3:// too, and both with the
servers, the patience and the errors of `t5like.buckets`.

Orbax has no option for it, so this replaces four functions of its own; a test saves and restores through each of them.
"""

import contextlib
import functools
from collections.abc import Iterator

import absl.logging
from orbax.checkpoint._src.path import gcs_utils
from orbax.checkpoint._src.serialization import tensorstore_utils

from t5like.buckets import kvstore, unreached
from t5like.storage import Path, is_remote


@functools.cache
def open_buckets() -> None:
    """Let Orbax open the arrays of checkpoints in buckets."""
    absl.logging.set_verbosity(absl.logging.FATAL)  # Orbax logs with tracebacks what it raises as well
    normalised = tensorstore_utils._normalize_path
    tensorstore_utils._normalize_path = lambda path: path.rstrip("/") if is_remote(path) else normalised(path)
    tensorstore_utils._use_gcs_driver = is_remote
    gcs_utils.get_kvstore_for_gcs = kvstore
    # To ask that of a bucket it needs another library; in buckets with folders, empty ones stay.
    gcs_utils.is_hierarchical_namespace_enabled = lambda path: False


@contextlib.contextmanager
def errors(folder: Path) -> Iterator[None]:
    """Turn the errors of TensorStore about a server into a `StorageError`."""
    try:
        yield
    except Exception as error:
        if "retry attempts failed" in str(error):
            raise unreached(folder, error) from None
        raise
