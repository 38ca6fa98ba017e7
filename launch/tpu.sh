# shellcheck shell=bash
# Sourced by tpu_vm.sh and tpu_pod.sh: their flags, and what both do with the hosts of a TPU. `here` is the gcloud group
# that knows them, `everywhere` its flags for all hosts and `first` for the one that writes logs.
# shellcheck disable=SC2034,SC2154  # variables that one script sets and the other reads
# shellcheck source=launch/flags.sh
source launch/flags.sh

FLAGS="--name, --zone, --project, --accelerator, --runtime, --bucket, --spot, --worker, --delete-at-end, --unchecked"
FLAGS="$FLAGS, --dry-run"
PASSED="--network, --subnetwork, --service-account, --labels, --tags, --scopes, --metadata, --max-run-duration"
PASSED="$PASSED, --provisioning-model, --reservation, --valid-after-duration, --data-disk, --boot-disk, --description"
OVER="--internal-ip, --tunnel-through-iap" # the way to the hosts, as are --ssh-key-file=FILE and --batch-size=N
ANY=yes
ALPHA="--max-run-duration, --provisioning-model, --reservation, --boot-disk, --best-effort, --autocheckpoint-enabled"
ALPHA="$ALPHA, --workload-type, --network-config"
poll=${POLL_SECONDS:-30} # seconds between two looks at something
tries=6 # attempts at what fails; the pauses between them double
failures=0
# A host that has gone ends a connection in two minutes, and gcloud's own calls end after five.
PATIENT="-o ConnectTimeout=30 -o ServerAliveInterval=30 -o ServerAliveCountMax=4"

action="" name="" zone="" project="" accelerator="" runtime="" bucket="" spot="" worker="" slices="" valid_until=""
delete_at_end="" unchecked="" time_limit="" directory="" gcloud=(gcloud) way=(gcloud) over=()

# Reads the command line, and checks what every action needs. CREATING are the actions that ask for hosts.
parse_tpu() {
  local flag
  parse "$@"
  need zone "the zone of the TPU, such as us-central2-b"
  where=("--zone=$zone" ${project:+"--project=$project"})
  [ "$action" = list ] || need name "a name for the TPU"
  case $bucket in *[!a-z0-9._-]*) fail "--bucket $bucket is no name of a bucket: leave out gs:// and folders." ;; esac
  sort_passed
  if among "$action" "$CREATING"; then
    need accelerator "the type of TPU of a slice, such as v5litepod-8"
    image=$(image)
    for flag in ${passed[@]+"${passed[@]}"}; do
      if among "${flag%%=*}" "$ALPHA"; then gcloud=(gcloud alpha); fi
    done
  elif [ ${#passed[@]} -gt 0 ]; then
    unknown "${passed[0]%%=*}"
  fi
}

# Of the flags that nobody here knows, some are for the way to the hosts and not for their creation.
sort_passed() {
  local flag all=(${passed[@]+"${passed[@]}"})
  passed=()
  for flag in ${all[@]+"${all[@]}"}; do
    case $flag in
      --internal-ip | --ssh-key-file=* | --batch-size=*) over+=("$flag") ;;
      --tunnel-through-iap)
        over+=("$flag")
        [ "$here" != tpu-vm ] || way=(gcloud alpha) # which has it only there
        ;;
      *) passed+=("$flag") ;;
    esac
  done
}

need_config() {
  [ -n "${config-}" ] || fail "$action needs a CONFIG at the end, such as configs/t5_1_1_base.py."
  [ -n "$(git ls-files -- "$config")" ] && [ -z "$(git status --porcelain -- "$config")" ] ||
    fail "$config is not committed as it stands: the hosts get the committed tree, so commit it first."
  case $accelerator in
    v4-* | v5litepod-* | v5p-* | v6e-*) check_config "$accelerator" "${slices:-1}" ;;
    *) check_config ;;
  esac
}

# The system image of an accelerator type, unless --runtime names one.
image() {
  [ -z "$runtime" ] || { echo "$runtime" && return; }
  case $accelerator in
    v2-* | v3-* | v4-*) echo tpu-ubuntu2204-base ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v6e-*) echo v2-alpha-tpuv6e ;;
    *) fail "$accelerator is no accelerator type of v2-, v3-, v4-, v5litepod-, v5p- or v6e-: give --runtime its image." ;;
  esac
}

# Asks for the hosts with the given words of gcloud and all that is handed on to it. From now on they may cost money,
# whatever happens here; but what gcloud refuses (status 2), it has not asked for.
request() {
  local status=0
  remind
  run "${gcloud[@]}" compute tpus "$here" create "$name" "${where[@]}" --accelerator-type="$accelerator" "$@" \
    ${spot:+--spot} ${passed[@]+"${passed[@]}"} || status=$?
  if [ "$status" = 2 ]; then
    trap - EXIT
    fail "gcloud refuses these flags, and nothing was asked for."
  fi
  return "$status"
}

remind() {
  [ -n "$dry_run" ] ||
    trap 'echo "$name exists and costs money until: bash $script delete --name $name ${where[*]}" >&2' EXIT
}

on_hosts() {
  run "${way[@]}" compute tpus "$here" ssh "$name" "${where[@]}" "${everywhere[@]}" ${over[@]+"${over[@]}"} \
    --ssh-flag="$PATIENT" --command="$1"
}

on_first() {
  run "${way[@]}" compute tpus "$here" ssh "$name" "${where[@]}" "${first[@]}" ${over[@]+"${over[@]}"} \
    --ssh-flag="$PATIENT" --command="$1"
}

# The command line for an action of host.sh, which is ended after so many seconds.
host() {
  local known=() target=$directory
  [ -z "$bucket" ] || known+=("BUCKET=$bucket")
  if [ -n "$delete_at_end" ]; then
    case $target in bucket/*) target=gs://$bucket/${target#bucket/} ;; esac
    known+=("TPU=$here $name ${where[*]}" ${target:+"DIRECTORY=$target"})
  fi
  quote timeout "$2" env ${known[@]+"${known[@]}"} bash t5like/launch/host.sh "$1"
}

# The run on the first host in a word, as far as t5like is there.
ask() {
  on_first "[ -f t5like/launch/host.sh ] || { echo \"\$(hostname): not installed\"; exit 0; }; $(host status 60)"
}

say() {
  echo "$(date +%T) $*" >&2
}

# Counts an attempt that failed and waits before the next one; after the last one it ends.
again() {
  local pause=$((poll << failures))
  failures=$((failures + 1))
  [ "$failures" -lt "$tries" ] || give_up "$1 $failures times"
  say "$1; another try in $pause s"
  sleep "$pause"
}

# Ends with a sentence. `keep` deletes the hosts, as does --delete-at-end; otherwise the reminder says what they cost.
give_up() {
  if [ "$action" = keep ] || [ -n "$delete_at_end" ]; then
    remove
    fail "$1; the hosts are deleted." 1
  fi
  fail "$1." 1
}

# Installs and starts, again until it succeeds: a host may not yet let anybody in.
begin() {
  until install && start; do
    again "install or start failed"
  done
  failures=0
}

install() {
  run mkdir -p build &&
    run git archive --format=tar.gz --output=build/t5like.tar.gz HEAD &&
    run "${way[@]}" compute tpus "$here" scp build/t5like.tar.gz "$name:" "${where[@]}" "${everywhere[@]}" \
      ${over[@]+"${over[@]}"} --scp-flag="$PATIENT" &&
    on_hosts "mkdir -p t5like && tar -xzf t5like.tar.gz -C t5like && $(host install 3600)"
}

start() {
  on_hosts "$(host start 600) $(train quote)"
}

stop() {
  on_hosts "$(host stop 1200)"
}

logs() {
  local follow
  follow=$(host logs 0)
  case $worker in
    "") on_first "$follow" ;;
    all) on_hosts "$follow" ;;
    *) first=("${first[@]/%--worker=0/--worker=$worker}") && on_first "$follow" ;;
  esac
}
