#!/usr/bin/env bash
# Trains on all GPUs of this machine, in one process, as JAX wants it on one node.
#   bash launch/gpu.sh CONFIG [--field value ...] [--dry-run]     PYTHON=python3.12 chooses the interpreter
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
script=launch/gpu.sh
# shellcheck source=launch/dry_run.sh
source launch/dry_run.sh
take_config "$@"

[ -n "$dry_run" ] || command -v nvidia-smi > /dev/null ||
  fail "this machine has no nvidia-smi: install NVIDIA's driver, or run bash launch/local.sh $config without a GPU."
run nvidia-smi --query-gpu=index,name,memory.total,memory.used,driver_version --format=csv
run export EXTRAS=gpu
run source launch/environment.sh
train run
