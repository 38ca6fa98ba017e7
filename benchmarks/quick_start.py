"""Runs the quick start of the three families from an empty folder and prints one JSON line each.

    python benchmarks/quick_start.py [PRESET ...]

Seconds are wall time of the commands `train`, `eval` and `generate`, with the vocabulary and the store made anew in the
first, and `cpu_seconds` what all of them computed; losses are in nats a token on held-out text, beside a unigram
model's on the same tokens. `exact` is the share of gaps in 256 held-out passages that the model fills token for token,
`commonest` the share of the one answer that fits most of these gaps. The passages are those of seed 0; the first five
go to standard error as people see them.
"""

import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
PRESETS = ["configs/tiny_t5.py", "configs/tiny_gpt.py", "configs/tiny_bert.py"]
GENERATE = ["generate", "--held_out", "256", "--show", "5", "--seed", "0"]


def main(presets: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for preset in presets:
            run = pathlib.Path(folder) / pathlib.Path(preset).stem
            flags = ["--train.directory", str(run), "--data.store", f"{folder}/store", "--train.compilation_cache", ""]
            seconds, before = {}, cpu_seconds()
            for command, *options in (["train"], ["eval"], GENERATE):
                started = time.monotonic()
                subprocess.run(["t5like", command, preset, *options, *flags], cwd=ROOT, check=True, stdout=sys.stderr)
                seconds[command] = round(time.monotonic() - started, 1)
            figures = json.loads((run / "eval.json").read_text())
            shares = json.loads((run / "samples" / f"{figures['step']}.shares.json").read_text())
            line = {"preset": preset, "python": sys.version.split()[0], "seconds": seconds}
            line["cpu_seconds"] = round(cpu_seconds() - before)
            kept = ("step", "loss", "bits_per_byte", "text_loss", "unigram_text_loss")
            line |= {name: round(figures[name], 3) for name in kept}
            line |= {"gaps": shares["gaps"], "unit": shares["unit"], "commonest_text": shares["commonest"]}
            line |= {"exact": round(shares["exact"] / shares["gaps"], 4)}
            line |= {"commonest": round(shares["commonest_exact"] / shares["gaps"], 4)}
            print(json.dumps(line, ensure_ascii=False), flush=True)


def cpu_seconds() -> float:
    """Seconds that the processors have worked for commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main(sys.argv[1:] or PRESETS)
