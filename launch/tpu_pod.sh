#!/usr/bin/env bash
# A slice of TPU hosts, or several, as a queued resource: asks for it, waits, sends the committed tree, installs, trains
# on all hosts under supervisors, makes it anew after preemption, follows, deletes. POLL_SECONDS is the pause of waiting.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
script=launch/tpu_pod.sh
# shellcheck source=launch/tpu.sh
source launch/tpu.sh
# shellcheck source=launch/keep.sh
source launch/keep.sh

usage() {
  cat <<END
bash launch/tpu_pod.sh ACTION --name NAME --zone ZONE [--project P] [--dry-run] [CONFIG [its flags]]
  up CONFIG       create, wait, install and start
  create          asks for --accelerator v5litepod-64 [--slices 2] [--runtime IMAGE] [--spot] [--valid-until 6h]
  wait            until the hosts are there
  install         the committed tree and what it needs, on all hosts; again after a change
  start CONFIG    t5like train CONFIG on all hosts, restarted after failures and reboots; its flags follow CONFIG
  logs            follows the run on the host that logs, or with --worker N or --worker all on others
  status          the resource and the run on each host
  restart CONFIG  deletes what is left after a preemption, then up: the run goes on from its last checkpoint
  keep CONFIG     up, where there is nothing yet, then watches for [--time-limit 14d]: makes preempted hosts anew, tries
                  again what fails; when the run has ended, well or not, or was stopped for half an hour, deletes
  stop            saves the state and stops the run; the hosts go on costing money
  delete          the resource with its hosts
  list            what exists in the zone
With --bucket NAME the bucket is the folder bucket/ of each host: --train.directory bucket/runs/base.
With --delete-at-end the hosts themselves delete the resource when the run has ended, well or not.
CONFIG and its flags are checked by t5like on this machine before anything is asked for; --unchecked leaves that out.
Other flags go to gcloud's create as they are: --reserved, --network NAME, --service-account EMAIL, --any-flag=VALUE;
--internal-ip, --tunnel-through-iap and --ssh-key-file=FILE go to its ssh.
END
}

here=queued-resources everywhere=(--node=all --worker=all) first=(--node=0 --worker=0)
ACTIONS="up, create, wait, install, start, logs, status, restart, keep, stop, delete, list"
CREATING="up, create, restart, keep"
FLAGS="$FLAGS, --slices, --valid-until, --time-limit"

create() {
  local nodes=("--node-id=$name")
  [ "${slices:-1}" = 1 ] || nodes=("--node-count=$slices" "--node-prefix=$name")
  request --runtime-version="$image" "${nodes[@]}" ${valid_until:+"--valid-until-duration=$valid_until"}
}

up() {
  create
  wait_until_active
  begin
}

parse_tpu "$@"
case ${slices:-1} in
  0* | *[!0-9]*) fail "--slices $slices is no number of slices: give 1 or more." ;;
esac
[ -z "$time_limit" ] || [ "$action" = keep ] || fail "--time-limit is for keep, which $action is not."
time_limit=${time_limit:-14d}
seconds_of "$time_limit" > /dev/null || fail "--time-limit $time_limit is no duration: give one such as 12h or 3d."
case $action in
  up | start | restart | keep)
    need_config
    require_kept
    ;;
esac
case $action in
  wait) wait_until_active ;;
  status)
    describe
    on_hosts "$(host status 60)"
    ;;
  restart)
    remove
    up
    ;;
  keep) if [ -n "$dry_run" ]; then explain_keep; else keep; fi ;;
  list)
    run gcloud compute tpus queued-resources list "${where[@]}"
    run gcloud compute tpus tpu-vm list "${where[@]}"
    ;;
  *) "$action" ;;
esac
