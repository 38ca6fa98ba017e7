"""Programs that record how they are called, in place of gcloud, kubectl and others, and what those programs accept.

`SYNTAX` is written after their reference pages: gcloud's of October 2025, kubectl's of 1.34, Slurm's of 22.05, NVIDIA's
of driver 580. A call that is not in it is a mistake of a launch script.
"""

import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

PROGRAMS = (
    "gcloud",
    "ssh",
    "kubectl",
    "sbatch",
    "srun",
    "scontrol",
    "nvidia-smi",
    "sudo",
    "systemctl",
    "gcsfuse",
    "mountpoint",
    "t5like",
)
NAME, WORD, NUMBER, ANY = r"[a-z]([-a-z0-9]*[a-z0-9])?", r"\S+", r"[1-9]\d*", r"(?s).+"
ZONE, WORKER = r"[a-z]+-[a-z]+\d-[a-z]", r"all|\d+"
WHERE = {"--zone": ZONE, "--project": NAME}
TPU = {
    "--accelerator-type": r"(v[234]|v5p|v5litepod|v6e)-\d+",
    **dict.fromkeys(("--spot", "--reserved", "--internal-ips")),
    **dict.fromkeys(("--network", "--subnetwork", "--service-account", "--labels", "--max-run-duration"), WORD),
}
ON_HOSTS = {**WHERE, "--worker": WORKER, "--tunnel-through-iap": None}
SSH = {"--ssh-flag": ANY, "--command": ANY}
ON_NODES = {**ON_HOSTS, "--node": WORKER}


class Syntax(NamedTuple):
    """What follows the words of a command: its positions, its flags with their values (None: a switch), and the flags
    that it cannot do without; of a tuple there, exactly one."""

    positions: tuple[str, ...]
    flags: Mapping[str, str | None]
    required: tuple[str | tuple[str, ...], ...] = ()


SYNTAX = {
    "gcloud compute tpus tpu-vm create": Syntax((NAME,), {**WHERE, **TPU, "--version": WORD}, ("--version",)),
    "gcloud compute tpus tpu-vm ssh": Syntax((NAME,), {**ON_HOSTS, **SSH}),
    "gcloud compute tpus tpu-vm scp": Syntax((WORD, f"{NAME}:"), {**ON_HOSTS, "--scp-flag": ANY}),
    "gcloud compute tpus tpu-vm describe": Syntax((NAME,), {**WHERE, "--format": r"value\(state\)", "--quiet": None}),
    "gcloud compute tpus tpu-vm delete": Syntax((NAME,), {**WHERE, "--quiet": None}),
    "gcloud compute tpus tpu-vm list": Syntax((), WHERE, ("--zone",)),
    "gcloud compute tpus queued-resources create": Syntax(
        (NAME,),
        {
            **WHERE,
            **TPU,
            "--runtime-version": WORD,
            "--node-id": NAME,
            "--node-count": NUMBER,
            "--node-prefix": NAME,
            "--valid-until-duration": r"\d+[smhd]",
        },
        ("--runtime-version", "--accelerator-type", ("--node-id", "--node-count")),
    ),
    "gcloud compute tpus queued-resources ssh": Syntax((NAME,), {**ON_NODES, **SSH}),
    "gcloud compute tpus queued-resources scp": Syntax((WORD, f"{NAME}:"), {**ON_NODES, "--scp-flag": ANY}),
    "gcloud compute tpus queued-resources describe": Syntax(
        (NAME,), {**WHERE, "--format": r"value\(state\.state\)", "--quiet": None}
    ),
    "gcloud compute tpus queued-resources delete": Syntax((NAME,), {**WHERE, "--force": None, "--quiet": None}),
    "gcloud compute tpus queued-resources list": Syntax((), WHERE, ("--zone",)),
    "gcloud storage cp": Syntax(("-", r"gs://\S+"), {}),
    "kubectl apply": Syntax((), {"--filename": "-"}, ("--filename",)),
    "kubectl get": Syntax((r"jobset|pods", NAME), {"--namespace": NAME, "--selector": WORD}),
    "kubectl logs": Syntax(
        (), {"--namespace": NAME, "--selector": WORD, "--follow": None, "--tail": NUMBER}, ("--selector",)
    ),
    "kubectl delete": Syntax((r"jobset", NAME), {"--namespace": NAME}),
    "srun": Syntax((ANY,), {"--kill-on-bad-exit": "[01]", "--wait": NUMBER, "--label": None}),
    "scontrol requeue": Syntax((WORD,), {}),
    "nvidia-smi": Syntax((), {"--query-gpu": WORD, "--format": "csv"}),
    "t5like train": Syntax((WORD,), {}),
    "t5like check": Syntax((WORD,), {}),
}
for _words in ("tpu-vm create", "queued-resources create", "tpu-vm ssh", "tpu-vm scp"):
    SYNTAX[f"gcloud alpha compute tpus {_words}"] = SYNTAX[f"gcloud compute tpus {_words}"]
REST_IS_THEIRS = ("srun", "t5like train", "t5like check")
"""Commands whose words after the first position belong to another program."""

RECORD = r"""#!/usr/bin/env bash
program=$(basename "$0")
[ "$program" != sleep ] || exit 0  # nobody waits here
printf '%s\0' "$program" "$@" $'\x1e' >> "$RECORDS/calls"
said() {  # the next line of a file of answers; its last one stays
  sed -n 1p "$RECORDS/$1" 2> /dev/null
  [ "$(sed -n '$=' "$RECORDS/$1" 2> /dev/null || true)" = 1 ] || sed -i 1d "$RECORDS/$1" 2> /dev/null
}
case "$program $*" in
  *" describe "*) answer=$(said states) ;;
  *"host.sh status") answer=$(said words) ;;
  "systemctl show"*) answer=$(said shown) ;;
  "t5like check"*)
    case "$*" in *--train.stepz*) echo "t5like: no flag --train.stepz" >&2; exit 2 ;; esac
    answer=$(sed -n 's/.*--train.directory[ =]\([^ ]*\).*/\1/p' <<< "$*")
    answer=${answer:-runs/tiny}
    ;;
  *" create "*--spotty*) exit 2 ;;
  "kubectl apply"*) cat > "$RECORDS/applied" ;;
esac
case "$program $*" in *"$(cat "$RECORDS/fails" 2> /dev/null || echo nothing fails)"*) exit 1 ;; esac
[ "${answer-}" != ERROR ] || exit 1
[ -z "${answer-}" ] || echo "$answer"
"""


class StandIns:
    """The programs in a folder of their own, their answers, and their calls."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.programs = folder, folder / "programs"
        self.programs.mkdir(parents=True)
        (self.programs / "recorder").write_text(RECORD)
        (self.programs / "recorder").chmod(0o755)
        for name in (*PROGRAMS, "sleep"):
            (self.programs / name).symlink_to("recorder")

    def answer(self, **lines: Sequence[str]) -> None:
        """What is said: `states` of the resource, `words` of the hosts, `shown` by systemctl, and what `fails`."""
        for name, answers in lines.items():
            (self.folder / name).write_text("".join(f"{line}\n" for line in answers))

    def environment(self) -> dict[str, str]:
        """The variables of a process that finds these programs before the real ones, and no EXTRAS of these tests."""
        kept = {name: value for name, value in os.environ.items() if name != "EXTRAS"}
        return {**kept, "PATH": f"{self.programs}:{os.environ['PATH']}", "RECORDS": str(self.folder)}

    def calls(self) -> list[list[str]]:
        """Each call's words, in order, all of them checked."""
        if not (self.folder / "calls").exists():
            return []
        records = (self.folder / "calls").read_text("utf-8").split("\x1e\0")[:-1]
        calls = [record.split("\0")[:-1] for record in records]
        for call in calls:
            if call[0] not in ("sudo", "systemctl", "mountpoint"):
                check(call)
        return calls


def check(call: Sequence[str]) -> None:
    """Fails with the reason if the program would not accept the call."""
    known = [name for name in SYNTAX if list(call[: len(name.split())]) == name.split()]
    assert known, f"no such command: {call}"
    syntax, rest = SYNTAX[known[0]], list(call[len(known[0].split()) :])
    if known[0] in REST_IS_THEIRS:
        first = next(number for number, word in enumerate(rest) if not word.startswith("--"))
        rest = rest[: first + 1]
    given = {flag: value for flag, _, value in (word.partition("=") for word in rest if word.startswith("--"))}
    positions = [word for word in rest if not word.startswith("--")]
    assert len(positions) <= len(syntax.positions), f"too many words: {call}"
    assert len(given) + len(positions) == len(rest), f"a flag twice: {call}"
    for word, pattern in zip(positions, syntax.positions, strict=False):
        assert re.fullmatch(pattern, word), f"{word!r} does not fit {pattern}: {call}"
    for flag, value in given.items():
        assert flag in syntax.flags, f"no flag {flag}: {call}"
        assert re.fullmatch(syntax.flags[flag] or "", value), f"{flag}={value!r} does not fit: {call}"
    for one in syntax.required:
        alternatives = (one,) if isinstance(one, str) else one
        assert sum(flag in given for flag in alternatives) == 1, f"needs one of {alternatives}: {call}"
