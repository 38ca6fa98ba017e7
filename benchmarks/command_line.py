"""How long the command line takes to answer, best of five; prints one JSON line.

python benchmarks/command_line.py
"""

import json
import pathlib
import subprocess
import time

ROOT = pathlib.Path(__file__).parents[1]
LINES = {
    "help": ["--help"],
    "misspelt_flag": ["train", "configs/tiny_t5.py", "--train.stepz", "5"],
    "wrong_value": ["train", "configs/tiny_t5.py", "--model.vocab", "100"],
    "help_of_a_command": ["train", "configs/tiny_t5.py", "--help"],
    "help_with_every_field": ["train", "configs/tiny_t5.py", "--help", "all"],
}


def seconds(arguments: list[str]) -> float:
    started = time.monotonic()
    subprocess.run(["t5like", *arguments], cwd=ROOT, capture_output=True, check=False)
    return time.monotonic() - started


if __name__ == "__main__":
    print(json.dumps({name: round(min(seconds(line) for _ in range(5)), 3) for name, line in LINES.items()}))
