"""Versions of installed packages: in stores and checkpoints, and where the processes of a run are compared."""

import importlib.metadata
from collections.abc import Iterable

VERSION = "0.1.0"
"""That of t5like."""


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The installed version of each package, or "not installed"."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
