# shellcheck shell=bash
# Sourced by scripts that take `ACTION [flags] [CONFIG [its flags]]`: reads them by the script's FLAGS and ACTIONS into
# variables that have the flags' names.
# shellcheck disable=SC2034,SC2154  # variables that one script sets and the other reads
source launch/dry_run.sh

# Flags may also come before the action.
parse() {
  local word
  while [ $# -gt 0 ]; do
    case $1 in
      --dry-run) dry_run=yes ;;
      --spot) spot=yes ;;
      --help | -h) usage && exit 0 ;;
      --*=*) take "${1%%=*}" "${1#*=}" ;;
      -*)
        take "$1" "${2-}"
        shift
        ;;
      *)
        if [ -n "$action" ]; then
          for word in "${@:2}"; do
            case ", $FLAGS," in *", ${word%%=*},"*) [ "$word" = --dry-run ] || fail "$word comes before CONFIG." ;; esac
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
  case " ${ACTIONS//,/} " in *" $action "*) ;; *) fail "there is no $action: say one of $ACTIONS." ;; esac
}

take() {
  local variable=${1#--}
  case ", $FLAGS," in
    *", $1,"*) ;;
    *) fail "there is no flag $1: those of this script are $FLAGS, and those of t5like come after CONFIG." ;;
  esac
  case $2 in "" | -*) fail "$1 needs a value." ;; esac
  printf -v "${variable//-/_}" %s "$2"
}

need() {
  local variable=${1//-/_}
  [ -n "${!variable}" ] || fail "$action needs --$1: $2."
}
