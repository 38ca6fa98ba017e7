"""The commands, one file a group: of each its options, its help line and its function, side by side.

`cli` joins the `COMMANDS` of the files. It imports all files for `t5like --help`, so that at the top of a file stands
nothing that takes long: JAX, numpy and TensorFlow are imported in functions, and tyro when annotations are read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Takes = Literal["config", "branch", "run", "run and folder", "run and file", "paths", "two paths", "names"]
"""The arguments of a command before its options: the config of a SOURCE, or of a new run that goes on from a step of
one; the config that the run of a SOURCE keeps, also with a folder or a file after it; or paths or names as they are
typed."""
SHOWN: dict[Takes, str] = {
    "config": "SOURCE",
    "branch": "RUN",
    "run": "SOURCE",
    "run and folder": "SOURCE FOLDER",
    "run and file": "SOURCE FILE",
    "paths": "PATH",
    "two paths": "PATH RUN",
    "names": "[NAMES]",
}
"""The same as the help writes it."""
EXAMPLE = "tiny_t5"
"""The preset whose fields a help lists that is asked for without a SOURCE."""


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """For commands that take nothing but the config's fields."""


class Command(NamedTuple):
    """A command as `cli` carries it out: `function(*given, options)`, where a folder comes after the options."""

    name: str
    """One word or two, as typed."""
    takes: Takes
    help: str
    function: Callable[..., None]
    options: type = NoOptions

    @property
    def takes_paths(self) -> bool:
        """True if paths or names come before the options, and no config."""
        return self.takes in ("paths", "two paths", "names")
