# shellcheck shell=bash
# Sourced by the launch scripts, from the root of the repository: shows each command and carries it out, or with
# --dry-run only shows it. Bash 3.2, which macOS has, is enough.

dry_run=""

fail() {
  echo "${script:-$(basename "$0")}: $1" >&2
  exit "${2:-2}"
}

# The words as a shell reads them back.
quote() {
  local word line=""
  for word; do
    case $word in
      "" | *[!A-Za-z0-9_./:=@%+,-]*) word="'$(printf '%s' "$word" | sed "s/'/'\\\\''/g")'" ;;
    esac
    line="$line $word"
  done
  printf '%s\n' "${line# }"
}

# Commands go to standard output in a dry run, and to standard error otherwise, so that what they print stays apart.
run() {
  if [ -n "$dry_run" ]; then
    quote "$@"
  else
    quote "$@" >&2
    "$@"
  fi
}

# What the command line gives to `t5like train`: $config and $overrides. A --dry-run is ours wherever it stands.
take_config() {
  local word
  config="" overrides=()
  for word; do
    case $word in
      --dry-run) dry_run=yes ;;
      *) if [ -z "$config" ]; then config=$word; else overrides+=("$word"); fi ;;
    esac
  done
  case $config in
    "") fail "CONFIG is missing: give a preset such as configs/t5_1_1_base.py." ;;
    -*) fail "CONFIG comes before the flags: put a preset such as configs/t5_1_1_base.py before $config." ;;
    *) [ -e "$config" ] || fail "there is no $config: the presets here are $(echo configs/*.py)." ;;
  esac
}

train() {
  "$@" t5like train "$config" ${overrides[@]+"${overrides[@]}"}
}
