"""A cloud of one queued resource, in place of gcloud, with a clock of its own: `sleep` moves it and `date` reads it.

Each creation has a table: from so many seconds after it on, the resource is in a state and the run on it, once it was
started, in a word. A state `ERROR` is a gcloud that fails, a word `-` a host that does not answer.
"""

import pathlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

CLOUD = r"""#!/usr/bin/env bash
cd "$CLOUD"
program=${0##*/}
now=$(< clock)
case $program in
  sleep) echo $((now + $1)) > clock; exit ;;
  date) [ "$1" = +%s ] && echo "$now" || echo "at $now"; exit ;;
  t5like) echo "$*" >> checked; echo gs://b/runs/x; exit ;;
esac
number=$(< created) exists=""
[ ! -e exists ] || exists=yes
look() {  # state and word of the table now
  local from one two age=$((now - $(< born)))
  while read -r from one two; do [ "$age" -lt "$from" ] || state=$one word=$two; done < "table$number"
}
act() { echo "$now $1" >> acts; }
broken() {  # true as often as it says that this fails
  local left=0
  [ ! -e "fails_$1" ] || left=$(< "fails_$1")
  [ "$left" -gt 0 ] && echo $((left - 1)) > "fails_$1"
}
absent() { echo "ERROR: (gcloud.compute.tpus.queued-resources) NOT_FOUND: no resource" >&2; exit 1; }
echo $((now + 1)) > clock
case "$*" in
  *" create "*)
    act create
    broken create && exit 1
    [ -z "$exists" ] || { echo "ERROR: ALREADY_EXISTS" >&2; exit 1; }
    [ ! -e "table$((number + 1))" ] || number=$((number + 1))
    echo "$number" > created
    echo "$now" > born
    touch exists
    rm -f started
    ;;
  *" delete "*) act delete; broken delete && exit 1; [ -n "$exists" ] || absent; rm exists ;;
  *" describe "*)
    [ -n "$exists" ] || absent
    look
    [ "$state" != ERROR ] || { echo "ERROR: gcloud crashed" >&2; exit 1; }
    [ "$state" != GONE ] || { rm exists; absent; }
    echo "$state"
    ;;
  *" scp "*) act scp; broken scp && exit 1 ;;
  *"host.sh install") act install; broken install && exit 1 ;;
  *"host.sh start "*) act start; touch started; broken start && exit 1 ;;  # on the first host it has, if one fails
  *"host.sh stop") act stop ;;
  *"host.sh last") echo "the last lines" ;;
  *"host.sh status")
    look
    [ "$word" != - ] || exit 255
    if [ -e started ]; then echo "h: $word"; else echo "h: not installed"; fi
    ;;
esac
exit 0
"""
PROGRAMS = ("gcloud", "sleep", "date", "t5like")


class Row(NamedTuple):
    """From `seconds` after the creation on."""

    seconds: int
    state: str
    word: str = "running"


class Cloud:
    """The cloud in a folder: a table for each creation, of which the last one stays, and how often what fails.

    `exists` says that the first table's resource is there already, and was started if `started`.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        tables: Sequence[Sequence[Row]],
        fails: Mapping[str, int] = MappingProxyType({}),
        exists: bool = True,
        started: bool = True,
    ):
        self.folder = folder
        (folder / "programs").mkdir()
        (folder / "programs" / "cloud").write_text(CLOUD)
        (folder / "programs" / "cloud").chmod(0o755)
        for name in PROGRAMS:
            (folder / "programs" / name).symlink_to("cloud")
        for number, table in enumerate(tables, 1):
            (folder / f"table{number}").write_text("".join(f"{row.seconds} {row.state} {row.word}\n" for row in table))
        for name, times in fails.items():
            (folder / f"fails_{name}").write_text(str(times))
        for name, value in {"clock": 0, "born": 0, "created": int(exists)}.items():
            (folder / name).write_text(f"{value}\n")
        for name, there in {"exists": exists, "started": started}.items():
            if there:
                (folder / name).touch()

    @property
    def exists(self) -> bool:
        """True if there is a resource that costs money, or may."""
        return (self.folder / "exists").exists()

    @property
    def seconds(self) -> int:
        """The time since the beginning."""
        return int((self.folder / "clock").read_text())

    def acts(self) -> list[str]:
        """What was done to the resource, without looks at it."""
        lines = (self.folder / "acts").read_text().splitlines() if (self.folder / "acts").exists() else []
        return [line.split()[1] for line in lines]
