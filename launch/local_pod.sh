#!/usr/bin/env bash
# Trains a preset with several processes on this machine, as on the hosts of a pod; a failure of one ends all.
#   bash launch/local_pod.sh PROCESSES [PRESET] [--field value ...]
#   DEVICES=4 sets the CPU devices of each (2 by default), COMMAND=eval another command than train,
#   LOGS=folder where processes 1 and up write; Ctrl-C saves and ends, once more ends at once
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=launch/environment.sh
source launch/environment.sh

processes=${1:-}
if ! [[ $processes =~ ^[1-9][0-9]*$ ]]; then
  echo "Give the number of processes first: bash launch/local_pod.sh 2 configs/tiny_t5.py" >&2
  exit 2
fi
shift
preset=configs/tiny_t5.py
if [[ $# -gt 0 && $1 != -* ]]; then
  preset=$1
  shift
fi
logs=${LOGS:-$(mktemp -d)}
mkdir -p "$logs"
port=$(python -c 'import socket; s = socket.create_server(("", 0)); print(s.getsockname()[1])')
export JAX_COORDINATOR_ADDRESS=127.0.0.1:$port JAX_NUM_PROCESSES=$processes JAX_PLATFORMS=cpu
export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=${DEVICES:-2}"

pids=()
for ((index = 1; index < processes; index++)); do
  JAX_PROCESS_ID=$index t5like "${COMMAND:-train}" "$preset" "$@" >"$logs/process$index.log" 2>&1 &
  pids+=($!)
done
JAX_PROCESS_ID=0 t5like "${COMMAND:-train}" "$preset" "$@" &
pids+=($!)
stopping=
trap 'stopping=1; kill -TERM "${pids[@]}" 2>/dev/null || true' INT TERM

status=0
until [[ $status -ne 0 ]]; do
  wait -n || status=$? # 127 when none is left
done
if [[ $status -ne 127 && -z $stopping ]]; then
  kill -TERM "${pids[@]}" 2>/dev/null || true
fi
last=0
for pid in "${pids[@]}"; do
  while kill -0 "$pid" 2>/dev/null; do
    wait "$pid" || true # a second Ctrl-C interrupts it
  done
  wait "$pid" || last=$?
done
if [[ $status -eq 127 || -n $stopping ]]; then
  status=$last
fi
if [[ $status -ne 0 && $processes -gt 1 ]]; then
  tail -n 3 "$logs"/process*.log >&2
fi
exit "$status"
