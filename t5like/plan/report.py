"""A plan's figures as lines that people read."""

from collections.abc import Iterator
from typing import Any

from t5like.config import Config
from t5like.cost.devices import GIB
from t5like.plan.advice import advice
from t5like.plan.programs import TRAIN


def report(figures: dict[str, Any], config: Config) -> Iterator[str]:
    """The table of a plan."""
    mesh = " ".join(f"{name}={size}" for name, size in figures["mesh"].items()) or "one device"
    slices = f"{figures['slices']} slices of " if figures["slices"] > 1 else ""
    lengths = " + ".join(str(length) for length in figures["lengths"].values())
    parts = f", in {figures['accumulate']} parts" if figures["accumulate"] > 1 else ""
    yield f"{slices}{figures['topology']}: {figures['devices']:,} device(s), mesh {mesh}"
    yield f"{figures['parameters']:,} parameters; remat {figures['remat']}"
    yield f"{figures['batch']:,} rows of {lengths} tokens in a step{parts}"
    yield from _memory(figures)
    yield from _programs(figures)
    yield from _flops(figures["flops"], "full_fine_tuning" in figures)
    if not figures["memory"]["fits"]:
        yield from _refusal(figures, config)
        return
    yield from _collectives(figures["collectives"])
    yield from _times(figures)


def gib(size: float | int) -> str:
    """Bytes as GiB, with three digits."""
    return f"{size / GIB:,.2f} GiB" if size >= GIB / 100 else f"{size / 2**20:,.2f} MiB"


def fit(figures: dict[str, Any]) -> str:
    """A sentence: the plan fits, or it does not."""
    memory = figures["memory"]
    if memory["usable"] is None:
        return f"It needs {gib(memory['total'])} on each device, whose memory is not known."
    how, largest = "fits" if memory["fits"] else "does not fit", figures["largest_program"]
    which = "" if largest == TRAIN else f" for the {largest}"
    return f"It {how}: {gib(figures['programs'][largest])} of {gib(memory['usable'])} on each device{which}."


ROWS = {
    "params": "parameters",
    "optimizer": "optimizer state",
    "gradients": "gradients (estimate)",
    "activations": "activations and other temporaries",
    "batch": "batch",
    "code": "code",
}


def _memory(figures: dict[str, Any]) -> Iterator[str]:
    memory, whole = figures["memory"], figures.get("full_fine_tuning")
    yield ""
    yield f"The train step, on each device{'full fine-tuning':>36}" if whole else "The train step, on each device"
    for name, label in {**ROWS, "total": "in all"}.items():
        if memory.get(name) is not None:
            beside = f"{gib(whole[name]):>18}" if whole and whole.get(name) is not None else ""
            yield f"  {label:<34}{gib(memory[name]):>14}{beside}"
    if memory["usable"] is not None:
        yield f"  {'usable':<34}{gib(memory['usable']):>14}"
    if memory.get("in_place", 1.0) < 0.95:
        yield f"  The state is copied: only {memory['in_place']:.0%} of it is changed in place."


def _programs(figures: dict[str, Any]) -> Iterator[str]:
    yield ""
    if len(figures["programs"]) == 1:
        yield "The train step alone is estimated: evaluation and generation need a compiler for these devices."
        return
    yield "Programs of the run, with all that lies on a device beside each"
    for name, size in figures["programs"].items():
        mark = "  the largest" if name == figures["largest_program"] else ""
        yield f"  {name:<34}{gib(size):>14}{mark}"


def _flops(flops: dict[str, Any], adapted: bool) -> Iterator[str]:
    yield ""
    yield "FLOPs of a step, all devices"
    label = "formula, without frozen gradients" if adapted else "formula, 3 x forward pass"
    yield f"  {label:<34}{flops['formula']:>14.4g}"
    if flops["unhalved"] != flops["formula"]:
        yield f"  {'formula, causal scores unhalved':<34}{flops['unhalved']:>14.4g}"
    if "compiled" in flops:
        share = f"{flops['ratio']:.3f} of the formula{', kernels as in it' if flops['kernels'] else ''}"
        yield f"  {'products that are computed':<34}{flops['compiled']:>14.4g}  {share}"


def _refusal(figures: dict[str, Any], config: Config) -> Iterator[str]:
    yield ""
    if figures["largest"]:
        yield "Its largest parts, on each device"
        for part in figures["largest"]:
            yield f"  {gib(part['bytes']):>12}  {part['shape']}  {part['operation']}".rstrip()
        yield ""
    yield "What to change, in order of cost"
    for line in advice(config, figures):
        yield f"  {line}"


def _collectives(collectives: list[dict[str, Any]]) -> Iterator[str]:
    if not collectives:
        return
    yield ""
    yield f"Collectives of a step{'over':>21}{'count':>12}{'bytes':>14}{'sent by each':>16}"
    for total in collectives:
        axes = "+".join(total["axes"]) or "-"
        row = f"  {total['kind']:<24}{axes:>16}{total['count']:>12,}{gib(total['bytes']):>14}{gib(total['sent']):>16}"
        yield row


def _times(figures: dict[str, Any]) -> Iterator[str]:
    time, mfu, run = figures["time"], figures["mfu"], figures["run"]
    yield ""
    if time is None:
        yield f"Time and MFU: n/a, as the figures of this device ({figures['device']}) are not known."
        return
    yield f"Time of a step{'seconds':>28}{'MFU':>10}"
    if time["scheduled"] is None and "seconds" in figures:
        yield "  as the compiler schedules it       only with --full, which makes machine code"
    elif time["scheduled"] is not None:
        yield f"  {'as the compiler schedules it':<34}{time['scheduled']:>6.3f}{mfu['scheduled']:>10.1%}"
    yield f"  {'roofline, the longest of':<34}{time['roofline']:>6.3f}{mfu['roofline']:>10.1%}"
    for name, label in {"products": "matrix products", "memory": "memory", "links": "links"}.items():
        yield f"    {label:<32}{time[name]:>6.3f}"
    yield ""
    yield f"The run, {run['steps']:,} steps at the longer of these two times"
    yield f"  {'tokens':<34}{run['tokens']:>14.4g}"
    yield f"  {'tokens a day':<34}{run['tokens_per_day']:>14.4g}"
    yield f"  {'hours':<34}{run['hours']:>14,.2f}"
    yield f"  {'days':<34}{run['days']:>14,.2f}"
    yield f"  {'device-hours':<34}{run['device_hours']:>14,.1f}"
    if run["price"] is not None:
        yield f"  {'price':<34}{run['price']:>14,.2f}"
