"""The disturbances: signals, and faults of disks, files and other processes, each with what has to come of it.

A disturbance is a function of a trial. It starts the run, does its harm, and says what is not as promised; the trial
then starts the run again until it has ended, and compares it with the undisturbed one.
"""

import itertools
import os
import pathlib
import shutil
import signal
from collections.abc import Callable

from t5like.drill import watch
from t5like.drill.starts import Group
from t5like.drill.trial import BEGUN, Trial

SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}
MOST = 3
"""Signals in a row that a run gets, each after a new start."""
TWICE = 0.2
"""Share of the runs asked to stop that are asked a second time at once."""
SLOW = 1.5
"""Seconds that each rename and each new folder takes on a slow disk."""
PEER = 120.0
"""Seconds within which the end of a process has ended all others."""
REFUSED = {2, 75}
"""Statuses of a command that refuses in a sentence."""
WHOLE = 2  # checkpoints of which the newest is damaged


def signalled(trial: Trial, number: signal.Signals) -> None:
    """Signals at drawn moments, to one process or all. A run of several that is killed loses all at once, as with a
    machine's power."""
    for _ in range(int(trial.random.integers(1, MOST + 1))):
        group, moment = trial.start(), trial.moment()
        if not trial.wait_for(moment, group):
            trial.end(group, {0})
            return
        which = None
        if number != signal.SIGKILL and trial.random.random() < 0.5:
            which = [int(trial.random.integers(trial.drill.processes))]
        twice = number != signal.SIGKILL and trial.random.random() < TWICE
        trial.note(f"{number.name}{' twice' if twice else ''} by {moment}, step {watch.last_step(trial.path)}")
        if twice:
            group.send(number, which)
        trial.interrupt(number, group, which)


def disk_full(trial: Trial) -> None:
    """No checkpoint can be written any more. Either there is room again after one was lost, and the run goes on by
    itself, or there is none, and the run ends in a sentence."""
    group = trial.start()
    if not trial.until_saved(1, group):
        trial.end(group, {0})
        return
    for_good = trial.random.random() < 0.5
    trial.note(f"disk full from step {watch.last_step(trial.path)} on{', for a while' * (not for_good)}")
    group.limit_files(largest_file(trial.drill.undisturbed.path / "checkpoints") // 2)
    if for_good:
        trial.end(group, REFUSED if _fails(trial, group) else {0})
        return
    trial.until(_a_save_later(trial), group)
    group.limit_files(None)
    trial.end(group, {0})
    _note_failures(trial)


def read_only(trial: Trial) -> None:
    """The folder of checkpoints is read-only for a while as the run goes on; or the run directory as it starts."""
    group = trial.start(confined=True)
    there = trial.until_saved(1, group)
    if trial.random.random() < 0.5:
        trial.note(f"read-only from step {watch.last_step(trial.path)} on, for a while")
        (trial.path / "checkpoints").chmod(0o555)
        trial.until(_a_save_later(trial), group)
        (trial.path / "checkpoints").chmod(0o755)
        trial.end(group, {0})
        _note_failures(trial)
        return
    trial.interrupt(signal.SIGKILL, group)
    trial.note("read-only at the start")
    trial.path.chmod(0o555)
    trial.end(trial.start(confined=True), REFUSED if there else {*REFUSED, 0})
    trial.path.chmod(0o755)


def _a_save_later(trial: Trial) -> Callable[[], bool]:
    """A condition that holds once a save has failed, or should have begun and ended, since the next one begins."""
    every = trial.drill.course.save_every
    step = (watch.last_step(trial.path) // every + 2) * every + 1
    return lambda: bool(_failed_saves(trial)) or watch.last_step(trial.path) >= step


def _failed_saves(trial: Trial) -> list[int]:
    """The steps whose saves have failed."""
    return [each["step"] for each in watch.records(trial.path / "events.jsonl") if each.get("event") == "save_failed"]


def _fails(trial: Trial, group: Group) -> bool:
    """Wait until a save has failed; False if the run ended before."""
    failed = trial.until(lambda: bool(_failed_saves(trial)), group) or bool(_failed_saves(trial))
    _note_failures(trial)
    return failed


def _note_failures(trial: Trial) -> None:
    """Say which saves failed, so that a disturbance that came to nothing is seen."""
    trial.note(f"failed saves: {', '.join(map(str, _failed_saves(trial))) or 'none'}")


def slow_disk(trial: Trial) -> None:
    """A disk on which a commit takes seconds, and a kill while it does."""
    group = trial.start(slow=SLOW)
    moment = trial.moment()._replace(what="save", delay=float(trial.random.random() * 3 * SLOW))
    if trial.wait_for(moment, group):
        trial.note(f"kill on a slow disk by {moment}")
        trial.interrupt(signal.SIGKILL, group)
    else:
        trial.end(group, {0})
    trial.note("slow disk")
    trial.end(trial.start(slow=SLOW / 5), {0})


def truncate(trial: Trial) -> None:
    """A file of the newest checkpoint is cut, emptied or gone, or all of them are."""
    checkpoint = _killed_with(trial, WHOLE)
    files = _files(checkpoint)
    file, what = files[trial.random.integers(len(files))], int(trial.random.integers(4))
    if what == 3:
        shutil.rmtree(checkpoint)
        checkpoint.mkdir()
        file = checkpoint
    elif what == 2:
        file.unlink()
    else:
        os.truncate(file, file.stat().st_size // 2 if what else 0)
    done = ("emptied", "cut", "removed", "emptied")[what]
    trial.note(f"{file.relative_to(trial.path)} {done}")
    _goes_on_from_the_one_before(trial, checkpoint)


def bitflip(trial: Trial) -> None:
    """A bit of the newest checkpoint is flipped, in any file, the larger the likelier."""
    checkpoint = _killed_with(trial, WHOLE)
    files = _files(checkpoint)
    sizes = [file.stat().st_size for file in files]
    place = int(trial.random.integers(sum(sizes)))
    number = next(n for n, end in enumerate(itertools.accumulate(sizes)) if place < end)
    place -= sum(sizes[:number])
    content, bit = bytearray(files[number].read_bytes()), int(trial.random.integers(8))
    content[place] ^= 1 << bit
    files[number].write_bytes(content)
    trial.note(f"bit {bit} of byte {place:,} of {files[number].relative_to(trial.path)} flipped")
    _goes_on_from_the_one_before(trial, checkpoint)


def _killed_with(trial: Trial, count: int) -> pathlib.Path:
    """The newest checkpoint of a run that was killed when it had so many, or has ended."""
    group, moment = trial.start(), trial.moment()
    trial.until_saved(count, group)
    if trial.wait_for(moment._replace(what="step"), group):
        trial.interrupt(signal.SIGKILL, group)
    else:
        trial.end(group, {0})
    return trial.path / "checkpoints" / str(watch.saved(trial.path)[-1])


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The files of a folder that hold anything, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def largest_file(folder: pathlib.Path) -> int:
    """Bytes of the largest file."""
    return max((path.stat().st_size for path in _files(folder)), default=0)


def _goes_on_from_the_one_before(trial: Trial, checkpoint: pathlib.Path) -> None:
    """A start names the damaged checkpoint in events and on the terminal, keeps it under another name, and goes on
    from the newest good one."""
    step, good = int(checkpoint.name), watch.saved(trial.path)[-2:][0]
    before = len(watch.records(trial.path / "events.jsonl"))
    group = trial.start()
    trial.end(group, {0})
    events = watch.records(trial.path / "events.jsonl")[before:]
    if not any(event.get("event") == "damaged" and event.get("step") == step for event in events):
        trial.complain("events", f"no event says that {step} is damaged")
    resumed = [event["step"] for event in events if event.get("event") == "resumed"]
    if resumed != [good]:
        trial.complain("events", f"it resumed at {resumed}, not at [{good}]")
    if not list(checkpoint.parent.glob(f"{step}.damaged*")):
        trial.complain("events", f"the damaged {step} is not kept")
    if not any(
        f"{checkpoint.name}" in line and "damaged" in line for text in group.said() for line in text.split("\n")
    ):
        trial.complain("ending", f"the terminal does not say that {step} is damaged")


def peer_death(trial: Trial) -> None:
    """One process is killed; the others end within a time, with a sentence that names it."""
    group, moment = trial.start(), trial.moment()
    if not trial.wait_for(moment, group):
        trial.end(group, {0})
        return
    victim = int(trial.random.integers(trial.drill.processes))
    trial.note(f"process {victim} killed by {moment}, step {watch.last_step(trial.path)}")
    group.send(signal.SIGKILL, [victim])
    if group.wait(PEER) is None:
        trial.complain("ending", f"others still ran {PEER:.0f} s after the end of process {victim}")
    statuses = group.statuses()
    for index, (status, said) in enumerate(zip(statuses, group.said(), strict=True)):
        if index == victim or status == 0:
            continue
        if f"rocess {victim}" not in said:
            trial.complain("ending", f"process {index} ends with {status} and does not name process {victim}")
    trial.end(group, {*REFUSED, 1, 134, 137})


def two_trainers(trial: Trial) -> None:
    """The same command is started a second time, later or at once; one of the two refuses, the other is unharmed."""
    groups = [trial.start()]
    at_once = trial.random.random() < 0.5
    if not at_once:
        trial.wait_for(trial.moment()._replace(what="step"), groups[0])
    trial.note(f"a second trainer {'at once' if at_once else f'at step {watch.last_step(trial.path)}'}")
    groups.append(trial.start())
    both = [trial.end(group, {0, *REFUSED}) for group in reversed(groups)][::-1]
    won = [not any(statuses) for statuses in both]
    if not (won[0] or at_once):
        trial.complain("ending", f"the first trainer ends with {both[0]}")
    if not any(won):
        trial.complain("ending", f"neither trainer goes on: they end with {both}")
    begun = [event for event in watch.records(trial.path / "events.jsonl") if event.get("event") in BEGUN]
    if len(begun) != 1:
        trial.complain("events", f"{len(begun)} trainers have begun at once")


def moved(trial: Trial) -> None:
    """The run directory and its store lie elsewhere when the run goes on, started from another working folder."""
    group = trial.start()
    if trial.wait_for(trial.moment(), group):
        trial.interrupt(signal.SIGKILL, group)
    else:
        trial.end(group, {0})
    new = trial.folder / "moved"
    new.mkdir()
    begun = bool(watch.saved(trial.path))
    if begun:
        trial.path = trial.path.rename(new / "run")
    shutil.copytree(trial.drill.store, new / "store")
    trial.note(f"{'run and store' if begun else 'store'} moved")
    trial.flags = ["--data.store", str(new / "store")]
    if begun:
        trial.source, trial.working = trial.path, new


def metrics_damaged(trial: Trial) -> None:
    """A line of metrics.jsonl is cut, overwritten or added that is no record of a step."""
    _killed_with(trial, 1)
    log = trial.path / "metrics.jsonl"
    lines = log.read_bytes().split(b"\n")[:-1]
    number, what = int(trial.random.integers(len(lines))), int(trial.random.integers(6))
    harms = (b"17", b'{"loss": 1.0}', b"\xff\xfe\x00 no text", b"\x00" * 512, b'{"step": "three"}')
    if what < len(harms):
        replaces = bool(trial.random.integers(2))
        if replaces:
            trial.forgiven |= {int(record["step"]) for record in watch.records(log)[number : number + 1]}
        lines[number : number + replaces] = [harms[what]]
        log.write_bytes(b"\n".join(lines) + b"\n")
        trial.note(f"line {number + 1} of metrics.jsonl {'is' if replaces else 'comes after'} {harms[what][:20]!r}")
        return
    size = log.stat().st_size
    os.truncate(log, size - int(trial.random.integers(1, len(lines[-1]))))
    trial.note("the last line of metrics.jsonl is cut")


FAULTS: dict[str, Callable[[Trial], None]] = {
    "disk-full": disk_full,
    "truncate": truncate,
    "bitflip": bitflip,
    "read-only": read_only,
    "slow-disk": slow_disk,
    "peer-death": peer_death,
    "two-trainers": two_trainers,
    "moved": moved,
    "metrics-damaged": metrics_damaged,
}
SEVERAL = ("peer-death",)
"""Faults of runs of several processes."""


def disturb(trial: Trial) -> None:
    """Carry out the trial's disturbance, and bring the run to its end."""
    if trial.kind in SIGNALS:
        signalled(trial, SIGNALS[trial.kind])
    else:
        FAULTS[trial.kind](trial)
    trial.finish()
    trial.compare()
