"""Python's own library as a source: its modules, their prose, and what `help()` knows."""

import ast
import builtins
import functools
import importlib
import pydoc
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from t5like.config import Source
from t5like.data.sources.encoding import decode
from t5like.data.sources.records import Row, Wanted
from t5like.errors import UserError

SKIPPED = {
    "test",
    "tests",
    "site-packages",
    "dist-packages",
    "idlelib",
    "encodings",
    "lib2to3",
    "turtledemo",
    "_bundled",
}
TOPICS = "pydoc_data/topics.py"


def library_files() -> list[tuple[str, int]]:
    """Python's own modules, without tests and tables, and the pydoc topics; relative to the library's folder."""
    root = library_folder()
    paths = (path for path in root.rglob("*.py") if not SKIPPED & set(path.relative_to(root).parts))
    files = sorted((path.relative_to(root).as_posix(), path.stat().st_size) for path in paths)
    if not files:
        raise UserError(f"Python's library at {root} has no source files; use a source of text or jsonl.")
    return files


def read_library(source: Source, name: str, start: int, stop: int | None, wanted: Wanted) -> Iterator[Row]:
    """A module's source, then its docstrings as prose; the topics of `help()` and the built-in docstrings once."""
    (field,) = wanted.fields or source.fields
    where = functools.partial("Python's module {}".format, name)
    if name == TOPICS:
        topics = importlib.import_module("pydoc_data.topics").topics
        texts = [(f"topic {key}", topics[key]) for key in sorted(topics)]
        for number, (group, text) in enumerate(texts + _builtin_docstrings()):
            yield Row(number, {field: text}, where, group=group)
        return
    text, invalid = decode((library_folder() / name).read_bytes())
    yield Row(0, {field: text}, where, invalid, name)
    yield Row(1, {field: _docstrings(text)}, where, group=name)


def library_folder() -> Path:
    """The folder of Python's own modules."""
    return Path(sysconfig.get_paths()["stdlib"])


def _docstrings(text: str) -> str:
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return ""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
    return "\n\n".join(docstring for docstring in found if docstring)


def _builtin_docstrings() -> list[tuple[str, str]]:
    found = []
    for name in sorted({"builtins", *sys.builtin_module_names} - {"__main__"}):
        module = builtins if name == "builtins" else importlib.import_module(name)
        members = (getattr(module, member) for member in sorted(dir(module)) if not member.startswith("_"))
        prose = [pydoc.getdoc(value) for value in (module, *members) if isinstance(getattr(value, "__doc__", 0), str)]
        found.append((f"built-in {name}", "\n\n".join(dict.fromkeys(filter(None, prose)))))
    return found
