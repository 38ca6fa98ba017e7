#!/usr/bin/env bash
# A slice of TPU hosts, or several, as a queued resource: asks for it, waits, sends the committed tree, installs, trains
# on all hosts under supervisors, makes it anew after preemption, follows, deletes. POLL_SECONDS is the pause of waiting.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
script=launch/tpu_pod.sh
# shellcheck source=launch/tpu.sh
source launch/tpu.sh

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
  keep CONFIG     watches: restart after each preemption; when the run has ended, well or not, delete
  stop            saves the state and stops the run; the hosts go on costing money
  delete          the resource with its hosts
  list            what exists in the zone
With --bucket NAME the bucket is the folder bucket/ of each host: --train.directory bucket/runs/base.
END
}

here=queued-resources everywhere=(--node=all --worker=all) first=(--node=0 --worker=0)
ACTIONS="up, create, wait, install, start, logs, status, restart, keep, stop, delete, list"
FLAGS="$FLAGS, --slices, --valid-until"
poll=${POLL_SECONDS:-30}

create() {
  remind
  local nodes=("--node-id=$name")
  [ "${slices:-1}" = 1 ] || nodes=("--node-count=$slices" "--node-prefix=$name")
  run gcloud compute tpus queued-resources create "$name" "${where[@]}" --accelerator-type="$accelerator" \
    --runtime-version="$image" "${nodes[@]}" ${spot:+--spot} ${valid_until:+"--valid-until-duration=$valid_until"}
}

describe() {
  run gcloud compute tpus queued-resources describe "$name" "${where[@]}" "--format=value(state.state)"
}

# The state of the resource; Google's servers may fail to answer for a while.
state() {
  local attempt
  for attempt in 1 2 3 4 5; do
    describe && return
    [ "$attempt" = 5 ] || sleep "$poll"
  done
  fail "$name cannot be described; \`bash launch/tpu_pod.sh list --zone $zone\` shows what exists." 1
}

wait_until_active() {
  local now
  [ -z "$dry_run" ] || { describe && return; }
  while :; do
    now=$(state)
    echo "$(date +%T) $name is $now" >&2
    case $now in
      ACTIVE) return ;;
      FAILED | SUSPENDING | SUSPENDED | DELETING)
        fail "$name is $now and will not come: delete it, then ask again, perhaps in another zone." 1
        ;;
    esac
    sleep "$poll"
  done
}

delete() {
  run gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
  trap - EXIT
}

up() {
  create
  wait_until_active
  install
  start
}

ask() {
  on_first "$(host "$1")"
}

# Until the run on the first host has ended; one that does not answer is asked again.
keep() {
  local now word
  while :; do
    now=$(state)
    case $now in
      SUSPENDED | FAILED)
        delete
        up
        ;;
      ACTIVE)
        word=$(ask status || echo "no answer")
        echo "$(date +%T) $word" >&2
        case $word in
          *finished*)
            delete
            return
            ;;
          *refused* | *failed*)
            ask last || true
            delete
            fail "the run did not end well; the hosts are deleted, and their last lines stand above." 1
            ;;
        esac
        ;;
    esac
    sleep "$poll"
  done
}

# What `keep` does in each case.
explain_keep() {
  echo "# every $poll s"
  describe
  echo "# when it is ACTIVE"
  ask status
  echo "# when it is SUSPENDED or FAILED"
  delete
  up
  echo "# when the run has finished"
  delete
  echo "# when the run has failed"
  ask last
  delete
}

parse_tpu "$@"
case $action in
  up | create | restart | keep)
    need accelerator "the type of each slice, such as v5litepod-64"
    image=$(image)
    ;;
esac
case $action in
  up | start | restart | keep) need_config ;;
esac
case ${slices:-1} in
  0* | *[!0-9]*) fail "--slices $slices is no number of slices: give 1 or more." ;;
esac
case $action in
  wait) wait_until_active ;;
  status)
    describe
    on_hosts "$(host status)"
    ;;
  restart)
    delete
    up
    ;;
  keep) if [ -n "$dry_run" ]; then explain_keep; else keep; fi ;;
  stop) on_hosts "$(host stop)" ;;
  list)
    run gcloud compute tpus queued-resources list "${where[@]}"
    run gcloud compute tpus tpu-vm list "${where[@]}"
    ;;
  *) "$action" ;;
esac
