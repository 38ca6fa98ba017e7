"""Runs the quick start of the three families from an empty folder and prints one JSON line each.

    python benchmarks/quick_start.py [PRESET ...]

Seconds are wall time of the commands `train`, `eval` and `generate`, with the vocabulary and the store made anew in the
first; losses are in nats a token on held-out text, beside a unigram model's on the same tokens.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
PRESETS = ["configs/tiny_t5.py", "configs/tiny_gpt.py", "configs/tiny_bert.py"]


def main(presets: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for preset in presets:
            run = pathlib.Path(folder) / pathlib.Path(preset).stem
            flags = ["--train.directory", str(run), "--data.store", f"{folder}/store", "--train.compilation_cache", ""]
            seconds = {}
            for command, *options in (["train"], ["eval"], ["generate", "--held_out", "3"]):
                started = time.monotonic()
                subprocess.run(["t5like", command, preset, *options, *flags], cwd=ROOT, check=True, stdout=sys.stderr)
                seconds[command] = round(time.monotonic() - started, 1)
            figures = json.loads((run / "eval.json").read_text())
            kept = ("step", "loss", "bits_per_byte", "text_loss", "unigram_text_loss")
            line = {"preset": preset, "python": sys.version.split()[0], "seconds": seconds}
            print(json.dumps(line | {name: round(figures[name], 3) for name in kept}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or PRESETS)
