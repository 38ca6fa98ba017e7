"""Commands that look at a run before anyone pays for devices: plan says what it needs, check what is wrong with it."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Annotated, Literal

from t5like.commands import Command
from t5like.config import Config
from t5like.config.checks import FLAGS, require, require_fields, require_positive
from t5like.config.marks import applies_to
from t5like.errors import UserError, did_you_mean
from t5like.strict_json import dumps


@dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """Options of `t5like plan`."""

    topology: str = ""
    """Devices to plan for: a TPU slice such as v5e:4x4 or v5litepod-16, GPUs by formula such as h100:8; those of this
    machine by default."""
    slices: int = 1
    """TPU slices of that shape, joined by the data-centre network; mesh.slice follows."""
    price: Annotated[float | None, applies_to("explain", False)] = None
    """Price of an hour of one device, in any currency."""
    tokens: Annotated[float | None, applies_to("explain", False)] = None
    """Tokens to train on, such as 100e9, in place of train.steps: how many steps and hours they take. A run
    of train.epochs needs them, as its steps are known once its data is prepared."""
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
    num_beams: Annotated[int, applies_to("generate")] = 1
    """Beams of each prompt; 1 plans none."""
    explain: bool = False
    """List each parameter's shape, axes, mesh axes and bytes instead; nothing is compiled."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "slices", "prompts", "num_beams")
        require(self.generate >= 0, f"--generate {self.generate} must not be negative.")
        require(self.price is None or self.price >= 0, f"--price {self.price} must not be negative.")
        require(self.tokens is None or self.tokens >= 1, f"--tokens {self.tokens} must be 1 or more.")


def plan(config: Config, options: PlanOptions) -> None:
    """Print the table, the lines of --explain, or with --json one object; end with a sentence if it does not fit."""
    started = time.monotonic()
    from t5like.plan.topology import is_tpu, prepare_environment, topology

    if options.topology:
        prepare_environment()
    from t5like.plan import explain, figures, programs, report, search

    where = topology(options.topology, options.slices)
    if options.full and not is_tpu(options.topology):
        raise UserError("--full asks for the machine code of TPUs: give --topology one of these, such as v5e:4x4.")
    say = print if not options.json else _nothing
    if options.explain:
        rows = explain.rows(config, where)
        print(dumps(rows) if options.json else "\n".join(explain.as_lines(rows)))
        return
    if options.search:
        config, where = search.search(config, where, options.search, say)
    answers = programs.Answers(options.prompts, options.generate, options.num_beams)
    found = figures.figures(config, where, options.full, answers, figures.Budget(options.tokens, options.price))
    if options.json:
        print(dumps(found))
    else:
        print("\n".join(report.report(found, config)))
    if not found["memory"]["fits"]:
        sys.stdout.flush()
        raise UserError(report.fit(found))
    say(f"{report.fit(found)} Planned in {time.monotonic() - started:.0f} s.")


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """Options of `t5like check`."""

    topology: str = ""
    """TPU slice that shall hold the run, such as v5litepod-16: its mesh, batch and dimensions are checked too."""
    slices: int = 1
    """Slices of that shape."""
    show: tuple[str, ...] = ()
    """Fields whose values are printed, a line each, such as train.directory."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "slices")
        require(
            bool(self.topology) or self.slices == 1,
            f"--slices {self.slices} needs --topology: name a TPU slice such as v5e:4x4.",
        )


def check(config: Config, options: CheckOptions) -> None:
    """Print that the run is valid, or the values of --show; a mistake has ended the command before."""
    from t5like.config import presets

    if options.topology:
        from t5like.plan.topology import prepare_environment, topology

        prepare_environment()
        from t5like.plan.placed import require_fit

        require_fit(config, topology(options.topology, options.slices))
    leaves = presets.leaves(config)
    if unknown := [name for name in options.show if name not in leaves]:
        raise UserError(f"There is no field {unknown[0]}{did_you_mean(unknown[0], leaves)}")
    train = config.train
    course = f"{train.steps:,} steps" if train.steps else f"{train.epochs:g} epochs in steps"
    valid = f"It is a valid run: {course} of {train.batch:,} rows into {train.directory}."
    print("\n".join(str(leaves[name]) for name in options.show) or valid)


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
    Command("check", "config", "find mistakes in a run's config and flags before it starts", check, CheckOptions),
)
