"""Plans well-known models on TPU slices that nobody here owns: the smallest slice that fits, and the estimated MFU.

    python benchmarks/plan.py [--full] [NAME ...]      T5 1.1 xl, xxl, UL2 20B, BERT large and a 7B decoder by default

For v5e and v5p each model starts on the smallest slice whose memory holds its state, and goes on to larger ones until
the compiled step fits. Rows are a fixed number on each chip, so that slices are compared at equal work. Prints a row
for each plan, then one JSON line with all. It needs libtpu (the extra `plan`) and takes about 20 s for a
plan; with --full, which has the compiler make machine code and tell its cycles, many minutes.
"""

import json
import sys
import time
from typing import Any, NamedTuple

from t5like.plan.topology import Topology, prepare_environment, slices_of

prepare_environment()

from t5like.config import (  # noqa: E402
    CLS,
    MASK,
    SEP,
    Config,
    Data,
    Mesh,
    Objective,
    Optimizer,
    Train,
    Vocabulary,
)
from t5like.errors import UserError  # noqa: E402
from t5like.model.architectures import architecture, parameter_count  # noqa: E402
from t5like.plan.figures import figures  # noqa: E402


class Case(NamedTuple):
    """A model, the length of its rows, how many a chip has, and its optimizer."""

    objective: Any
    length: int
    rows: int
    optimizer: Any
    remat: Any


CASES = {
    "t5_1_1_xl": Case("span_corruption", 512, 16, "adafactor", "full"),
    "t5_1_1_xxl": Case("span_corruption", 512, 8, "adafactor", "full"),
    "ul2_20b": Case("span_corruption", 512, 8, "adafactor", "full"),
    "bert_large": Case("next_sentence", 512, 16, "adamw", "minimal"),
    "llama_2_7b": Case("causal", 2048, 2, "adamw", "full"),
}


def config_of(name: str, case: Case, chips: int) -> Config:
    """The run of a case on so many chips, all of which share rows and parameters."""
    model = architecture(name, remat=case.remat)
    extra = (MASK, CLS, SEP) if case.objective == "next_sentence" else ()
    vocabulary = Vocabulary(size=model.vocab - 200, sentinels=100, extra=extra)
    return Config(
        model=model,
        data=Data(
            store="-",
            length=case.length,
            objective=Objective(kind=case.objective),
            vocabulary=vocabulary,
        ),
        optimizer=Optimizer(name=case.optimizer, learning_rate=1e-3, schedule="constant"),
        mesh=Mesh(fsdp=-1),
        train=Train(directory="-", steps=100_000, batch=case.rows * chips),
    )


def may_fit(name: str, case: Case, where: Topology) -> bool:
    """Whether the slice's memory holds parameters, their gradients and the optimizer's state."""
    copies = {"adafactor": 2, "adamw": 4}[case.optimizer]
    assert where.device is not None
    return 4 * copies * parameter_count(architecture(name)) < where.count * where.device.memory


def smallest(name: str, case: Case, kind: str, full: bool) -> dict[str, Any]:
    """The figures of the first slice that fits."""
    for where in slices_of(kind):
        if not may_fit(name, case, where):
            continue
        started = time.monotonic()
        try:
            found = figures(config_of(name, case, where.count), where, full=full)
        except UserError as error:
            print(f"{name} on {where.name}: {error}", file=sys.stderr)
            continue
        taken = time.monotonic() - started
        if found["memory"]["fits"]:
            return found | {"model": name, "taken": taken}
        needed = found["memory"]["total"] / 2**30
        print(f"{name} on {where.name}: {needed:.1f} GiB do not fit ({taken:.0f} s)", file=sys.stderr, flush=True)
    return {"model": name, "topology": None}


def row(found: dict[str, Any]) -> str:
    """A plan in one line."""
    if found["topology"] is None:
        return f"{found['model']:<12} fits no slice"
    memory, step, mfu = found["memory"], found["time"], found["mfu"]
    filled = f"{memory['total'] / 2**30:6.1f} of {memory['usable'] / 2**30:.1f} GiB"
    times = [f"roofline {step['roofline']:.3f} s, MFU {mfu['roofline']:.0%}"]
    if step["scheduled"] is not None:
        times.append(f"scheduled {step['scheduled']:.3f} s, MFU {mfu['scheduled']:.0%}")
    longest = max(("products", "memory", "links"), key=step.__getitem__)
    line = f"{found['model']:<12} {found['topology']:<12} {found['batch']:>6,} rows {filled}  {'; '.join(times)}"
    return f"{line}; longest: {longest}  ({found['taken']:.0f} s)"


def main(words: list[str]) -> None:
    plans, full = [], "--full" in words
    names = [word for word in words if word != "--full"] or list(CASES)
    for name in names:
        for kind in ("v5e", "v5p"):
            plans.append(smallest(name, CASES[name], kind, full))
            print(row(plans[-1]), flush=True)
    print(json.dumps(plans))


if __name__ == "__main__":
    main(sys.argv[1:])
