"""Compiled programs that are remembered by their text: a run that goes on, or is evaluated, compiles nothing again."""

import collections
import hashlib
from typing import Any

from jax._src import compiler

MOST = 128
"""The programs that are kept, the latest used."""


def remember_programs() -> None:
    """Let a program whose text, devices and options are those of one before be the same program.

    Only those of this process's CPU devices that call nothing in Python: theirs is the time of a test.
    """
    whole, kept = compiler.backend_compile_and_load, collections.OrderedDict[tuple[Any, ...], Any]()

    def compiled(backend: Any, module: Any, devices: Any, options: Any, callbacks: Any) -> Any:
        if callbacks or getattr(backend, "platform", "") != "cpu":
            return whole(backend, module, devices, options, callbacks)
        text = module.operation.get_asm(enable_debug_info=False, binary=False)
        key = (
            hashlib.sha256(text.encode()).digest(),
            options.SerializeAsString(),
            tuple(device.id for device in devices),
        )
        if key not in kept:
            kept[key] = whole(backend, module, devices, options, callbacks)
            if len(kept) > MOST:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return kept[key]

    compiler.backend_compile_and_load = compiled
