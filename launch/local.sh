#!/usr/bin/env bash
# Trains a preset on this machine, evaluates it and shows what it says of held-out text.
#   bash launch/local.sh [PRESET] [--field value ...]     PYTHON=python3.12 chooses the interpreter
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

preset=${1:-configs/tiny_t5.py}
shift || true
t5like train "$preset" "$@"
t5like eval "$preset" "$@"
t5like generate "$preset" --held_out 3 "$@"
