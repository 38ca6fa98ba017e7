# shellcheck shell=bash
# Sourced by tpu_vm.sh and tpu_pod.sh: their flags, and what both do with the hosts of a TPU. `here` is the gcloud group
# that knows them, `everywhere` its flags for all hosts and `first` for the one that writes logs.
# shellcheck disable=SC2034,SC2154  # variables that one script sets and the other reads
# shellcheck source=launch/flags.sh
source launch/flags.sh

FLAGS="--name, --zone, --project, --accelerator, --runtime, --bucket, --spot, --worker, --dry-run"

action="" name="" zone="" project="" accelerator="" runtime="" bucket="" spot="" worker="" slices="" valid_until=""

# Reads the command line, and checks what every action needs.
parse_tpu() {
  parse "$@"
  need zone "the zone of the TPU, such as us-central2-b"
  where=("--zone=$zone" ${project:+"--project=$project"})
  [ "$action" = list ] || need name "a name for the TPU"
  case $bucket in *[!a-z0-9._-]*) fail "--bucket $bucket is no name of a bucket: leave out gs:// and folders." ;; esac
}

need_config() {
  [ -n "${config-}" ] || fail "$action needs a CONFIG at the end, such as configs/t5_1_1_base.py."
  [ -n "$(git ls-files -- "$config")" ] && [ -z "$(git status --porcelain -- "$config")" ] ||
    fail "$config is not committed as it stands: the hosts get the committed tree, so commit it first."
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

on_hosts() {
  run gcloud compute tpus "$here" ssh "$name" "${where[@]}" "${everywhere[@]}" --command="$1"
}

on_first() {
  run gcloud compute tpus "$here" ssh "$name" "${where[@]}" "${first[@]}" --command="$1"
}

# From now on the hosts cost money, whatever happens here.
remind() {
  [ -n "$dry_run" ] ||
    trap 'echo "$name exists and costs money until: bash $script delete --name $name ${where[*]}" >&2' EXIT
}

host() {
  echo "${bucket:+BUCKET=$bucket }bash t5like/launch/host.sh $1"
}

install() {
  run mkdir -p build
  run git archive --format=tar.gz --output=build/t5like.tar.gz HEAD
  run gcloud compute tpus "$here" scp build/t5like.tar.gz "$name:" "${where[@]}" "${everywhere[@]}"
  on_hosts "mkdir -p t5like && tar -xzf t5like.tar.gz -C t5like && $(host install)"
}

start() {
  on_hosts "$(host start) $(train quote)"
}

logs() {
  case $worker in
    "") on_first "$(host logs)" ;;
    all) on_hosts "$(host logs)" ;;
    *) first=("${first[@]/%--worker=0/--worker=$worker}") && on_first "$(host logs)" ;;
  esac
}
