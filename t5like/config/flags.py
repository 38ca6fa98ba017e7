"""Flags: fields of a config by their dotted names, `--optimizer.learning_rate 3e-4`, and a command's own options.

tyro reads the values; what is said of a mistake is ours.
"""

import contextlib
import dataclasses
import io
import itertools
import re
import typing
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from t5like.config import STRATEGIES, Config
from t5like.config.checks import require
from t5like.config.marks import without_prefix
from t5like.config.other_names import OTHER_NAMES, OTHER_OPTIONS
from t5like.config.presets import leaves
from t5like.errors import UserError, did_you_mean

Part = TypeVar("Part")
FLAG = re.compile(r"--[a-z_][\w.]*")
SAME = 3
"""Fields of the same last name that are named."""


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
    name, rest = take(flags, ("--rules",), f"a strategy: {', '.join(STRATEGIES)}")
    if name is None:
        return config, rest
    if name not in STRATEGIES:
        raise UserError(f"--rules {name} is no strategy{did_you_mean(name, STRATEGIES)}")
    return unchecked(config, rules=STRATEGIES[name]), rest


def take(flags: Sequence[str], names: Sequence[str], needs: str) -> tuple[str | None, list[str]]:
    """The value of the last flag of these names, or None, and all other words.

    Raises:
      UserError: the flag stands alone; the sentence says that it `needs` something.
    """
    words = [word for flag in flags for word in (flag.split("=", 1) if flag.split("=")[0] in names else (flag,))]
    value, rest = None, list[str]()
    while words:
        word = words.pop(0)
        if word in names:
            require(bool(words) and not words[0].startswith("--"), f"{word} needs {needs}.")
            value = words.pop(0)
        else:
            rest.append(word)
    return value, rest


def unchecked(value: Part, **changes: Any) -> Part:
    """A copy of a dataclass with fields replaced, not checked before the flags that may make it fit."""
    copy = object.__new__(type(value))
    vars(copy).update(vars(value) | changes)
    return copy


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

    flags = list(_complete(list(map(underscored, flags)), names))
    known = {f"--{name}" for name in ("help", *names)}
    for flag in flags:
        if flag.startswith("--") and (name := flag.split("=")[0]) not in known:
            raise UserError(f"{command} has no flag {name}{suggestion(name, known)}")
    complaint = io.StringIO()
    conf = (tyro.conf.FlagConversionOff, tyro.conf.AvoidSubcommands)
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(function, args=flags, prog=command, use_underscores=True, config=conf)
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UserError(_sentence(complaint.getvalue(), command, known)) from None


def underscored(flag: str) -> str:
    """A flag with _ for - in its name."""
    name, equals, value = flag.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if flag.startswith("--") else flag


def _complete(flags: Sequence[str], names: Mapping[str, Any]) -> Iterator[str]:
    """Insert True after each boolean flag that has no value, so that `--json` works like `--json True`."""
    for flag, after in itertools.zip_longest(flags, flags[1:]):
        yield flag
        if isinstance(names.get(flag.removeprefix("--")), bool) and flag.startswith("--"):
            yield from () if after and not after.startswith("--") else ("True",)


def suggestion(name: str, known: Collection[str]) -> str:
    """The end of the sentence on a flag that does not exist: the flag here of a name that another project has, fields
    of the same last name, or a similar one."""
    bare = name.lstrip("-").removeprefix("gin.")
    parts = (bare, bare.partition(".")[2], bare.rpartition(".")[2])
    tried = [word for part in parts for word in (part, part.lower())]
    options = [OTHER_OPTIONS[word] for word in tried if word in OTHER_OPTIONS]
    answers = [answer for answer in options if FLAG.findall(answer)[0] in known]
    with_fields = "--train.steps" in known
    answers += [answer for answer in map(OTHER_NAMES.get, tried) if answer and (with_fields or answer[:2] != "--")]
    if answers:
        return f"; {'here it is ' * answers[0].startswith('--')}{answers[0]}."
    fields = (flag for flag in known if not flag.startswith("--rules."))
    if same := [flag for flag in fields if flag.rpartition(".")[2].removeprefix("--") == parts[-1].lower()]:
        return f"; did you mean {' or '.join(map(repr, sorted(same, key=len)[:SAME]))}?"
    return did_you_mean(name, known, "--help lists them")


def option_flags(options: type) -> dict[str, Any]:
    """The flags of a class of options, without their dashes, and their defaults."""
    hints, found = typing.get_type_hints(options, include_extras=True), dict[str, Any]()
    for field in dataclasses.fields(options):
        bare = without_prefix() in getattr(hints[field.name], "__metadata__", ())
        found |= leaves(field.default, "" if bare else field.name)
    return found


def _sentence(box: str, command: str, known: Collection[str]) -> str:
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
        name, equals, _ = stray[1].partition("=")
        hint = suggestion(name, known) if equals and " " not in name else "."
        return f"{command} has no use for {stray[1]!r}: write overrides as --name value{hint}"
    return f"{said}."
