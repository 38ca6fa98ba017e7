"""Configs on the command line and in files: found by name, overridden by flags, written as JSON and read again.

A SOURCE is a preset (a Python file that holds `config = Config(...)`) or a run directory (which holds
`config.json`). Overrides are flags with dotted names, `--optimizer.learning_rate 3e-4`. JSON is the plain tree of
fields; a key that is no field is an error, so a config of another version is never half understood.
"""

import contextlib
import dataclasses
import io
import itertools
import json
import re
import runpy
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

from t5like.config import STRATEGIES, Config, Groups, Optimizer
from t5like.config.checks import require
from t5like.config.conditions import effective
from t5like.config.marks import without_prefix
from t5like.errors import UserError, did_you_mean
from t5like.storage import Path, path_of, write_small

FILE = "config.json"


def load(source: str) -> Config:
    """The config of a preset or of a run directory.

    Raises:
      UserError: no such file, no config in it, or a field that does not exist or has a wrong value.
    """
    path = path_of(source)
    if path.is_dir():
        return read(path)
    if not path.is_file():
        raise UserError(f"{source} is neither a preset nor a run directory; see configs/ for presets.")
    if path.suffix != ".py":
        raise UserError(f"{source} is no preset: presets are Python files that hold `config = Config(...)`.")
    try:
        config = runpy.run_path(source).get("config")
    except TypeError as error:
        raise UserError(f"{source}: {_unknown_field(error)}") from None
    except (SyntaxError, NameError, ImportError, AttributeError) as error:
        raise UserError(f"{source} is not valid Python: {error}.") from None
    if not isinstance(config, Config):
        raise UserError(f"{source} holds no `config = Config(...)`.")
    return config


def read(run: Path) -> Config:
    """The config that a run directory keeps."""
    file = run / FILE
    if not file.is_file():
        store = " but a store, so give the preset that it is of" if (run / "plan.json").is_file() else ""
        raise UserError(f"{run} is not a run directory{store}: it has no {FILE}.")
    try:
        return from_json(Config, json.loads(file.read_text("utf-8")), str(file))
    except ValueError as error:
        raise UserError(f"{file} is not valid JSON: {error}.") from None


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
        hints = typing.get_type_hints(kind)
        for key in values.keys() - hints.keys():
            raise UserError(f"{where}: {kind.__name__} has no field {key!r}{did_you_mean(key, hints)}")
        for field in dataclasses.fields(kind):
            if field.name not in values and field.default is dataclasses.MISSING:
                raise UserError(f"{where}: {kind.__name__}.{field.name} is missing.")
        fields = {key: from_json(hints[key], value, where) for key, value in values.items()}
        fields = _without_idle_decays(fields) if kind is Optimizer else fields
        return typing.cast(Any, kind)(**effective(kind, fields))
    if typing.get_origin(kind) is tuple:
        require(isinstance(values, list), f"{where}: {values!r} stands where a list belongs.")
        return tuple(from_json(typing.get_args(kind)[0], value, where) for value in values)
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return from_json(_alternative(typing.get_args(kind), values, where), values, where)
    whole = kind is float and isinstance(values, int) and not isinstance(values, bool)
    return float(values) if whole and abs(values) < 2**63 else values


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
        return next((kind for kind in kinds if kind is float and isinstance(values, int)), type(values))
    classes = {str(field.default): kind for kind in kinds for field in dataclasses.fields(kind) if field.name == "kind"}
    named = values.get("kind")
    if named not in classes:
        raise UserError(f"{where}: there is no kind {named!r}{did_you_mean(str(named), classes)}")
    return classes[named]


def override(config: Config, kind: type, flags: Sequence[str], command: str) -> tuple[Config, Any]:
    """The config with fields replaced by `--dotted.name value` flags, and a command's own options from `--name value`.

    `--rules NAME` takes the rules of a strategy, of which further flags may replace single ones.

    Raises:
      UserError: a flag that does not exist, with the closest that does; a value of the wrong type.
      SystemExit: with status 0 after `--help`.
    """
    bare = without_prefix()
    config, flags = _strategy(config, flags)

    def both(  # the annotation is what tyro reads
        options: Annotated[kind, bare],  # pyright: ignore[reportInvalidTypeForm]
        config: Annotated[Config, bare] = config,
    ) -> tuple[Config, Any]:
        return config, options

    return _read(both, leaves(config) | option_flags(kind), flags, command)


def _strategy(config: Config, flags: Sequence[str]) -> tuple[Config, list[str]]:
    """The config with the rules of the strategy that `--rules NAME` names, and the other flags."""
    words = [word for flag in flags for word in (flag.split("=", 1) if flag.startswith("--rules=") else (flag,))]
    if "--rules" not in words:
        return config, list(flags)
    at = words.index("--rules")
    require(len(words) > at + 1, f"--rules needs a strategy: {', '.join(STRATEGIES)}.")
    name = words[at + 1]
    if name not in STRATEGIES:
        raise UserError(f"--rules {name} is no strategy{did_you_mean(name, STRATEGIES)}")
    return dataclasses.replace(config, rules=STRATEGIES[name]), words[:at] + words[at + 2 :]


def parse(kind: type, flags: Sequence[str], command: str) -> Any:
    """A command's own options from `--name value`; raises what `override` raises."""

    def options(options: Annotated[kind, without_prefix()]) -> Any:  # pyright: ignore[reportInvalidTypeForm]
        return options

    return _read(options, option_flags(kind), flags, command)


def _read(function: Callable[..., Any], names: Mapping[str, Any], flags: Sequence[str], command: str) -> Any:
    """Parse `flags` with tyro and call `function`.

    Args:
      names: the present value of every known flag; any other flag is an error.
    """
    import tyro

    flags = list(_complete([_underscored(flag) for flag in flags], names))
    known = {f"--{name}" for name in ("help", *names)}
    for flag in flags:
        if flag.startswith("--") and (name := flag.split("=")[0]) not in known:
            raise UserError(f"{command} has no flag {name}{did_you_mean(name, known, '--help lists them')}")
    complaint = io.StringIO()
    conf = (tyro.conf.FlagConversionOff, tyro.conf.AvoidSubcommands)
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(function, args=flags, prog=command, use_underscores=True, config=conf)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(_sentence(complaint.getvalue(), command)) from None


def _underscored(flag: str) -> str:
    name, equals, value = flag.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if flag.startswith("--") else flag


def _complete(flags: Sequence[str], names: Mapping[str, Any]) -> Iterator[str]:
    """Insert True after each boolean flag that has no value, so that `--json` works like `--json True`."""
    for flag, after in itertools.zip_longest(flags, flags[1:]):
        yield flag
        if isinstance(names.get(flag.removeprefix("--")), bool) and flag.startswith("--"):
            yield from () if after and not after.startswith("--") else ("True",)


def option_flags(options: type) -> dict[str, Any]:
    """The flags of a class of options, without their dashes, and their defaults."""
    hints, found = typing.get_type_hints(options, include_extras=True), dict[str, Any]()
    for field in dataclasses.fields(options):
        bare = without_prefix() in getattr(hints[field.name], "__metadata__", ())
        found |= leaves(field.default, "" if bare else field.name)
    return found


def leaves(value: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value of every field that holds no further fields; elements of tuples count from 0."""
    if dataclasses.is_dataclass(value):
        hints = typing.get_type_hints(type(value))
        items: list[tuple[str, Any]] = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
        items = [(name, element) for name, element in items if element != () or not any(_classes(hints[name]))]
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
                return f"{match[1]} has no field {match[2]!r}{did_you_mean(match[2], typing.get_type_hints(kind))}"
    missing = re.match(r"(\w+)\.__init__\(\) missing \d+ required keyword-only arguments?: (.*)", str(error))
    return f"{missing[1]} needs {missing[2]}." if missing else f"{error}."


def _classes(kind: Any) -> Iterator[type]:
    """The dataclasses that a type names, and those of their fields."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        yield kind
        inside = typing.get_type_hints(kind).values()
    else:
        inside = typing.get_args(kind)
    for inner in inside:
        yield from _classes(inner)


def _sentence(box: str, command: str) -> str:
    """One sentence for one of tyro's framed messages."""
    lines = [line.strip("│ ").strip() for line in box.splitlines() if line.startswith("│")]
    end = next((n for n, line in enumerate(lines) if not line or set(line) <= {"─"}), len(lines))
    said = " ".join(lines[:end]).rstrip(".")
    if wrong := re.match(r"Error parsing (--[\w.]+): .*('.*')", said):
        for line in lines[end:]:
            if line.startswith(f"{wrong[1]} "):
                return f"{wrong[1]} takes {line.removeprefix(wrong[1]).strip()}, not {wrong[2]}."
    if absent := re.match(r"Missing from .*?: (--\w+) \w+ (.*)\. \(required\)", said):
        return f"{command} needs {absent[1]}, the {absent[2][0].lower()}{absent[2][1:]}."
    if stray := re.match(r"Unrecognized options: (.*)", said):
        return f"{command} has no use for {stray[1]!r}: write overrides as --name value."
    return f"{said}."
