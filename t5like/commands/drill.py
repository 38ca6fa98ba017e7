"""The command that disturbs runs and holds them to one that was not disturbed: drill."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from t5like.commands import Command
from t5like.config import Config
from t5like.config.checks import FLAGS, require, require_fields, require_positive
from t5like.errors import UserError, did_you_mean

SIGNALS = ("kill", "term", "int")
FAULTS = (
    *("disk-full", "truncate", "bitflip", "read-only", "slow-disk", "peer-death", "two-trainers", "moved"),
    "metrics-damaged",
)
SEVERAL = ("peer-death",)
"""Faults of runs of several processes."""


@dataclass(frozen=True, kw_only=True)
class DrillOptions:
    """Options of `t5like drill`."""

    kills: int = 24
    """Disturbed runs, in which the kinds of --signals and --faults take turns."""
    seed: int = 0
    """Seed of the moments, files and bits."""
    processes: int = 1
    """Processes of each run, on the CPU devices of this machine if there are several."""
    signals: str = ",".join(SIGNALS)
    """Signals that end runs, up to three in a row; empty: none."""
    faults: str = "all"
    """Faults, joined by commas: disk-full, truncate, bitflip, read-only, slow-disk, peer-death (of several processes),
    two-trainers, moved, metrics-damaged; empty: none."""
    cold: int = 10
    """One start in so many is cold; the others are forked from a process that has imported all."""
    only: int | None = None
    """The number of the one disturbed run to make."""
    folder: str = ""
    """Folder of the runs, where those that are not as promised stay; a temporary one by default."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        require_fields(FLAGS, self)
        require_positive(FLAGS, self, "kills", "processes", "cold")
        require(0 <= self.seed < 2**31, f"--seed {self.seed} must be at least 0 and below 2**31.")
        require(
            self.only is None or 1 <= self.only <= self.kills,
            f"--only {self.only} must lie between 1 and --kills {self.kills}.",
        )
        require(bool(self.kinds()), "Nothing would be disturbed: name --signals or --faults.")

    def kinds(self) -> list[str]:
        """The kinds of disturbances, which take turns.

        Raises:
          UserError: there is no such kind, or it needs several processes.
        """
        faults = _named("--faults", self.faults, ("all", *FAULTS))
        if lacks := [name for name in faults if name in SEVERAL and self.processes == 1]:
            raise UserError(f"--faults {lacks[0]} needs several processes: set --processes 2.")
        if "all" in faults:
            faults = [name for name in FAULTS if self.processes > 1 or name not in SEVERAL]
        return [*_named("--signals", self.signals, SIGNALS), *faults]


def _named(flag: str, given: str, there: Iterable[str]) -> list[str]:
    names = [name for name in given.replace(",", " ").split() if name]
    if unknown := [name for name in names if name not in there]:
        raise UserError(f"{flag} {unknown[0]} is none that there is{did_you_mean(unknown[0], there)}")
    return list(dict.fromkeys(names))


def drill(config: Config, options: DrillOptions) -> None:
    """Print each trial and a table, or with --json one object; end with a sentence if a run is not as promised."""
    import pathlib
    import tempfile

    import jax

    from t5like.drill import report
    from t5like.drill.drill import Asked, trials
    from t5like.storage import is_remote

    require(
        not any(map(is_remote, (options.folder, config.data.store))), "A drill disturbs local runs: name local folders."
    )
    jax.config.update("jax_platforms", "cpu")  # this process compares; the devices are those of the runs
    asked = Asked(
        kinds=options.kinds(),
        numbers=[options.only] if options.only else range(1, options.kills + 1),
        seed=options.seed,
        processes=options.processes,
        cold=options.cold,
    )
    folder = pathlib.Path(options.folder or tempfile.mkdtemp(prefix="t5like_drill_")).expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    done = []

    def say(text: str) -> None:
        print(text, file=sys.stderr if options.json else sys.stdout, flush=True)

    for trial in trials(config, folder, asked, say):
        done.append(trial)
        say(report.line(trial))
    found, wrong = report.figures(done), [trial for trial in done if trial.found]
    if options.json:
        settings = {"processes": options.processes, "seed": options.seed, "steps": done[0].drill.course.steps}
        print(json.dumps({**settings, "kinds": found, "trials": [report.record(trial) for trial in done]}))
    else:
        print("", *report.table(found), sep="\n", flush=True)
    if wrong:
        numbers = ", ".join(str(trial.number) for trial in wrong)
        raise UserError(f"{len(wrong)} of {len(done)} runs are not as promised ({numbers}): look into {folder}.")
    say(f"All {len(done) - 1} disturbed runs are as promised.")


COMMANDS = (
    Command(
        "drill",
        "config",
        "disturb runs by signals and faults, and compare them with an undisturbed one",
        drill,
        DrillOptions,
    ),
)
