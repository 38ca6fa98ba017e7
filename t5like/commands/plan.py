"""The command that plans a run: what it needs on devices, before anyone pays for them."""

import json
import sys
import time
from typing import Any

from t5like.errors import UserError


def plan(config: Any, options: Any) -> None:
    """Prints the table, the lines of --explain, or with --json one object; ends with a sentence if it does not fit."""
    started = time.monotonic()
    from t5like.plan import topology as places

    if options.topology and options.topology.partition(":")[0] in places.SLICES:
        places.prepare_environment()
    from t5like.plan import explain, figures, programs, report, search

    where = places.topology(options.topology, options.slices)
    if options.full and options.topology.partition(":")[0] not in places.SLICES:
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
