"""Clients of buckets at gs:// and s3://: obstore's for objects, and the names by which TensorStore opens the same.

Both read the usual variables of their clouds; STORAGE_EMULATOR_HOST and AWS_ENDPOINT_URL name another server. Requests
are repeated for `T5LIKE_STORAGE_SECONDS` (120): after that, a `StorageError` has the server's last words.
"""

import contextlib
import datetime
import errno
import functools
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import obstore
import obstore.exceptions
import obstore.store

from t5like.errors import StorageError, UserError

REFUSALS = (obstore.exceptions.PermissionDeniedError, obstore.exceptions.UnauthenticatedError)


@contextlib.contextmanager
def errors(path: str) -> Iterator[None]:
    """Turn the errors of obstore into those of files."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", path) from None
    except REFUSALS as error:
        raise UserError(f"{path} cannot be opened: {reason(error)}; these credentials may not do it.") from None
    except (obstore.exceptions.BaseError, OSError) as error:  # its writers raise the latter
        raise unreached(path, error) from None


def unreached(path: object, error: Exception) -> StorageError:
    """The error of a bucket that did not answer, or not well, for all of the time that it had."""
    return StorageError(
        f"{path} cannot be reached: {reason(error)}; what is stored is whole, and the same command goes on from it."
    )


def reason(error: Exception) -> str:
    """The last words of a server, from the error of a library."""
    first = str(error).split("\n\nDebug source")[0].strip()
    said = first.rsplit(" - ", 1)[-1] if " - " in first else first
    return " ".join(re.sub(r"<[^>]*>", " ", said).split()).rstrip(":. ")[:200]


def seconds() -> int:
    """Seconds for which requests are repeated."""
    given = os.environ.get("T5LIKE_STORAGE_SECONDS", "120")
    if not given.isdecimal():
        raise UserError(f"T5LIKE_STORAGE_SECONDS={given} must be a whole number of seconds.")
    return int(given)


def kvstore(path: str) -> dict[str, Any]:
    """TensorStore's name of a folder or file in a bucket."""
    scheme, _, rest = path.partition("://")
    bucket, _, name = rest.partition("/")
    repeats = {"max_retries": 4 + seconds() // 8, "initial_delay": "500ms", "max_delay": "8s"}
    if scheme == "gs":
        if host := emulator():
            os.environ.setdefault("TENSORSTORE_GCS_HTTP_URL", host)
            os.environ.setdefault("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
        return {"driver": "gcs", "bucket": bucket, "path": name, "gcs_request_retries": repeats}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    at = {"endpoint": endpoint, "aws_region": region or "us-east-1"} if endpoint else {}
    at |= {"aws_region": region} if region else {}
    if "AWS_ACCESS_KEY_ID" in os.environ:  # and not what else it would look for, with a line for each file in vain
        at |= {"aws_credentials": {"type": "environment"}}
    return {"driver": "s3", "bucket": bucket, "path": name, "s3_request_retries": repeats, **at}


def emulator() -> str:
    host = os.environ.get("STORAGE_EMULATOR_HOST", "")
    return host if "://" in host or not host else f"http://{host}"


def head_of(path: str) -> Any:
    """Size and time of an object, None where there is none."""
    store, name = located(path)
    try:
        with errors(path):
            return store.head(name) if name else None
    except FileNotFoundError:
        return None


def located(path: str) -> tuple[Any, str]:
    """The bucket of a path and the name of its object."""
    scheme, _, rest = os.fspath(path).partition("://")
    bucket, _, name = rest.partition("/")
    return _bucket(scheme, bucket, seconds(), emulator(), os.environ.get("AWS_ENDPOINT_URL")), name.strip("/")


@functools.lru_cache(maxsize=32)
def _bucket(scheme: str, bucket: str, repeats: int, emulator: str, endpoint: str | None) -> Any:
    """The client of a bucket; it is another one where the settings are."""
    backoff = {"init_backoff": datetime.timedelta(milliseconds=200), "max_backoff": datetime.timedelta(seconds=8)}
    retry = {
        "backoff": {**backoff, "base": 2},
        "max_retries": 1000,
        "retry_timeout": datetime.timedelta(seconds=repeats),
    }
    client = {"connect_timeout": "10s", "timeout": "300s", "read_timeout": "60s", "allow_http": True}
    settings: dict[str, Any] = {"client_options": client, "retry_config": retry}
    if scheme == "gs" and emulator:
        key = {
            "gcs_base_url": emulator,
            "disable_oauth": True,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        }
        settings["service_account_key"] = json.dumps(key)
    with errors(f"{scheme}://{bucket}"):
        return cast(Callable[..., Any], obstore.store.from_url)(f"{scheme}://{bucket}", **settings)
