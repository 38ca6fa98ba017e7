"""Time and memory of each implementation of attention, forward and backward, at some lengths.

    python benchmarks/attention.py [--lengths 512,1024,2048] [--heads 12] [--kv 64] [--tokens 16384] [--bias]
                                   [--causal] [--dtype bfloat16] [--compile v5e:2x2]

Prints a table and one JSON line. Each batch holds `--tokens` tokens, so that the lengths do as many products with
weights, and attention's part shows. `--bias` adds T5's relative bias. What an implementation cannot do here is left
out. With `--compile`, programs are compiled for a chip of that slice, which need not be here, and only memory is told.
"""

import argparse
import contextlib
import dataclasses
import json
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t5like.config import Mesh, Rules
from t5like.errors import UserError
from t5like.model.attention.attend import KINDS, attend
from t5like.model.attention.masks import AttentionMask, Relative
from t5like.model.sharding import make_mesh

RULES = Rules()


@dataclasses.dataclass(frozen=True)
class Row:
    """One implementation at one length; `milliseconds` is None where nothing ran, `megabytes` None where it is too
    much for the device."""

    kind: str
    length: int
    milliseconds: float | None
    megabytes: float | None


def gradient(kind: str, causal: bool) -> Any:
    """The jitted gradient of attention by `kind` with respect to all its arrays."""

    def loss(arrays: tuple[Any, ...], segments: Any) -> Any:
        query, keys, values, *table = arrays
        relative = Relative(table[0], 128) if table else None
        mask = AttentionMask(segments, segments, causal)
        return attend(query, keys, values, mask, relative, RULES, kind).astype(jnp.float32).sum()

    return jax.jit(jax.grad(loss))


def shapes(length: int, options: argparse.Namespace) -> tuple[tuple[Any, ...], Any]:
    """The abstract arrays and segments of a batch."""
    rows, dtype = max(1, options.tokens // length), jnp.dtype(options.dtype)
    arrays = (jax.ShapeDtypeStruct((rows, length, options.heads, options.kv), dtype),) * 3
    if options.bias:
        arrays += (jax.ShapeDtypeStruct((32, options.heads), dtype),)
    return arrays, jax.ShapeDtypeStruct((rows, length), jnp.int32)


def measured(kind: str, length: int, options: argparse.Namespace) -> Row | None:
    """Compiles and times one implementation; None where it cannot compute this here."""
    given = shapes(length, options)
    try:
        compiled = gradient(kind, options.causal).lower(*given).compile()
    except UserError:
        return None
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Row(kind, length, None, None)
    megabytes = compiled.memory_analysis().temp_size_in_bytes / 1e6
    return Row(kind, length, None if options.compile else milliseconds(compiled, given, options.steps), megabytes)


def milliseconds(compiled: Any, given: Any, steps: int) -> float:
    """The median time of a few runs after two that don't count."""
    rng = np.random.default_rng(0)
    arrays, segments = given
    arrays = tuple(jnp.asarray(rng.normal(size=x.shape), x.dtype) for x in arrays)
    segments = jnp.ones(segments.shape, jnp.int32)
    times = []
    for _ in range(steps + 2):
        started = time.perf_counter()
        jax.block_until_ready(compiled(arrays, segments))
        times.append(1e3 * (time.perf_counter() - started))
    return float(np.median(times[2:]))


def one_chip(topology: str) -> list[Any]:
    """The first device here, or of a slice that only the compiler knows."""
    if not topology:
        return jax.devices()[:1]
    from t5like.plan import topology as slices

    return slices.topology(topology).devices()[:1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--lengths", default="512,1024,2048")
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--kv", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=16_384)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--dtype", default="bfloat16", choices=["float32", "bfloat16"])
    parser.add_argument("--bias", action="store_true")
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--compile", default="", metavar="TOPOLOGY")
    options = parser.parse_args()
    device, *_ = devices = one_chip(options.compile)
    rows = []
    print(f"{'attention':10} {'length':>7} {'ms':>9} {'temporaries, MB':>16}   {device.device_kind}")
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.set_mesh(make_mesh(Mesh(fsdp=1), devices)))
        for length in map(int, options.lengths.split(",")):
            for kind in KINDS:
                if row := measured(kind, length, options):
                    rows.append(row)
                    cells = (
                        ("-" if row.milliseconds is None else f"{row.milliseconds:.1f}"),
                        ("too much" if row.megabytes is None else f"{row.megabytes:.0f}"),
                    )
                    print(f"{kind:10} {length:7} {cells[0]:>9} {cells[1]:>16}", flush=True)
    settings = {name: value for name, value in vars(options).items() if name != "lengths"}
    print(json.dumps({"device": device.device_kind, **settings, "rows": [dataclasses.asdict(row) for row in rows]}))


if __name__ == "__main__":
    main()
