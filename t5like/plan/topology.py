"""The devices to plan for, by name: a TPU slice that only its compiler knows, GPUs by their figures, or those here.

`v5e:4x4` is a slice of 16 chips, which Google Cloud also calls `v5litepod-16`. libtpu describes it on any Linux
machine, with the chips' coordinates in the torus, so the mesh is laid out as on the real slice.
"""

import contextlib
import importlib.util
import math
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from t5like.cost.devices import DEVICES, Device, device_of
from t5like.errors import UserError
from t5like.xla import set_flags

if TYPE_CHECKING:
    import jaxlib._jax

FLAT = ((1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16))
CUBES = (
    *((2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4), (4, 4, 4), (4, 4, 8), (4, 8, 8), (8, 8, 8)),
    *((8, 8, 16), (8, 16, 16), (16, 16, 16)),
)
SLICES = {"v4": CUBES, "v5e": FLAT, "v5p": CUBES, "v6e": FLAT, "tpu7x": CUBES}
"""Slices of each type that Google Cloud offers, smallest first; those of `CUBES` have all multiples of 4x4x4 too."""
ALIASES = {
    "v5litepod": "v5e",
    "v7x": "tpu7x",
    "tpu-v4-podslice": "v4",
    "tpu-v5-lite-podslice": "v5e",
    "tpu-v5p-slice": "v5p",
    "tpu-v6e-slice": "v6e",
}
"""Other names of the types: of accelerator types, and labels of Kubernetes Engine."""
CORES = {"v4": 2, "v5p": 2, "tpu7x": 2}
"""Of the types whose accelerator types, such as v5p-8, count TensorCores, those of a chip; v5litepod-8 counts chips."""
EXAMPLE = "a TPU slice such as v5e:4x4 or v5p:4x4x4, or GPUs such as h100:8"
TPUS = ", ".join(SLICES)
GPUS = ", ".join(name for name in DEVICES if name not in SLICES)


@dataclass(frozen=True)
class Topology:
    """Devices to plan for: `device` is None where nothing is known of the kind, `shape` empty for all but slices."""

    name: str
    device: Device | None
    count: int
    shape: tuple[int, ...] = ()
    slices: int = 1

    @property
    def compiles(self) -> bool:
        """True if there is a compiler for it here; GPUs that are not at hand are planned by formula."""
        return bool(self.shape) or self.name == "local"

    def devices(self) -> list["jaxlib._jax.Device"]:
        """The devices as JAX has them, of all slices.

        Raises:
          UserError: libtpu, the TPU compiler, is not installed.
        """
        if not self.shape:
            import jax

            return jax.devices()
        prepare_compiler()
        from jax.experimental import topologies

        sizes = (*self.shape, 1)[:3]
        host = [1, 1, 1] if math.prod(self.shape) == 1 else None
        # Both cores of a v4 chip are one device, as `jax.devices()` has them there.
        extra = {"chip_config_name": "megacore"} if self.name.startswith("v4:") else {}
        extra |= {"chips_per_host_bounds": host} if host else {}
        extra |= {"num_slices": self.slices} if self.slices > 1 else {}
        name = f"{self.name.split(':')[0]}:{'x'.join(map(str, sizes[: len(self.shape)]))}"
        with quiet():
            return list(topologies.get_topology_desc(name, platform="tpu", **extra).devices)


def topology(name: str, slices: int = 1) -> Topology:
    """The topology of a name; an empty one stands for the devices that are here.

    Raises:
      UserError: there is no such type or shape; those that exist are named.
    """
    if not name:
        if slices > 1:
            raise UserError(f"--slices {slices} needs --topology: name a TPU slice such as v5e:4x4.")
        import jax

        return Topology("local", device_of(jax.devices()[0].device_kind), jax.device_count())
    kind, size = _split(name)
    if kind not in DEVICES or not size:
        raise UserError(
            f"There is no topology {name!r}: give {EXAMPLE}. TPUs are {TPUS}; GPUs, by formula only, are {GPUS}."
        )
    if kind not in SLICES:
        return _gpus(name, kind, size, slices)
    shape = _shape(kind, size)
    cube = SLICES[kind] is CUBES and len(shape) == 3 and all(part and part % 4 == 0 for part in shape)
    if shape not in SLICES[kind] and not cube:
        raise UserError(f"There is no slice {name!r}: {kind} has {_listed(kind)}.")
    device = DEVICES[kind]
    canonical = f"{kind}:{'x'.join(map(str, shape))}"
    return Topology(canonical, device, math.prod(shape) * device.cores * slices, shape, slices)


def is_tpu(name: str) -> bool:
    """True if the name is that of a TPU slice, whose size may still be wrong."""
    return _split(name)[0] in SLICES


def _split(name: str) -> tuple[str, str]:
    """Type and size of a name: those of `v5e:4x4` and `tpu-v5-lite-podslice:4x4` are v5e and 4x4, those of
    `v5litepod-16` v5e and 16; without a size it is ""."""
    kind, _, size = name.lower().partition(":")
    ending = re.fullmatch(r"(.+)-(\d[\dx]*)", kind)
    if not size and ending and ALIASES.get(ending[1], ending[1]) in SLICES:
        kind, size = ending.groups()
    return ALIASES.get(kind, kind), size


def _shape(kind: str, size: str) -> tuple[int, ...]:
    """The shape that a size says, chips along each dimension of a torus; () if it says none. A number, as accelerator
    types end in, says the usual one: v5p-8 is 2x2x1, and v5p-1536, as the most like a cube, 8x8x12."""
    if not re.fullmatch(r"\d+(x\d+)*", size):
        return ()
    if not size.isdigit():
        return tuple(map(int, size.split("x")))
    chips, rest = divmod(int(size), CORES.get(kind, 1))
    if rest:
        return ()
    if listed := [shape for shape in SLICES[kind] if math.prod(shape) == chips]:
        return listed[0]
    if SLICES[kind] is not CUBES or chips % 64:
        return ()
    blocks = chips // 64
    sides = [
        (a, b, blocks // a // b)
        for a in range(1, math.isqrt(blocks) + 1)
        for b in range(a, math.isqrt(blocks // a) + 1)
        if blocks % (a * b) == 0
    ]
    return tuple(4 * side for side in min(sides, key=lambda shape: (shape[2] - shape[0], shape)))


def _listed(kind: str) -> str:
    """The slices of a type, as shapes and by the numbers that their accelerator types end in."""
    shapes = ", ".join("x".join(map(str, shape)) for shape in SLICES[kind])
    counts = ", ".join(f"-{math.prod(shape) * CORES.get(kind, 1)}" for shape in SLICES[kind])
    more = " and other multiples of 4x4x4" if SLICES[kind] is CUBES else ""
    return f"{shapes}{more}, or by {'TensorCores' if kind in CORES else 'chips'} {kind}{counts}"


def slices_of(kind: str) -> Iterator[Topology]:
    """The slices of a TPU type, smallest first."""
    for shape in SLICES[kind]:
        yield topology(f"{kind}:{'x'.join(map(str, shape))}")


def _gpus(name: str, kind: str, size: str, slices: int) -> Topology:
    if not size.isdigit() or int(size) < 1:
        raise UserError(f"There is no topology {name!r}: GPUs are given by their number, such as {kind}:8.")
    if slices > 1:
        raise UserError(f"--slices {slices} is for TPU slices: give {name} as {kind}:{int(size) * slices}.")
    return Topology(name, DEVICES[kind], int(size))


def prepare_environment() -> None:
    """Tell JAX, before it looks for devices, that there is no TPU here, and the TPU compiler that it is not alone."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    if jax := sys.modules.get("jax"):  # a preset may have imported it, and then it has read that variable
        jax.config.update("jax_platforms", "cpu")
    _tell_compiler()


def _tell_compiler() -> None:
    set_flags()
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")


def prepare_compiler() -> None:
    """Raise `UserError` where libtpu is not installed."""
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("A plan for TPUs needs their compiler, libtpu: install it by pip install 'jax[tpu]'.")
    _tell_compiler()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what C++ writes to standard error away from the terminal; after an exception its end is kept in a note.

    libtpu warns of missing host names there, whatever its log level is.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except Exception as error:
            said.seek(0)
            error.add_note(said.read()[-4000:].decode("utf-8", "replace"))
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
