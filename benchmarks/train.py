"""Seconds of a training step and peak memory of ours beside others, on rows of the same sizes and the same cores.

    python benchmarks/train.py [--rounds 5] [--steps 3] [--cases t5_small t5_tiny gpt bert] [--t5x FOLDER]
                               [--trainers ours transformers T5X] [--cores 2]

Others are transformers with torch, where they are installed (constraints/originals.txt), and T5X's network, loss and
Adafactor from the sources in FOLDER, a checkout of google-research/t5x. All compute in float32 without dropout, each in
a process of its own, and take turns within a round. T5s are trained by Adafactor, GPT and BERT by AdamW. `of ours` is
the median over rounds of the seconds of ours divided by theirs in the same round, with the least and the greatest:
below 1, ours is quicker. The first steps compile and do not count; `warm-up` is what they took. `loss` is the last:
the rows are random and the same in each step, so it falls. `MB` is the process's peak memory, libraries included. T5s
of transformers share the matrices of embedding and output, which ours and T5X's do not. Each case prints a table and a
JSON line.
"""

import argparse
import json
import os
from typing import Any

import numpy as np
from trainers import Case, ours, t5x, transformers
from turns import Contender, Turn

CASES = {
    "t5_small": Case("t5_small", 8, 512, 114),
    "t5_tiny": Case("t5_tiny", 8, 512, 114),
    "gpt": Case("gpt", 8, 512),
    "bert": Case("bert", 8, 512),
}
TRAINERS = {"ours": ours, "transformers": transformers, "T5X": t5x}
DROPPED = 2


def measure(case: Case, names: list[str], rounds: int, steps: int, checkout: str) -> dict[str, list[Turn] | str]:
    """The turns of each trainer, the warm-up first, or the reason that there are none."""
    found: dict[str, list[Turn] | str] = {}
    contenders = dict[str, Contender]()
    for name in names:
        contender = Contender(TRAINERS[name], case, checkout)
        if contender.left_out:
            found[name] = contender.left_out
            continue
        contenders[name], found[name] = contender, [contender(DROPPED)]
    for _ in range(rounds):
        for name, contender in contenders.items():
            turns: Any = found[name]
            turns.append(contender(steps))
    for contender in contenders.values():
        contender.close()
    return found


def figures(turns: list[Turn], steps: int, ours: list[Turn] | None) -> dict[str, float]:
    """The row of a trainer: seconds a step, and ratios of rounds."""
    seconds = np.array([turn.seconds for turn in turns[1:]]) / steps
    row = {"seconds": float(np.median(seconds)), "best": float(seconds.min())}
    if ours is not None:
        ratios = np.array([turn.seconds for turn in ours[1:]]) / steps / seconds
        row |= {"of_ours": float(np.median(ratios)), "least": float(ratios.min()), "greatest": float(ratios.max())}
    return row | {"loss": turns[-1].result, "warm_up": turns[0].seconds, "megabytes": turns[-1].megabytes}


def print_table(case: Case, found: dict[str, list[Turn] | str], steps: int) -> None:
    """The table of a case, and its JSON line."""
    ours = found.get("ours")
    ours = ours if isinstance(ours, list) else None
    rows = {name: figures(turns, steps, ours) for name, turns in found.items() if isinstance(turns, list)}
    names = f"{'s a step':>9} {'best':>7} {'of ours':>10} {'':13} {'loss':>6} {'warm-up, s':>10} {'MB':>6}"
    print(f"\n{case.name:32} {names}")
    for name, one in found.items():
        if isinstance(one, str):
            print(f"  {name:30} left out: {one}")
            continue
        row = rows[name]
        ratio = " " * 24
        if "of_ours" in row:
            ratio = f"{row['of_ours']:10.2f} {'({:.2f}-{:.2f})'.format(row['least'], row['greatest']):13}"
        print(
            f"  {name:30} {row['seconds']:9.3f} {row['best']:7.3f} {ratio} {row['loss']:6.2f} {row['warm_up']:10.1f} "
            f"{row['megabytes']:6.0f}"
        )
    left = {name: one for name, one in found.items() if isinstance(one, str)}
    print(
        json.dumps({"case": case.name, **case._asdict(), "steps": steps, "trainers": rows, "left_out": left}),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES])
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=[*TRAINERS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--t5x", default="", metavar="FOLDER")
    parser.add_argument("--cores", type=int, default=2)
    asked = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: asked.cores])
    for name in asked.cases:
        found = measure(CASES[name], asked.trainers, asked.rounds, asked.steps, asked.t5x)
        print_table(CASES[name], found, asked.steps)


if __name__ == "__main__":
    main()
