"""Programs that XLA compiles once in a process, whoever asks for them again.

JAX finds a compiled program by its function, and tests make equal functions anew: every training has a step of its own.
Here a program is found by its text, its devices and the compiler's options. JAX's own cache, which does the same, goes
through files, and programs for several CPU devices that come back from there may hang.
"""

import collections
import functools
import hashlib
from collections.abc import Callable
from typing import Any

MOST = 300
"""Programs that are kept; most are of single operations, and small."""


def once(compile_anew: Callable[..., Any]) -> Callable[..., Any]:
    """`jax._src.compiler.backend_compile_and_load`, but for programs that it has compiled for CPUs before.

    Those that call Python back are compiled anew: such a call is bound to the function that was traced.
    """
    kept: collections.OrderedDict[tuple[Any, ...], Any] = collections.OrderedDict()

    @functools.wraps(compile_anew)
    def compile_once(backend: Any, module: Any, devices: Any, options: Any, callbacks: Any) -> Any:
        if backend.platform != "cpu" or callbacks or "callback" in (text := module.operation.get_asm()):
            return compile_anew(backend, module, devices, options, callbacks)
        key = (
            hashlib.sha256(text.encode()).digest(),
            options.SerializeAsString(),
            tuple(device.id for device in devices),
        )
        if key not in kept:
            kept[key] = compile_anew(backend, module, devices, options, callbacks)
        kept.move_to_end(key)
        if len(kept) > MOST:
            kept.popitem(last=False)
        return kept[key]

    return compile_once
