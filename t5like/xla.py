"""XLA's flags that t5like sets, each with its reason; all others are left to XLA and to whoever sets them.

They are read when JAX first looks for devices, so the command line sets them before it does anything else. What is
set in `XLA_FLAGS` or, for TPUs, in `LIBTPU_INIT_ARGS` already stays as it is.
"""

import contextlib
import os
import re
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING

from t5like.storage import is_remote, path_of

if TYPE_CHECKING:
    import jax

THREADS = 32
"""Threads that each of several CPU devices adds to the pool which they share.

A device starts whatever is ready, in any order, and a collective holds a thread until all devices have come to it. With
a thread for each core, as XLA has by default, one device waits in an all-gather and another in an all-reduce, and no
thread is left to bring them together: on two cores the step of configs/tiny_t5.py hangs with 2 devices. A program has
fewer collectives that are ready at once than this.
"""
SEVERAL_CPU_DEVICES = {
    # A product that asks the pool for help would wait for threads that wait for the product.
    "xla_cpu_multi_thread_eigen": "false",
    # Devices that have to share a busy processor wait for each other longer than the 40 s after which XLA ends the
    # process.
    "xla_cpu_collective_call_terminate_timeout_seconds": "600",
    "xla_cpu_collective_timeout_seconds": "600",
}
TPU = {
    # A gather beside a matrix product is made a ring of small permutes and products (Wang et al. 2023) from this many
    # MiB on, by default from few. With parameters split over 16 devices the parts are narrower than the matrix unit:
    # T5 1.1 base on v5e:4x4 is scheduled to take 0.166 s a step so, and 0.101 s with whole gathers, which the compiler
    # runs beside other products (`t5like plan --full`).
    "xla_jf_spmd_threshold_for_windowed_einsum_mib": "1000000",
}


def set_flags(environment: MutableMapping[str, str] = os.environ) -> None:
    """Add the flags for TPUs, and those that several CPU devices need where the environment asks for such."""
    environment["LIBTPU_INIT_ARGS"] = _with(TPU, environment.get("LIBTPU_INIT_ARGS", ""))
    flags = environment.get("XLA_FLAGS", "")
    asked = re.search(r"--xla_force_host_platform_device_count=(\d+)", flags)
    count = int(asked[1]) if asked else int(environment.get("JAX_NUM_CPU_DEVICES") or 1)
    if count > 1:
        set_for_cpu_devices(count, environment)


def set_for_cpu_devices(count: int, environment: MutableMapping[str, str] = os.environ) -> None:
    """Add the flags that several CPU devices of one process need, and threads by `NPROC`, the size of XLA's pool.

    A larger `NPROC` stays; a smaller one, which is often set for compilers, would let the process hang.
    """
    environment["XLA_FLAGS"] = _with(SEVERAL_CPU_DEVICES, environment.get("XLA_FLAGS", ""))
    own = environment.get("NPROC", "")
    environment["NPROC"] = str(max(count * THREADS, int(own) if own.isdecimal() else 0))


def _with(added: Mapping[str, str], flags: str) -> str:
    new = (f"--{name}={value}" for name, value in added.items() if f"--{name}=" not in flags)
    return " ".join((flags, *new)).strip()


def keep_programs(folder: str, mesh: "jax.sharding.Mesh") -> None:
    """Keep compiled programs in a folder, where a restart finds them; an empty name keeps none.

    Nor are any kept for several CPU devices: a program that XLA reads back for them may run its collectives in another
    order on each device, and hang (jaxlib 0.10.2: Adafactor's step on four devices does, every time).
    """
    import jax

    if mesh.size > 1 and mesh.devices.flat[0].platform == "cpu":
        jax.config.update("jax_compilation_cache_dir", None)
    elif folder:
        if not is_remote(folder):
            with contextlib.suppress(OSError):  # JAX warns of it, and goes on without
                # Its files are run, so no other user shall write there.
                path_of(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(path_of(folder)))
        # By default programs that compile within a second are not kept, which are all of a small model.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
