"""All figures of a plan as plain values, which `--json` prints and the table shows.

Bytes are of one device, FLOPs of the whole step. Gradients are an estimate, float32 and split as the parameters;
they are among the compiler's temporary arrays, as the activations are, so that those are what gradients leave.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax

from t5like.config import Config, Lora
from t5like.cost.devices import mfu
from t5like.cost.flops import Flops, step_flops
from t5like.plan import formula
from t5like.plan.collectives import find_collectives, totals
from t5like.plan.compiled import Program, TooLarge, compile_all, compile_program
from t5like.plan.counts import Counts, count
from t5like.plan.estimate import StepTime, step_time
from t5like.plan.hlo import read_module
from t5like.plan.placed import training_on
from t5like.plan.programs import NONE, TRAIN, Answers
from t5like.plan.topology import Topology
from t5like.train.compile import shard_bytes, state_bytes
from t5like.train.state import Training

DAY = 86_400


class Budget(NamedTuple):
    """Of a run: the tokens that it is trained on, in place of its steps, and the price of an hour of a device."""

    tokens: float | None = None
    price: float | None = None


OPEN = Budget()


def figures(
    config: Config,
    topology: Topology,
    full: bool = False,
    answers: Answers = NONE,
    budget: Budget = OPEN,
) -> dict[str, Any]:
    """The figures of a run on a topology: of its compiled programs, or of its step by formula where there is no
    compiler. All but `programs` and `largest_program` are of the train step; a run with adapters has `full_fine_tuning`
    besides, the memory of the same step without them.

    Raises:
      UserError: what `training_on` and `programs.names` raise.
    """
    training = training_on(config, topology)
    beside = {"full_fine_tuning": _without_adapters(config, topology, full)} if config.model.lora.rank else {}
    if not topology.compiles:
        return by_formula(training, topology, budget) | beside
    programs = compile_all(training, topology, full, answers)
    step = programs[TRAIN]
    refused = isinstance(step, TooLarge)
    found = of_refusal(training, topology, step) if refused else of_program(training, topology, step, budget)
    return found | _of_all(training, programs, found["memory"]) | beside


def _without_adapters(config: Config, topology: Topology, full: bool) -> dict[str, Any]:
    """The memory of the train step of a run whose model is trained itself, in place of adapters."""
    whole = dataclasses.replace(config, model=dataclasses.replace(config.model, lora=Lora()))
    training = training_on(whole, topology)
    if not topology.compiles:
        return by_formula(training, topology, OPEN)["memory"]
    step = compile_program(training, topology, full, NONE, TRAIN)
    refused = isinstance(step, TooLarge)
    found = of_refusal(training, topology, step) if refused else of_program(training, topology, step, OPEN)
    return found["memory"]


def _of_all(training: Training, programs: dict[str, Program | TooLarge], memory: dict[str, Any]) -> dict[str, Any]:
    """Bytes of each program on a device, which is the largest, and whether all fit; the optimizer state stays there
    while others than the train step run."""
    usable, idle = memory["usable"], state_sizes(training)["optimizer"]
    sizes = {
        name: (program.needed if isinstance(program, TooLarge) else program.memory.total) + (name != TRAIN) * idle
        for name, program in programs.items()
    }
    largest = max(sizes, key=lambda name: sizes[name])
    found: dict[str, Any] = {"programs": sizes, "largest_program": largest}
    refused = [program for program in programs.values() if isinstance(program, TooLarge)]
    fits = not refused and (usable is None or sizes[largest] <= usable)
    if memory["fits"] and not fits:
        # The sentence and the advice are of the program that does not fit.
        parts = [part._asdict() for program in refused for part in program.largest]
        found |= {"memory": memory | {"fits": False}, "largest": parts}
    return found


def by_formula(training: Training, topology: Topology, budget: Budget) -> dict[str, Any]:
    """The figures that need no compiler; activations are what JAX keeps for the backward pass, before XLA."""
    device, config = topology.device, training.config
    assert device is not None
    kept, found = formula.kept_bytes(training), formula.collectives(training)
    sizes = {**state_sizes(training), "gradients": gradient_bytes(training), "activations": kept}
    counts = Counts(formula.products(config) // topology.count, formula.moved_bytes(training, kept), 0)
    total = sum(sizes.values())
    time = step_time(counts, found, device, training.mesh)
    return {
        **_about(training, topology),
        "memory": {**sizes, "total": total, "usable": device.memory, "fits": total <= device.memory},
        "programs": {TRAIN: total},
        "largest_program": TRAIN,
        "largest": formula.largest_parts(training),
        "flops": _flops(step_flops(config), counts, topology),
        "collectives": [vars(total) for total in totals(found)],
        **_times(config, topology, time, budget),
    }


def of_program(training: Training, topology: Topology, program: Program, budget: Budget) -> dict[str, Any]:
    """The figures of a step that was compiled."""
    memory, module = program.memory, read_module(program.text)
    found, counts = find_collectives(module, training.mesh), with_kernels(count(module), training, topology)
    device = topology.device
    state, gradients = state_sizes(training), gradient_bytes(training)
    usable = device.memory if device else None
    time = step_time(counts, found, device, training.mesh) if device else None
    return {
        **_about(training, topology),
        "memory": {
            **state,
            "gradients": gradients,
            "activations": max(memory.temporary - gradients, 0),
            "batch": memory.arguments - sum(state.values()),
            "code": memory.code if program.complete else None,
            "total": memory.total,
            "usable": usable,
            "fits": usable is None or memory.total <= usable,
            "in_place": memory.aliased / max(state_bytes(training), 1),
        },
        "flops": _flops(step_flops(training.config), counts, topology),
        "collectives": [vars(total) for total in totals(found)],
        **_times(training.config, topology, time, budget),
        "seconds": {"lowering": program.lowering, "compiling": program.compiling},
    }


def of_refusal(training: Training, topology: Topology, refused: TooLarge) -> dict[str, Any]:
    """The figures of a step that does not fit."""
    largest = [part._asdict() for part in refused.largest] or formula.largest_parts(training)
    memory = {**state_sizes(training), "gradients": gradient_bytes(training), "total": refused.needed}
    memory |= {"usable": refused.available, "fits": False}
    flops = _flops(step_flops(training.config), None, topology)
    return {**_about(training, topology), "memory": memory, "largest": largest, "flops": flops}


def with_kernels(counts: Counts, training: Training, topology: Topology) -> Counts:
    """The counts with attention's products by formula, where these are in kernels that the compiler cannot count.

    Their cycles are those of products at half of the peak, which splash attention reaches about.
    """
    if not counts.kernels:
        return counts
    products, device = 3 * step_flops(training.config).scores // topology.count, topology.device
    cycles = int(2 * products / device.peak * device.clock) if device and counts.cycles else 0
    return counts._replace(products=counts.products + products, cycles=counts.cycles + cycles)


def state_sizes(training: Training) -> dict[str, int]:
    """Bytes of the parameters and of the optimizer state on each device."""
    params, optimizer = (
        sum(map(shard_bytes, jax.tree.leaves(part))) for part in (training.abstract.params, training.abstract.opt_state)
    )
    return {"params": params, "optimizer": optimizer}


def gradient_bytes(training: Training) -> int:
    """Bytes of float32 gradients, split as the parameters that they are of, on each device."""
    leaves = jax.tree.leaves(training.trained)
    return sum(shard_bytes(leaf) * 4 // leaf.dtype.itemsize for leaf in leaves)


def _about(training: Training, topology: Topology) -> dict[str, Any]:
    device = topology.device
    return {
        "topology": topology.name,
        "slices": topology.slices,
        "devices": topology.count,
        "device": device.name if device else "unknown",
        "mesh": {name: size for name, size in training.mesh.shape.items() if size > 1},
        "parameters": training.network.parameter_count,
        "batch": training.config.train.batch,
        "accumulate": training.config.train.accumulate,
        "lengths": dict(training.config.data.lengths),
        "remat": training.config.model.remat,
    }


def _flops(formula: Flops, counts: Counts | None, topology: Topology) -> dict[str, Any]:
    found: dict[str, Any] = {"formula": formula.training, "unhalved": formula.training_unhalved}
    if counts is None or not counts.products:
        return found
    compiled = counts.products * topology.count
    return found | {"compiled": compiled, "ratio": compiled / formula.training, "kernels": counts.kernels}


def _times(config: Config, topology: Topology, time: StepTime | None, budget: Budget) -> dict[str, Any]:
    """Seconds of a step, MFU, and what the whole run takes, by the longer of the two estimates."""
    if time is None:
        return {"time": None, "mfu": None, "run": None}
    wanted, needed = step_flops(config).training, max(time.roofline, time.scheduled or 0.0)
    tokens = config.train.batch * sum(config.data.lengths.values())
    steps = math.ceil(budget.tokens / tokens) if budget.tokens else config.train.steps
    hours = needed * steps / 3600
    return {
        "time": {**time._asdict(), "roofline": time.roofline},
        "mfu": {
            "scheduled": time.scheduled and mfu(wanted, time.scheduled, topology.count, topology.device),
            "roofline": mfu(wanted, time.roofline, topology.count, topology.device),
        },
        "run": {
            "steps": steps,
            "tokens": steps * tokens,
            "tokens_per_step": tokens,
            "tokens_per_day": tokens / needed * DAY,
            "hours": hours,
            "days": hours / 24,
            "device_hours": hours * topology.count,
            "price": None if budget.price is None else hours * topology.count * budget.price,
        }
        if steps
        else None,  # of epochs, whose steps only the prepared data can tell
    }
