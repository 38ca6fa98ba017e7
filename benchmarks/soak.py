"""Long lives: what a run, a log and a preparation need as they grow. Prints one JSON line for each part.

    python benchmarks/soak.py [PART ...] [--steps 20000] [--lines 1000000] [--documents 10000000] [--folder FOLDER]

`train`: a run of tiny steps with saves and evaluations, whose memory, descriptors and threads are read from outside
every second; slopes are those of straight lines through the second half, a thousand steps each. `log`: the same run
goes on with a metrics.jsonl of so many lines more; CPU seconds and peak memory beside those of going on without them.
`prepare`: so many short documents and a tenth of them become stores; peak memory of the command and its workers
together.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

import numpy as np

PRESET = """
from t5like.config import Config, Data, Eval, Model, Objective, Optimizer, Source, Train, Vocabulary

config = Config(
    model=Model(decoder_layers=1, embed=16, heads=2, kv=8, mlp=32, vocab=384, dtype="float32"),
    data=Data(
        store="store",
        sources=(Source(kind="text", path="text.txt", document="line"),),
        vocabulary=Vocabulary(kind="bytes", size=259, sentinels=0),
        objective=Objective(kind="causal"),
        length=16,
        held_out=0.05,
    ),
    optimizer=Optimizer(name="adamw", learning_rate=0.001),
    train=Train(directory="run", steps=20000, batch=4, save_every=200, compilation_cache="cache"),
    eval=Eval(every=500, rows=16, batch=8),
)
"""
WORDS = ["the", "model", "reads", "a", "line", "of", "text", "and", "writes", "it", "again"]
EVERY = 0.5
"""Seconds between two looks at a process."""


class Followed:
    """A command, and what it needs as it goes: a row of seconds, step, resident megabytes, descriptors and threads at
    each look."""

    def __init__(self, folder: pathlib.Path, *words: str, step: Callable[[], int] = int):
        self.rows, self.peak = [], 0.0
        began = time.monotonic()
        before = os.times()
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "t5like", *words], cwd=folder, stdout=log, stderr=log)
        watch = threading.Thread(target=self._watch, args=(process, began, step), daemon=True)
        watch.start()
        self.status = process.wait()
        watch.join()
        after = os.times()
        self.seconds = time.monotonic() - began
        self.cpu = after.children_user + after.children_system - before.children_user - before.children_system
        if self.status:
            raise SystemExit(
                f"t5like {' '.join(words)} ended with {self.status}: {(folder / 'log').read_text()[-600:]}"
            )

    def _watch(self, process: subprocess.Popen, began: float, step: Callable[[], int]) -> None:
        while process.poll() is None:
            try:
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                fields = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
                resident = int(fields["VmRSS"].split()[0]) / 1024
                descriptors = len(list(pathlib.Path(f"/proc/{process.pid}/fd").iterdir()))
                self.rows.append((time.monotonic() - began, step(), resident, descriptors, int(fields["Threads"])))
                self.peak = max(self.peak, sum(map(resident_of, family(process.pid))))
            except (OSError, KeyError, ValueError):  # it has just ended
                pass
            time.sleep(EVERY)


def family(number: int) -> list[int]:
    """A process and all that it has started."""
    found = [number]
    for each in found:
        for task in pathlib.Path(f"/proc/{each}/task").glob("*/children"):
            found += map(int, task.read_text().split())
    return found


def resident_of(number: int) -> float:
    """Resident megabytes of a process, its share of what it has in common with others (PSS)."""
    try:
        rolled = pathlib.Path(f"/proc/{number}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) / 1024 for line in rolled.splitlines() if line.startswith("Pss:"))


def last_step(run: pathlib.Path) -> int:
    """The step of the last line of metrics.jsonl."""
    try:
        with (run / "metrics.jsonl").open("rb") as file:
            file.seek(max(file.seek(0, 2) - 4096, 0))
            return json.loads(file.read().split(b"\n")[-2])["step"]
    except (OSError, IndexError, ValueError):
        return 0


def write_text(file: pathlib.Path, lines: int) -> None:
    """Lines of three to twelve words."""
    random = np.random.default_rng(0)
    with file.open("w") as opened:
        for first in range(0, lines, 100_000):
            count = min(100_000, lines - first)
            drawn = random.integers(len(WORDS), size=(count, 12)).tolist()
            lengths = random.integers(3, 13, size=count).tolist()
            opened.writelines(
                " ".join(WORDS[word] for word in row[:length]) + "\n"
                for row, length in zip(drawn, lengths, strict=True)
            )


def train(folder: pathlib.Path, steps: int) -> dict:
    """The slopes of a long run."""
    flags = ["--train.steps", str(steps), "--train.directory", "run"]
    followed = Followed(folder, "train", "preset.py", *flags, step=lambda: last_step(folder / "run"))
    rows = np.array(followed.rows)
    rows = rows[(rows[:, 1] > steps / 2) & (rows[:, 1] < steps)]
    found = {"part": "train", "steps": steps, "seconds": round(followed.seconds, 1), "looks": len(rows)}
    for column, name in ((2, "megabytes"), (3, "descriptors"), (4, "threads")):
        slope = np.polyfit(rows[:, 1] / 1000, rows[:, column], 1)[0]
        ends = (rows[0, column], rows[-1, column])
        found[name] = {"per_1000_steps": round(float(slope), 4), "half": round(ends[0], 1), "end": round(ends[1], 1)}
    return found


def log(folder: pathlib.Path, lines: int) -> dict:
    """Going on for a few steps with a log of so many lines, and without them."""
    run, found = folder / "run_short", {"part": "log", "lines": lines}
    Followed(folder, "train", "preset.py", "--train.steps", "200", "--train.directory", str(run))
    shutil.copytree(run, folder / "run_long")
    line = {"loss": 1.2345678, "accuracy": 0.25, "target_tokens": 64.0, "gradient_norm": 0.5, "learning_rate": 0.001}
    with (folder / "run_long" / "metrics.jsonl").open("w") as file:
        for number in range(lines):
            file.write(json.dumps({"step": 1 + number * 199 // lines, **line}) + "\n")
        file.write((run / "metrics.jsonl").read_text())
    for name in ("short", "long"):
        flags = ["--train.steps", "220"]
        followed = Followed(folder, "train", str(folder / f"run_{name}"), *flags)
        megabytes = max(row[2] for row in followed.rows)
        found[name] = {"cpu_seconds": round(followed.cpu, 1), "megabytes": round(megabytes)}
    return found


def prepare(folder: pathlib.Path, documents: int) -> dict:
    """Stores of so many documents and of a tenth of them."""
    found = {"part": "prepare", "documents": documents}
    for name, count in (("tenth", documents // 10), ("all", documents)):
        write_text(folder / "many.txt", count)
        flags = ["--data.store", f"store_{name}", "--data.sources.0.path", "many.txt"]
        followed = Followed(folder, "prepare", "preset.py", *flags)
        found[name] = {"seconds": round(followed.seconds, 1), "megabytes": round(followed.peak)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", choices=[[], "train", "log", "prepare"])
    for name, default in (("steps", 20_000), ("lines", 1_000_000), ("documents", 10_000_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--folder", default="")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(given.folder or made).absolute()
        folder.mkdir(exist_ok=True)
        (folder / "preset.py").write_text(PRESET)
        write_text(folder / "text.txt", 2000)
        for part in given.parts or ("train", "log", "prepare"):
            if part == "train":
                found = train(folder, given.steps)
            elif part == "log":
                found = log(folder, given.lines)
            else:
                found = prepare(folder, given.documents)
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
