"""T5X from a checkout of its sources: it cannot be installed any more."""

import functools
import pathlib
import sys
import types
from typing import Any

from flax.core import unfreeze
from flax.traverse_util import flatten_dict
from turns import LeftOutError


def open_t5x(checkout: str) -> None:
    """Make T5X's networks, losses, decoding and optimizers importable.

    Its package's own __init__, its utils, and one optimizer's library import what cannot be installed: small modules
    stand in for these.

    Raises:
      LeftOutError: no checkout is given.
    """
    if not checkout:
        raise LeftOutError("give --t5x a checkout of google-research/t5x")
    flatten: Any = functools.partial(flatten_dict, sep="/")
    amos = types.SimpleNamespace(amos=lambda: None, ScaleByAmosState=types.SimpleNamespace)
    helper = types.SimpleNamespace(state_partition_rule=None)
    contents = {
        "t5x": {"__path__": [str(pathlib.Path(checkout) / "t5x")]},
        "t5x.utils": {"flatten_dict_string_keys": lambda tree: flatten(unfreeze(tree))},
        "jestimator": {"amos": amos, "amos_helper": helper},
    }
    for name, given in contents.items():
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(given)
    vars(sys.modules["t5x"])["utils"] = sys.modules["t5x.utils"]
