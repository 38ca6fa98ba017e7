"""Damaged and lost checkpoints: the last good one is taken, a damaged one renamed and never deleted, and a run that has
lost all of its checkpoints does not begin again by itself.

Training renames `240` to `240.damaged`; commands that only read leave it and say which one they take.
"""

import sys
from collections.abc import Callable
from typing import TypeVar

from t5like.config.training import Step
from t5like.errors import UserError
from t5like.processes.distributed import is_primary_process, run_on_primary
from t5like.runs.best import Chosen, choose
from t5like.runs.checkpoints import Checkpoints, DamagedCheckpointError
from t5like.runs.directory import RunDirectory, is_step, is_whole
from t5like.runs.lines import Appended, event, read_lines, records_back
from t5like.storage import Path, is_remote

DAMAGED = "damaged"
LOGS = ("metrics.jsonl", "metrics", "events.jsonl", "events", "tensorboard")
"""Logs of a run in its directory, on disks and in buckets."""
Result = TypeVar("Result")


def with_good(run: RunDirectory, figure: str, asked: Step, read: Callable[[int], Result]) -> tuple[Chosen, Result]:
    """The checkpoint that `--step` asks for, and what `read` makes of its step. Damaged ones are passed over, unless
    one is asked for by its number.

    Raises:
      UserError: there is no such checkpoint, or no good one.
      DamagedCheckpointError: the one that is asked for is damaged.
    """
    without: dict[int, str] = {}
    while True:
        chosen = choose(run, figure, asked, without)
        try:
            return chosen, read(chosen.step)
        except DamagedCheckpointError as error:
            if isinstance(asked, int):
                raise
            without[chosen.step] = error.reason
            if is_primary_process():
                damaged = run.checkpoints / str(chosen.step)
                print(f"{damaged} is damaged ({error.reason}) and not used.", file=sys.stderr, flush=True)


def restored_newest(checkpoints: Checkpoints, restore: Callable[[int], Result]) -> tuple[int, Result] | None:
    """The newest checkpoint that is good, and what `restore` makes of its step; None if there is none. Damaged ones,
    and whatever else has the name of one, are renamed."""
    run = RunDirectory(checkpoints.folder.parent)
    # Process 0 alone looks for them: the others might look before it has renamed them, or after.
    run_on_primary("rename damaged checkpoints", lambda: [_rename(run, *stray) for stray in _strays(run).items()])
    checkpoints.reload()
    while steps := checkpoints.steps():
        try:
            return steps[-1], restore(steps[-1])
        except DamagedCheckpointError as error:
            set_aside(checkpoints, steps[-1], error.reason)
    require_never_saved(run)
    return None


def set_aside(checkpoints: Checkpoints, step: int, reason: str) -> None:
    """Rename a damaged checkpoint, so that it does not count any more, with an event and a line on the terminal."""
    run = RunDirectory(checkpoints.folder.parent)
    run_on_primary("rename a damaged checkpoint", lambda: _rename(run, step, reason))
    checkpoints.reload()


def _rename(run: RunDirectory, step: int, reason: str) -> None:
    name = _free(run.checkpoints, f"{step}.{DAMAGED}")
    (run.checkpoints / str(step)).rename(run.checkpoints / name)
    events = Appended(run.path / "events.jsonl")
    events.append(event("damaged", step=step, reason=reason, renamed=name))
    events.close()
    print(f"{run.checkpoints / str(step)} is damaged ({reason}): renamed to {name}.", flush=True)


def require_never_saved(run: RunDirectory) -> None:
    """Raise `UserError` if a run has no checkpoint any more, though its logs know of one."""
    if not run.path.is_dir() or run.steps():
        return
    saved: list[int] = []
    for record in read_lines(run.path / "events.jsonl"):
        if record.get("event") == "saved":
            saved.append(record["step"])
        elif record.get("event") == "rolled_back":  # later ones are deleted
            saved = [step for step in saved if step <= record["to"]]
    renamed = sorted(path.name for path in run.checkpoints.glob(f"*.{DAMAGED}*"))
    if not (saved or (_has(run, "metrics") and not _has(run, "events"))):
        return
    known = f"saved step {saved[-1]}" if saved else "took steps"
    kept = f" ({', '.join(renamed)} there are damaged)" if renamed else ""
    raise UserError(
        f"{run.path} {known}, as its logs say, but {run.checkpoints} holds no good checkpoint{kept}: put one back, or "
        "begin again from the first step by --from_scratch, which keeps the logs under another name."
    )


def begin_again(run: RunDirectory) -> None:
    """Rename the logs of a run that has no checkpoint, such as metrics.jsonl to metrics.before.jsonl.

    Raises:
      UserError: it has one.
    """
    if steps := run.steps():
        raise UserError(
            f"--from_scratch is for a run that has lost its checkpoints, and {run.path} has those of the steps "
            f"{', '.join(map(str, steps))}: leave it out to go on, or choose another --train.directory."
        )
    for name in LOGS:
        stem, dot, end = name.partition(".")
        if (run.path / name).exists():
            (run.path / name).rename(run.path / _free(run.path, f"{stem}.before", f"{dot}{end}"))


def _has(run: RunDirectory, log: str) -> bool:
    return next(records_back(run.path / f"{log}.jsonl"), None) is not None


def _strays(run: RunDirectory) -> dict[int, str]:
    """Folders on a disk that are named as checkpoints and hold none, with the reason."""
    if is_remote(run.checkpoints):  # where it is what a killed save has left, which Orbax removes
        return {}
    found = [path for path in run.checkpoints.glob("*") if is_step(path.name) and not is_whole(path)]
    return {int(path.name): "it is empty" if path.is_dir() else "it is no folder" for path in sorted(found)}


def _free(folder: Path, name: str, end: str = "") -> str:
    """A name that nothing in the folder has: `name`, `name.2`, and so on."""
    number, found = 1, f"{name}{end}"
    while (folder / found).exists():
        number, found = number + 1, f"{name}.{number + 1}{end}"
    return found
