"""Seconds from the command to the text of one short prompt, `t5like generate RUN --prompt ...`, by what they go to.

    python benchmarks/generate_start.py RUN [--prompt TEXT] [--tokens 64]

The command runs twice, each time in a process of its own, so that the second finds the compiled programs on disk; of
that is the table. Each line has the seconds on the clock without those of other lines, the last the seconds of all
threads together: on a machine that does nothing else the sum is near them. Prints a table and a JSON line.
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
    """Spans of time with labels."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float, str]] = []

    def measured(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*given: Any, **more: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*given, **more)
            finally:
                self._spans.append((time.perf_counter(), started, label))

        return run

    def event(self, event: str, duration_secs: float, **_: str | int) -> None:
        """An event of JAX's, when it has ended."""
        if label := EVENTS.get(event):
            ended = time.perf_counter()
            self._spans.append((ended, ended - duration_secs, label))

    def seconds(self) -> dict[str, float]:
        """Seconds by label, each without the spans that stood within."""
        found: dict[str, float] = {}
        done: list[tuple[float, float]] = []
        for ended, started, label in sorted(self._spans):
            spent = ended - started
            while done and done[-1][1] >= started:
                inner = done.pop()
                spent -= inner[0] - inner[1]
            found[label] = found.get(label, 0.0) + spent
            done.append((ended, started))
        return found


def child(words: list[str], began: float) -> None:
    """Carries out the command and prints the seconds of each stage on standard error."""
    clock = Clock()
    start = {"start of Python": time.time() - began}
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
    found, used = start | clock.seconds(), resource.getrusage(resource.RUSAGE_SELF)
    ends = {"in all": time.time() - began, "of all threads": used.ru_utime + used.ru_stime}
    rest = {"rest": ends["in all"] - sum(found.values())}
    print(json.dumps(found | rest | ends), file=sys.stderr)


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
    seconds: dict[str, float] = json.loads(done.stderr.splitlines()[-1])
    print(f"{'t5like generate, one prompt':44} seconds")
    for label, spent in seconds.items():
        print(f"{label:44} {spent:7.2f}")
    print(json.dumps({"run": asked.run, "tokens": int(asked.tokens), "seconds": seconds}))


if __name__ == "__main__":
    if began := os.environ.get("T5LIKE_BEGAN"):
        child(sys.argv[1:], float(began))
    else:
        main()
