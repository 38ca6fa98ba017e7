# shellcheck shell=bash
# Sourced by tpu_pod.sh: what waits for a queued resource, and `keep`, which watches a run to its end. It looks at the
# state of the resource, does one thing about it, and looks again, so that it goes on from wherever it stands. What fails
# is tried again, at longer and longer intervals, and in the end the hosts are deleted: none of them idles unnoticed.
# shellcheck disable=SC2034,SC2154  # variables of tpu_pod.sh and tpu.sh

quiet=1800 # seconds after which a run that was stopped, or hosts that do not answer, are given up

clock() {
  date +%s
}

describe() {
  run gcloud compute tpus queued-resources describe "$name" "${where[@]}" "--format=value(state.state)"
}

# The state of the resource: one of Google's, `absent`, or `unknown` where gcloud fails, as it may for a while.
state() {
  local said errors
  errors=$(mktemp)
  if ! said=$(describe 2> "$errors"); then
    said=unknown
    if grep -q NOT_FOUND "$errors"; then said=absent; fi
  fi
  cat "$errors" >&2
  rm -f "$errors"
  echo "${said:-unknown}"
}

wait_until_active() {
  local now misses=0
  [ -z "$dry_run" ] || { describe && return; }
  while :; do
    now=$(state)
    say "$name is $now"
    case $now in
      ACTIVE) return ;;
      FAILED | SUSPENDING | SUSPENDED | DELETING)
        fail "$name is $now and will not come: delete it, then ask again, perhaps in another zone." 1
        ;;
      absent) trap - EXIT && fail "there is no $name in $zone: \`bash launch/tpu_pod.sh list --zone $zone\` shows what exists." 1 ;;
      unknown)
        misses=$((misses + 1))
        [ "$misses" -lt 5 ] ||
          fail "$name cannot be described; \`bash launch/tpu_pod.sh list --zone $zone\` shows what exists." 1
        ;;
      *) misses=0 ;;
    esac
    sleep "$poll"
  done
}

delete() {
  run gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet || return
  trap - EXIT
}

# Deletes the resource if there is one; what Google refuses for the moment is asked for again.
remove() {
  local attempt pause=$poll
  for ((attempt = 1; attempt <= tries; attempt++)); do
    if delete; then return; fi
    if [ "$(state)" = absent ]; then
      trap - EXIT
      return
    fi
    sleep "$pause"
    pause=$((2 * pause))
  done
  fail "$name could not be deleted: look at what Google says above." 1
}

keep() {
  local now end seen="" half="" since
  end=$(($(clock) + $(seconds_of "$time_limit")))
  since=$(clock)
  remind
  say "watching $name for $time_limit at most"
  while [ "$(clock)" -lt "$end" ]; do
    now=$(state)
    say "$name is $now"
    case $now in
      ACTIVE) seen=yes && look ;;
      absent) appear ;;
      unknown) ;; # nobody knows: ask again, up to the time limit
      *)
        since=$(clock) seen=yes half=""
        case $now in
          SUSPENDED) remove && seen="" && continue ;;
          FAILED) remove && seen="" && again "$name came to nothing (FAILED)" && continue ;;
        esac
        ;;
    esac
    sleep "$poll"
  done
  say "the time limit of $time_limit is over"
  [ "$now" != ACTIVE ] || stop || true
  give_up "$name was watched for $time_limit, its --time-limit"
}

# No resource: the first look, or our own deletion, or somebody else's.
appear() {
  if [ -n "$seen" ]; then
    trap - EXIT
    fail "$name is gone, deleted by somebody or by its own hosts when the run had ended; their last lines are in ${directory:-the run directory}/hosts." 1
  fi
  since=$(clock)
  create || again "$name could not be asked for"
}

# The run on an ACTIVE resource, by what its first host says.
look() {
  local word="half started"
  [ -n "$half" ] || word=$(ask || echo "no answer")
  say "$word"
  case $word in
    *running*)
      failures=0
      since=$(clock)
      ;;
    *finished*) remove && exit 0 ;;
    *refused* | *failed*)
      on_first "$(host last 60)" || true
      give_up "the run did not end well, and its last lines stand above"
      ;;
    *installed* | *"not started"* | half*)
      half=yes # until all hosts have started, whatever the first one says
      if install && start; then
        half=""
        since=$(clock)
      else
        again "install or start failed"
      fi
      ;;
    *)
      [ $(($(clock) - since)) -ge "$quiet" ] || return 0
      case $word in
        *stopped*) give_up "the run was stopped and not started again within $((quiet / 60)) min; \`restart\` goes on with it" ;;
      esac
      remove
      seen=""
      again "no host answered for $((quiet / 60)) min"
      ;;
  esac
}

# Seconds of a duration such as 12h.
seconds_of() {
  local number=${1%[smhd]}
  case $number in "" | 0* | *[!0-9]*) return 1 ;; esac
  case $1 in
    *s) echo "$number" ;;
    *m) echo $((number * 60)) ;;
    *h) echo $((number * 3600)) ;;
    *d) echo $((number * 86400)) ;;
    *) return 1 ;;
  esac
}

# What `keep` does in each case.
explain_keep() {
  echo "# every $poll s, for $time_limit at most; what fails is tried $tries times"
  describe
  echo "# when it is ACTIVE"
  ask
  echo "# when nothing is installed or started there"
  install
  start
  echo "# when it is SUSPENDED or FAILED, or no host answers for $((quiet / 60)) min"
  delete
  echo "# when it does not exist, but not if somebody else deleted it"
  create
  echo "# when the run has finished"
  delete
  echo "# when the run has failed"
  on_first "$(host last 60)"
  delete
  echo "# when the run was stopped for $((quiet / 60)) min"
  delete
  echo "# when the time is over"
  stop
  delete
}
