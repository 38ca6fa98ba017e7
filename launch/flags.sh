# shellcheck shell=bash
# Sourced by scripts that take `ACTION [flags] [CONFIG [its flags]]`: reads them by the script's FLAGS, SWITCHES and
# ACTIONS into variables that have the flags' names. What a script hands on to gcloud is in $passed: those of PASSED with
# their values, and, where ANY is set, every flag that nobody here knows, as --flag or --flag=value.
# shellcheck disable=SC2034,SC2154  # variables that one script sets and the other reads
source launch/dry_run.sh

SWITCHES="--spot, --delete-at-end, --unchecked, --dry-run"
PASSED="" ANY="" OVER=""
passed=()

# Flags may also come before the action.
parse() {
  local word
  while [ $# -gt 0 ]; do
    case $1 in
      --dry-run) dry_run=yes ;;
      --help | -h) usage && exit 0 ;;
      --*=*) take "${1%%=*}" "${1#*=}" ;;
      -*)
        if among "$1" "$SWITCHES" && among "$1" "$FLAGS"; then
          set_to "$1" yes
        elif among "$1" "$FLAGS, $PASSED"; then
          take "$1" "${2-}"
          shift
        else
          pass_on "$1" "${2-}"
        fi
        ;;
      *)
        if [ -n "$action" ]; then
          for word in "${@:2}"; do
            if among "${word%%=*}" "$FLAGS, $PASSED" && [ "$word" != --dry-run ]; then fail "$word comes before CONFIG."; fi
          done
          take_config "$@"
          break
        fi
        action=$1
        ;;
    esac
    shift
  done
  [ -n "$action" ] || fail "say what to do: $ACTIONS."
  among "$action" "$ACTIONS" || fail "there is no $action: say one of $ACTIONS."
}

# True if a word is in a list such as "a, b".
among() {
  case ", $2," in *", ${1:-nothing},"*) ;; *) return 1 ;; esac
}

set_to() {
  local variable=${1#--}
  printf -v "${variable//-/_}" %s "$2"
}

take() {
  case $2 in "" | -*) fail "$1 needs a value." ;; esac
  if among "$1" "$FLAGS"; then
    set_to "$1" "$2"
  elif [ -n "$ANY" ] || among "$1" "$PASSED"; then
    passed+=("$1=$2")
  else
    unknown "$1"
  fi
}

# A flag without a value here; a word behind it that is neither an action nor a file may have been meant as its value.
pass_on() {
  if among "$1" "$OVER"; then
    passed+=("$1")
    return
  fi
  if [ -z "$ANY" ] || { [ -n "$action" ] && ! among "$action" "$CREATING"; }; then unknown "$1"; fi
  case $2 in
    "" | -* | *.py) ;;
    *)
      among "$2" "$ACTIONS" || [ -e "$2" ] ||
        fail "$1 is no flag of this script, so that it goes to gcloud: give its value as $1=$2."
      ;;
  esac
  passed+=("$1")
}

unknown() {
  fail "there is no flag $1: those of this script are $FLAGS, and those of t5like come after CONFIG."
}

need() {
  local variable=${1//-/_}
  [ -n "${!variable}" ] || fail "$action needs --$1: $2."
}

# Mistakes in CONFIG and its flags are found here, before anything costs money, as is a slice that cannot hold the run.
# $directory is where the run will lie; in a dry run, or --unchecked, as far as the flags say it.
# Arguments: the name of the slice and the number of slices, if they are known.
check_config() {
  local slice=() word last="" checked
  for word in ${overrides[@]+"${overrides[@]}"}; do
    case $word in --train.directory=*) directory=${word#*=} ;; esac
    [ "$last" != --train.directory ] || directory=$word
    last=$word
  done
  [ -z "$unchecked" ] || return 0
  [ ! -x .venv/bin/t5like ] || PATH=$PWD/.venv/bin:$PATH
  command -v t5like > /dev/null ||
    fail "t5like is not installed here, so that nobody can check $config and its flags: run \`bash launch/local.sh\` once, or give --unchecked."
  [ -z "${1-}" ] || slice=("--topology=$1" "--slices=${2:-1}")
  checked=$(run t5like check "$config" ${overrides[@]+"${overrides[@]}"} ${slice[@]+"${slice[@]}"} \
    --show train.directory) || exit 2
  if [ -n "$dry_run" ]; then echo "$checked"; else directory=${checked##*$'\n'}; fi
}

# A run directory that is gone with the hosts, or that only one of them sees, is a run that is lost.
require_kept() {
  case ${directory:-gs://} in
    gs://* | s3://* | /mnt/*) ;;
    bucket/*) [ -n "$bucket" ] || fail "$directory is in no bucket: give --bucket NAME, whose folder it shall be in." ;;
    *)
      fail "$directory would be gone with the hosts: give --train.directory gs://NAME/..., --bucket NAME with --train.directory bucket/..., or a mount below /mnt/."
      ;;
  esac
}
