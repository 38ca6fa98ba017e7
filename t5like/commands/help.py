"""The help of one command on one screen: its own options, and the fields of a config that people change."""

import ast
import dataclasses
import functools
import inspect
import shutil
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

from t5like.commands import EXAMPLE, SHOWN, Command
from t5like.config import Config
from t5like.config.conditions import field_types
from t5like.config.presets import leaves

LINES, COLUMNS = 25, 120
"""Lines of a page, and columns where no terminal says its own."""
NAMES = 34
"""Columns of names and values."""
ARCHITECTURE = ("--architecture NAME", "Published size, of `t5like architectures`; replaces the fields of model.")
CHANGED = (
    *("train.directory", "train.steps", "train.batch", "train.init_from", "data.store", "data.sources.0.kind"),
    *("data.sources.0.path", "data.vocabulary.size", "data.length", "optimizer.learning_rate", "optimizer.warmup"),
)
"""Fields that people change in a run; with the architecture twelve."""
READ = (
    *("data.store", "data.sources.0.kind", "data.sources.0.path", "data.held_out", "eval.rows", "eval.batch"),
    *("model.dtype", "mesh.fsdp", "mesh.tensor", "train.directory"),
)
"""The same for commands that only read a run, beside which its other fields cannot change."""


class Shown(NamedTuple):
    """A flag with its value, and the first sentence on it."""

    flag: str
    text: str


def page(command: Command, config: Config | None, source: str) -> str:
    """The help of a command, at most `LINES` lines; `config` is that of `source`, None for commands without one."""
    own = list(_options(command.options))
    own = own if len(own) <= LINES - 3 else list(_options(command.options, folded=True))
    shown = [*own, *_fields(command, config, LINES - 3 - len(own))]
    width = shutil.get_terminal_size((COLUMNS, LINES)).columns
    lines = [f"usage: t5like {command.name} {SHOWN[command.takes]} [--name value ...]", f"{command.help}:"]
    lines += [_line(each, width) for each in shown]
    if config or any(dataclasses.is_dataclass(value) for value in _defaults(command.options).values()):
        given = source or SHOWN[command.takes]
        values = f", values of {source or EXAMPLE}" if config else ""
        lines.append(f"t5like {command.name} {given} --help all: every field{values}")
    return "\n".join(lines) + "\n"


def _line(shown: Shown, width: int) -> str:
    name = f"  {shown.flag:<{NAMES}}  "
    return name + textwrap.shorten(shown.text, max(width - len(name), 20), placeholder=" ...")


def _options(kind: type, folded: bool = False) -> Iterator[Shown]:
    """The options of a class, with those of the classes in it that are flags by their own names; of each such class the
    first alone if they are `folded`."""
    marked = field_types(kind, marked=True)
    for name, (hint, text) in _described(kind).items():
        if not dataclasses.is_dataclass(hint):
            yield Shown(f"--{name} {_value(hint)}".rstrip(), text)
        elif marked[name] != hint and isinstance(hint, type):
            within = list(_options(hint))
            yield from [Shown(f"{within[0].flag}, ...", f"{text} All {len(within)}: --help all")] if folded else within


def _fields(command: Command, config: Config | None, most: int) -> Iterator[Shown]:
    """The fields that people change, with their values in the config, at most so many."""
    if config is None:
        return
    makes, values = command.takes in ("config", "branch", "run and files"), leaves(config)
    for name in (CHANGED if makes else READ)[: most - makes]:
        if name in values:
            yield Shown(f"--{name} {values[name] if values[name] not in ('', ()) else '...'}", _text_of(config, name))
    if makes:
        yield Shown(*ARCHITECTURE)


def _text_of(config: Config, name: str) -> str:
    """The first sentence on the field of a dotted name."""
    *path, last = name.split(".")
    owner = functools.reduce(
        lambda node, n: node[int(n)] if n.isdecimal() else getattr(node, n), path, typing.cast(Any, config)
    )
    return _described(type(owner))[last][1]


@functools.cache
def _described(kind: type) -> dict[str, tuple[Any, str]]:
    """The fields of a dataclass: type, and the first sentence of the docstring that stands below each."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    texts: dict[str, str] = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            said = " ".join(ast.literal_eval(below.value).split())
            texts[field.target.id] = said.partition(". ")[0].rstrip(".") + "."
    return {name: (hint, texts.get(name, "")) for name, hint in field_types(kind).items()}


def _defaults(kind: type) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(kind)}


def _value(hint: Any) -> str:
    """The kind of value that a flag takes."""
    inner = [argument for argument in typing.get_args(hint) if argument is not types.NoneType]
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(str(value) for value in inner if value != "")
    if typing.get_origin(hint) in (types.UnionType, typing.Union, tuple):
        return _value(inner[0])
    return {int: "N", float: "X", str: "TEXT", bool: ""}.get(hint, "")
