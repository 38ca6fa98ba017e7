#!/usr/bin/env bash
# One host with TPUs: makes it, sends the committed tree, installs, trains under a supervisor, follows, deletes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
script=launch/tpu_vm.sh
# shellcheck source=launch/tpu.sh
source launch/tpu.sh

usage() {
  cat <<END
bash launch/tpu_vm.sh ACTION --name NAME --zone ZONE [--project P] [--dry-run] [CONFIG [its flags]]
  up CONFIG       create, install and start --accelerator v5litepod-8 [--runtime IMAGE] [--spot]
  create          only the machine, which costs money from now on
  install         the committed tree and what it needs; again after a change
  start CONFIG    t5like train CONFIG, restarted after failures and reboots; its flags follow CONFIG
  logs            follows the run
  status          the machine and the run
  stop            saves the state and stops the run; the machine goes on costing money
  delete          the machine and its disk
  list            what exists in the zone
With --bucket NAME the bucket is the folder bucket/ of the host: --train.directory bucket/runs/base.
END
}

here=tpu-vm everywhere=(--worker=all) first=(--worker=0)
ACTIONS="up, create, install, start, logs, status, stop, delete, list"

create() {
  remind
  run gcloud compute tpus tpu-vm create "$name" "${where[@]}" --accelerator-type="$accelerator" \
    --version="$image" ${spot:+--spot}
}

parse_tpu "$@"
case $action in
  up | create)
    need accelerator "the type of TPU, such as v5litepod-8"
    image=$(image)
    ;;
esac
case $action in
  up | start) need_config ;;
esac
case $action in
  up)
    create
    install
    start
    ;;
  create | install | start | logs) "$action" ;;
  status)
    run gcloud compute tpus tpu-vm describe "$name" "${where[@]}" "--format=value(state)"
    on_hosts "$(host status)"
    ;;
  stop) on_hosts "$(host stop)" ;;
  delete) run gcloud compute tpus tpu-vm delete "$name" "${where[@]}" --quiet ;;
  list) run gcloud compute tpus tpu-vm list "${where[@]}" ;;
esac
