"""The command that plans a run: what it needs on devices, before anyone pays for them."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import Annotated, Literal

from t5like.commands import Command
from t5like.config import Config
from t5like.config.checks import FLAGS, require, require_fields, require_positive
from t5like.config.marks import applies_to
from t5like.errors import UserError


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Options of `t5like plan`."""

    topology: str = ""
    """Devices to plan for: a TPU slice such as v5e:4x4 or v5p:4x4x4, GPUs by formula such as h100:8; those of this
    machine by default."""
    slices: int = 1
    """TPU slices of that shape, joined by the data-centre network; mesh.slice follows."""
    price: Annotated[float | None, applies_to("explain", False)] = None
    """Price of an hour of one device, in any currency."""
    search: Annotated[Literal["", "batch", "slice"], applies_to("explain", False)] = ""
    """Tries what fits: `batch` finds the largest batch with the cheapest remat, `slice` the smallest slice of the
    topology's type."""
    full: Annotated[bool, applies_to("explain", False)] = False
    """Makes machine code for TPUs too, which takes ten times as long and tells the cycles that the compiler
    expects and the size of the code."""
    generate: Annotated[int, applies_to("explain", False)] = 0
    """Tokens of the answers whose generation is planned too; 0 plans none."""
    prompts: Annotated[int, applies_to("generate")] = 16
    """Prompts that are answered at once, each as long as a row."""
    explain: bool = False
    """List each parameter's shape, axes, mesh axes and bytes instead; nothing is compiled."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "slices", "prompts")
        require(self.generate >= 0, f"--generate {self.generate} must not be negative.")
        require(self.price is None or self.price >= 0, f"--price {self.price} must not be negative.")


def plan(config: Config, options: PlanOptions) -> None:
    """Print the table, the lines of --explain, or with --json one object; end with a sentence if it does not fit."""
    started = time.monotonic()
    from t5like.plan.topology import SLICES, prepare_environment, topology

    if options.topology and options.topology.partition(":")[0] in SLICES:
        prepare_environment()
    from t5like.plan import explain, figures, programs, report, search

    where = topology(options.topology, options.slices)
    if options.full and options.topology.partition(":")[0] not in SLICES:
        raise UserError("--full asks for the machine code of TPUs: give --topology one of these, such as v5e:4x4.")
    say = print if not options.json else _nothing
    if options.explain:
        rows = explain.rows(config, where)
        print(json.dumps(rows) if options.json else "\n".join(explain.as_lines(rows)))
        return
    if options.search:
        config, where = search.search(config, where, options.search, say)
    answers = programs.Answers(options.prompts, options.generate)
    found = figures.figures(config, where, options.price, options.full, answers)
    if options.json:
        print(json.dumps(found))
    else:
        print("\n".join(report.report(found, config)))
    if not found["memory"]["fits"]:
        sys.stdout.flush()
        raise UserError(report.fit(found))
    say(f"{report.fit(found)} Planned in {time.monotonic() - started:.0f} s.")


def _nothing(line: str) -> None:
    """Lines that people read have no place in --json."""


COMMANDS = (
    Command(
        "plan",
        "config",
        "estimate memory, time and price of a run on devices that nobody owns yet",
        plan,
        PlanOptions,
    ),
)
