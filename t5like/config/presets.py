"""Configs in files: found by name, written as JSON and read again.

A SOURCE is a preset (a Python file that holds `config = Config(...)`, or the name of one of the package's) or a run
directory (which holds `config.json`). JSON is the plain tree of fields; a key that is no field is an error, so a config
of another version is never half understood.
"""

import ast
import dataclasses
import functools
import json
import pathlib
import re
import runpy
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from t5like.config import Config, Groups, Objective, Optimizer, Train
from t5like.config.checks import described, fits, require
from t5like.config.conditions import effective, field_types
from t5like.config.other_names import OTHER_NAMES
from t5like.errors import UserError, did_you_mean
from t5like.json_files import parse
from t5like.storage import Path, path_of, write_small

FILE = "config.json"
FOLDER = "configs"


def load(source: str) -> Config:
    """The config of a preset or of a run directory.

    Raises:
      UserError: no such file, no config in it, or a field that does not exist or has a wrong value.
    """
    path = find(source)
    if path.is_dir():
        return read(path)
    if not path.is_file():
        named = f"; {path.stem!r} is in the package" if path.stem in packaged() else ""
        raise UserError(
            f"{source} is neither a preset nor a run directory{named or '; `t5like configs` lists the presets here'}."
        )
    if path.suffix != ".py":
        raise UserError(f"{source} is no preset: presets are Python files that hold `config = Config(...)`.")
    try:
        config = runpy.run_path(str(path)).get("config")
    except TypeError as error:
        raise UserError(f"{source}: {_unknown_field(error)}") from None
    except (SyntaxError, NameError, ImportError, AttributeError) as error:
        raise UserError(f"{source} is not valid Python: {error}.") from None
    if not isinstance(config, Config):
        raise UserError(f"{source} holds no `config = Config(...)`.")
    require(
        not (config.train.steps and config.train.epochs),
        f"{source} sets train.steps={config.train.steps} and train.epochs={config.train.epochs}: leave one out.",
    )
    return config


def find(source: str) -> Path:
    """The file or folder of a SOURCE: what is there, or else the preset of the package that has this name."""
    path = path_of(source)
    return path if path.exists() else packaged().get(source, path)


@functools.cache
def packaged() -> dict[str, Path]:
    """The presets of the package by name. They are in it where it is installed, and beside it in the repository."""
    root = pathlib.Path(__file__).parents[1]
    folder = next((f for f in (root / FOLDER, root.parent / FOLDER) if f.is_dir()), root)
    return {file.stem: file for file in sorted(folder.glob("*.py")) if folder != root}


def title(preset: Path) -> str:
    """The first sentence of a preset's docstring."""
    said = ast.get_docstring(ast.parse(preset.read_text("utf-8"))) or ""
    return " ".join(said.partition("\n\n")[0].split())


def read(run: Path) -> Config:
    """The config that a run directory keeps, but for the folder of compiled programs: what lies there is run, so only a
    preset or a flag may name it, and not a run that may be somebody else's."""
    file = run / FILE
    if not file.is_file():
        store = " but a store, so give the preset that it is of" if (run / "plan.json").is_file() else ""
        raise UserError(f"{run} is not a run directory{store}: it has no {FILE}.")
    try:
        config = from_json(Config, parse(file.read_bytes()), str(file))
    except ValueError as error:
        raise UserError(f"{file} is not valid JSON: {error}.") from None
    if not config.train.compilation_cache:
        return config
    own = dataclasses.replace(config.train, compilation_cache=Train.compilation_cache)
    return dataclasses.replace(config, train=own)


def write(config: Config, run: Path) -> None:
    """Write `config.json` into the run directory, whole or not at all."""
    write_small(run / FILE, json.dumps(dataclasses.asdict(config), indent=2) + "\n")


def from_json(kind: Any, values: Any, where: str) -> Any:
    """The inverse of `dataclasses.asdict` after a trip through JSON.

    Fields that have no effect beside the others, which older versions let pass, get their defaults.

    Raises:
      UserError: a key that is no field of its class, a missing one, or a wrong type; `where` names the file.
    """
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        require(isinstance(values, dict), f"{where}: {values!r} stands where the fields of {kind.__name__} belong.")
        hints = field_types(kind)
        for key in values.keys() - hints.keys():
            raise UserError(f"{where}: {kind.__name__} has no field {key!r}{_suggestion(key, hints)}")
        for field in dataclasses.fields(kind):
            if field.name not in values and field.default is dataclasses.MISSING:
                raise UserError(f"{where}: {kind.__name__}.{field.name} is missing.")
        fields = {key: from_json(hints[key], value, where) for key, value in values.items()}
        for key, value in fields.items():  # those of plain types are checked by the class itself, in its own words
            plain = fits(value, hints[key]) or not any(_classes(hints[key]))
            require(plain, f"{where}: {kind.__name__}.{key} must be {described(hints[key])}.")
        fields = _without_idle_decays(fields) if kind is Optimizer else fields
        if kind is Objective and fields.get("whole_words"):
            fields = {"words": "pieces"} | fields  # as before there was a choice
        return typing.cast(Any, kind)(**effective(kind, fields))
    if typing.get_origin(kind) is tuple:
        require(isinstance(values, list), f"{where}: {values!r} stands where a list belongs.")
        return tuple(from_json(typing.get_args(kind)[0], value, where) for value in values)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return from_json(_alternative(typing.get_args(kind), values, where), values, where)
    require(
        not isinstance(values, str) or "\0" not in values, f"{where}: {values!r} has a zero byte, which no text has."
    )
    if kind is float and isinstance(values, int) and not isinstance(values, bool) and abs(values) < 2**63:
        return float(values)
    return values


def _without_idle_decays(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of an `Optimizer` with its groups' own decays where there is no weight decay."""
    if "groups" not in fields or fields.get("weight_decay"):
        return fields
    given, usual = vars(fields["groups"]), vars(Groups())
    groups = {name: dataclasses.replace(group, decay=usual[name].decay) for name, group in given.items()}
    return fields | {"groups": Groups(**groups)}


def _alternative(kinds: tuple[Any, ...], values: Any, where: str) -> Any:
    """The alternative that a value is of: classes are told apart by their field `kind`."""
    if not isinstance(values, dict):
        if values is None:
            return type(None)
        return next((kind for kind in kinds if kind is float and isinstance(values, int)), type(values))
    known = [kind for kind in kinds if dataclasses.is_dataclass(kind)]
    if len(known) == 1:
        return known[0]
    classes = {str(field.default): kind for kind in kinds for field in dataclasses.fields(kind) if field.name == "kind"}
    named = values.get("kind")
    if not isinstance(named, str) or named not in classes:
        raise UserError(f"{where}: there is no kind {named!r}{did_you_mean(str(named), classes)}")
    return classes[named]


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of every field that holds no further fields; elements of tuples count from 0."""
    if dataclasses.is_dataclass(value):
        hints = field_types(type(value))
        items: list[tuple[str, Any]] = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
        items = [
            (name, element) for name, element in items if element not in ((), None) or not any(_classes(hints[name]))
        ]
    elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        items = [(str(number), element) for number, element in enumerate(value)]
    else:
        return {prefix: value}
    found: dict[str, Any] = {}
    for name, element in items:
        found |= leaves(element, f"{prefix}.{name}" if prefix else name)
    return found


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted name -> (old, new) of every field in which two configs differ."""
    left, right = leaves(old), leaves(new)
    return {
        name: (left.get(name), right.get(name))
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    }


def _unknown_field(error: TypeError) -> str:
    match = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if match:
        for kind in _classes(Config):
            if kind.__name__ == match[1]:
                return f"{match[1]} has no field {match[2]!r}{_suggestion(match[2], field_types(kind))}"
    missing = re.match(r"(\w+)\.__init__\(\) missing \d+ required keyword-only arguments?: (.*)", str(error))
    return f"{missing[1]} needs {missing[2]}." if missing else f"{error}."


def _suggestion(name: str, known: Iterable[str]) -> str:
    """The end of the sentence on a field that does not exist: ours for a name of another project, or a similar one."""
    if name not in OTHER_NAMES:
        return did_you_mean(name, known)
    answer = OTHER_NAMES[name]
    return f"; {'here it is ' * answer.startswith('--')}{answer.replace('--', '')}."


def _classes(kind: Any) -> Iterator[type]:
    """The dataclasses that a type names, and those of their fields."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        yield kind
        inside = field_types(kind).values()
    else:
        inside = typing.get_args(kind)
    for inner in inside:
        yield from _classes(inner)
