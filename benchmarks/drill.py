"""Disturbs runs of the three families, and of two processes, by kills, signals and faults, and compares each bit for
bit with a run that nothing disturbed.

    python benchmarks/drill.py [DISTURBED] [--seed S] [--folder FOLDER]

DISTURBED runs (200 by default) are shared by four drills: tiny_t5, tiny_gpt and tiny_bert with one process, tiny_gpt
with two. Prints the table of each on standard error, one JSON line for each and one for all; the status is 1 if a run
was not as promised, and then its folder stays.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
DRILLS = (("tiny_t5", 1), ("tiny_gpt", 1), ("tiny_bert", 1), ("tiny_gpt", 2))
COURSE = {
    "train.steps": 40,
    "train.save_every": 5,
    "train.batch": 16,
    "eval.every": 8,
    "eval.rows": 128,
    "eval.batch": 64,
    "optimizer.warmup": 5,
}
"""A run of a few seconds with eight checkpoints and five evaluations."""
SUMMED = ("runs", "disturbances", "starts", "right")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("disturbed", type=int, nargs="?", default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", default="")
    given = parser.parse_args()
    folder, done = pathlib.Path(given.folder or tempfile.mkdtemp(prefix="t5like_drills_")).absolute(), []
    for number, (preset, processes) in enumerate(DRILLS):
        count = given.disturbed // len(DRILLS) + (number < given.disturbed % len(DRILLS))
        if not count:
            continue
        flags = {"kills": count, "seed": given.seed, "processes": processes, **COURSE}
        flags |= {"data.store": folder / "store", "train.compilation_cache": folder / "cache"}
        flags |= {"folder": folder / f"{preset}_{processes}"}
        words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
        started = time.monotonic()
        command = [sys.executable, "-m", "t5like", "drill", f"configs/{preset}.py", *words, "--json"]
        ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if not ended.stdout:
            return ended.returncode or 1
        found = json.loads(ended.stdout) | {"preset": preset, "seconds": round(time.monotonic() - started)}
        done.append(found)
        print(json.dumps(found), flush=True)
    disturbed = [kind for found in done for name, kind in found["kinds"].items() if name != "undisturbed"]
    sums = {name: sum(kind[name] for kind in disturbed) for name in SUMMED}
    worst = {name: max(kind[name] for kind in disturbed) for name in ("steps_lost", "seconds_to_end")}
    print(json.dumps({**sums, **worst, "seconds": sum(found["seconds"] for found in done)}), flush=True)
    return int(sums["right"] < sums["runs"])


if __name__ == "__main__":
    sys.exit(main())
