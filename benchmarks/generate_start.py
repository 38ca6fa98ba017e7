"""Seconds from the command to the text of one short prompt, `t5like generate RUN --prompt ...`, by what they go to.

    python benchmarks/generate_start.py RUN [--prompt TEXT] [--tokens 64]

The command runs twice, each time in a process of its own, so that the second finds the compiled programs on disk; of
that is the table. Each line has the seconds on the clock and those of all threads, without what other lines hold; the
rest is what stands in none, such as small programs of JAX. Prints a table and a JSON line.
"""

import argparse
import functools
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

MODULES = {"jax": "import of JAX", "flax.linen": "import of Flax", "orbax.checkpoint": "import of Orbax"}
MODULES |= {"t5like.cli": "import of the command line", "t5like.library": "other imports"}
STAGES = {
    ("t5like.cli", "_given"): "config and flags",
    ("t5like.runs.opened", "make_mesh"): "devices",
    ("t5like.runs.opened", "open_vocabulary"): "vocabulary",
    ("t5like.runs.opened", "make_network"): "shapes of the network",
    ("t5like.runs.opened", "Checkpoints"): "checkpoints, opened",
    ("t5like.runs.checkpoints.Checkpoints", "restore_params"): "parameters, restored",
    ("t5like.infer.generate.Generator", "__call__"): "answer, without tracing and compiling",
}
EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "compiling, or reading the compiled program",
}


class Clock:
    """Seconds by label, each without those of the labels that stood within."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self._within: list[list[float]] = [[0.0, 0.0]]

    @staticmethod
    def now() -> tuple[float, float]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return time.perf_counter(), used.ru_utime + used.ru_stime

    def measured(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*given: Any, **more: Any) -> Any:
            started = self.now()
            self._within.append([0.0, 0.0])
            try:
                return function(*given, **more)
            finally:
                inner, spent = self._within.pop(), [b - a for a, b in zip(started, self.now(), strict=True)]
                self._add(label, [all_ - part for all_, part in zip(spent, inner, strict=True)])
                self._within[-1] = [a + b for a, b in zip(self._within[-1], spent, strict=True)]

        return run

    def event(self, name: str, seconds: float, **_: Any) -> None:
        """An event of JAX's, of which only the clock is known: one thread's."""
        if label := EVENTS.get(name):
            self._add(label, [seconds, seconds])
            self._within[-1] = [spent + seconds for spent in self._within[-1]]

    def _add(self, label: str, spent: list[float]) -> None:
        self.seconds[label] = [a + b for a, b in zip(self.seconds.get(label, [0.0, 0.0]), spent, strict=True)]


def child(words: list[str], began: float) -> None:
    """Carries out the command and prints the seconds of each stage on standard error."""
    clock = Clock()
    clock.seconds["start of Python"] = [time.time() - began, clock.now()[1]]
    for module, label in MODULES.items():
        clock.measured(importlib.import_module, label)(module)
    import jax

    from t5like import cli

    jax.monitoring.register_event_duration_secs_listener(clock.event)
    for (place, name), label in STAGES.items():
        module, _, kind = place.rpartition(".")
        owner: Any = (
            getattr(importlib.import_module(module), kind) if kind[0].isupper() else importlib.import_module(place)
        )
        setattr(owner, name, clock.measured(getattr(owner, name), label))
    cli.set_flags()
    cli.run(words)
    sys.stdout.flush()
    total = [time.time() - began, clock.now()[1]]
    rest = [whole - sum(parts) for whole, parts in zip(total, zip(*clock.seconds.values(), strict=True), strict=True)]
    print(json.dumps(clock.seconds | {"rest": rest, "in all": total}), file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run directory of a model that has a decoder")
    parser.add_argument("--prompt", default="The <extra_id_0> sat on the mat.")
    parser.add_argument("--tokens", default="64")
    asked = parser.parse_args()
    words = ["generate", asked.run, "--prompt", asked.prompt, "--tokens", asked.tokens]
    for _ in range(2):
        environment = os.environ | {"T5LIKE_BEGAN": str(time.time())}
        command = [sys.executable, __file__, *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
    seconds: dict[str, list[float]] = json.loads(done.stderr.splitlines()[-1])
    print(f"{'t5like generate, one prompt':44} {'seconds':>8} {'of all threads':>15}")
    for label, (clock, used) in seconds.items():
        print(f"{label:44} {clock:8.2f} {used:15.2f}")
    print(json.dumps({"run": asked.run, "tokens": int(asked.tokens), "seconds": seconds}))


if __name__ == "__main__":
    if began := os.environ.get("T5LIKE_BEGAN"):
        child(sys.argv[1:], float(began))
    else:
        main()
