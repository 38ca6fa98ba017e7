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
With --delete-at-end the host itself deletes the machine when the run has ended, well or not.
CONFIG and its flags are checked by t5like on this machine before anything is asked for; --unchecked leaves that out.
Other flags go to gcloud's create as they are: --reserved, --network NAME, --service-account EMAIL, --any-flag=VALUE.
END
}

here=tpu-vm everywhere=(--worker=all) first=(--worker=0)
CREATING="up, create"
ACTIONS="up, create, install, start, logs, status, stop, delete, list"

create() {
  request --version="$image"
}

remove() {
  run gcloud compute tpus tpu-vm delete "$name" "${where[@]}" --quiet
  trap - EXIT
}

parse_tpu "$@"
case $action in
  up | start)
    need_config
    [ -z "$delete_at_end" ] || require_kept
    ;;
esac
case $action in
  up)
    create
    begin
    ;;
  create | install | start | logs | stop) "$action" ;;
  status)
    run gcloud compute tpus tpu-vm describe "$name" "${where[@]}" "--format=value(state)"
    on_hosts "$(host status 60)"
    ;;
  delete) remove ;;
  list) run gcloud compute tpus tpu-vm list "${where[@]}" ;;
esac
