"""Advice for a run that does not fit: flags to change, cheapest first."""

from collections.abc import Iterator
from typing import Any

from t5like.config import Config
from t5like.cost.devices import GIB
from t5like.plan.programs import EVALUATION, GENERATION, TRAIN
from t5like.plan.topology import SLICES, slices_of, topology

REMAT = {
    "none": "",
    "dots": "attention's scores and what lies between weights once more",
    "minimal": "most of a layer once more, a quarter more FLOPs",
    "full": "every layer once more, a third more FLOPs",
}
"""Policies by what they keep of a layer, most first, and what the backward pass computes again."""
PARTS = (2, 4, 8, 16, 32, 64, 128)


def advice(config: Config, figures: dict[str, Any]) -> Iterator[str]:
    """Flags that lower the memory of the largest program, with what each costs; those that cannot help are left out."""
    if figures["largest_program"] == EVALUATION:
        yield f"--eval.batch {max(config.eval.batch // 2, 1)}: the same result, by more and smaller batches"
    if figures["largest_program"] == GENERATION:
        yield "--prompts: the same answers, fewer at once"
    if figures["largest_program"] != TRAIN:
        if larger := larger_slice(figures["topology"]):
            yield f"--topology {larger}: more devices share state and batch, for a higher price an hour"
        return
    memory, mesh, state = figures["memory"], figures["mesh"], state_bytes(figures)
    copies = mesh.get("data", 1) * mesh.get("slice", 1)
    if mesh.get("data", 1) > 1:
        yield f"--mesh.data 1 --mesh.fsdp -1: the state is split over {copies} times the devices; more is gathered"
    if state < memory["usable"]:
        yield from _activations(config, figures)
    if config.optimizer.name != "adafactor" and memory["optimizer"] > memory["params"]:
        yield f"--optimizer.name adafactor: saves most of {memory['optimizer'] / GIB:,.1f} GiB, but it learns otherwise"
    if larger := larger_slice(figures["topology"]):
        yield f"--topology {larger}: more devices share state and batch, for a higher price an hour"


def state_bytes(figures: dict[str, Any]) -> int:
    """Parameters, optimizer state and gradients of each device: what no remat and no accumulation makes smaller."""
    return sum(figures["memory"][name] for name in ("params", "optimizer", "gradients"))


def _activations(config: Config, figures: dict[str, Any]) -> Iterator[str]:
    model, train, mesh = config.model, config.train, figures["mesh"]
    longest = max(config.data.lengths.values())
    if model.attention == "plain" or (model.attention == "auto" and longest > 512):
        yield "--model.attention linear: attention's memory grows with the length, no more with its square"
    policies = list(REMAT)
    for policy in policies[policies.index(model.remat) + 1 :] if model.remat in policies else ():
        yield f"--model.remat {policy}: the same result, but {REMAT[policy]}"
    rows = figures["devices"] // mesh.get("tensor", 1) // mesh.get("sequence", 1)
    parts = next((n for n in PARTS if n > train.accumulate and train.batch % (n * rows) == 0), None)
    if parts:
        yield f"--train.accumulate {parts}: the same result, but parameters are gathered {parts} times a step"


def larger_slice(name: str) -> str | None:
    """The next larger slice of the same type, or twice as many GPUs; None where there is none."""
    kind, _, size = name.partition(":")
    if kind in SLICES:
        return next((slice_.name for slice_ in slices_of(kind) if slice_.count > topology(name).count), None)
    return f"{kind}:{2 * int(size)}" if size.isdigit() else None
