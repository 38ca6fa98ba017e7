#!/usr/bin/env bash
#SBATCH --job-name=t5like
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=t5like-%j.log
#SBATCH --signal=INT@300
# A training job of Slurm, submitted from the root of the repository on a file system that all nodes see: one task for
# each node, or one for each GPU. `bash launch/slurm.sh --dry-run CONFIG` shows what the job would do.
#   sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 launch/slurm.sh CONFIG [--field value ...]
# Five minutes before the end of its time the run saves and ends with status 130 (SIGINT), and the job goes back into the
# queue, as it does by itself after preemption; the run goes on from its last checkpoint. So it does, ten times at most,
# where a task did not come or is lost (status 75).
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
script=launch/slurm.sh
if [ ! -f launch/dry_run.sh ]; then
  echo "$script: submit from the root of t5like's repository, not from $PWD." >&2
  exit 2
fi
# shellcheck source=launch/dry_run.sh
source launch/dry_run.sh
take_config "$@"

tasks=${SLURM_NTASKS_PER_NODE:-${SLURM_NTASKS:-1}}
case $tasks in
  1 | "${SLURM_GPUS_ON_NODE:-$tasks}") ;;
  *) fail "a node has $SLURM_GPUS_ON_NODE GPUs and $tasks tasks: submit with --ntasks-per-node=1 or as many as GPUs." ;;
esac
run export EXTRAS="${EXTRAS-gpu}"
run source launch/environment.sh

# A task that ends leaves the others time to finish a checkpoint; then they are ended too, and do not wait for ever.
status=0
train run srun --kill-on-bad-exit=0 --wait=120 --label || status=$?
if [ "$status" = 130 ] || [ -n "$dry_run" ] || { [ "$status" = 75 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 10 ]; }; then
  run scontrol requeue "${SLURM_JOB_ID:-JOB}"
  [ -n "$dry_run" ] || sleep 120 # Slurm ends this script; one that ended by itself could count as failed
fi
exit "$status"
