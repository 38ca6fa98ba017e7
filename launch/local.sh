#!/usr/bin/env bash
# Trains a preset on this machine, evaluates it and shows what it makes of held-out text.
#   bash launch/local.sh [PRESET] [--field value ...]     PYTHON=python3.12 chooses the interpreter
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/environment.sh

preset=configs/tiny_t5.py
if [[ $# -gt 0 && $1 != -* ]]; then
  preset=$1
  shift
fi
t5like train "$preset" "$@"
t5like eval "$preset" "$@"
t5like generate "$preset" --held_out 256 --show 5 "$@"
