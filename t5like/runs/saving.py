"""Saves in the background: Orbax's manager as runs need it, how a save ended, and which checkpoints stay.

A save that fails raises nothing by itself: its outcome is asked for. Checksums are written into each checkpoint before
it is committed, and nothing is committed into a folder that is not any more the one that was opened.
"""

import contextlib
import itertools
import re
import shutil
from collections.abc import Sequence
from typing import Any, NamedTuple

import orbax.checkpoint as ocp

from t5like.errors import StorageError, UserError
from t5like.processes.distributed import connection, is_primary_process
from t5like.processes.meeting import Meeting
from t5like.runs import checksums
from t5like.runs.directory import is_whole
from t5like.storage import Path, is_remote

REASONS = (
    *("No space left on device", "Disk quota exceeded", "Read-only file system", "Permission denied", "File too large"),
    *("Input/output error", "Stale file handle"),
)
"""What systems say of files that cannot be written, wherever in a message."""
AGREED_WITHIN = 1800
"""Seconds within which all processes say how a save ended."""
_outcomes = itertools.count()


class Outcome(NamedTuple):
    """The end of the save of a step: committed, or the reason why not, as part of a sentence."""

    step: int
    reason: str = ""
    unreached: bool = False
    """True if a bucket did not answer, which may be better later."""


class Kept:
    """Orbax's rule of what stays: the newest checkpoints, every `every`th step, and that of the step `best`."""

    def __init__(self, newest: int | None, every: int | None = None):
        self._newest, self._every = ocp.checkpoint_managers.LatestN(newest), every
        self.best: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        newest = self._newest.should_preserve(checkpoints, context=context)
        return [stays or self._stays(each.step) for stays, each in zip(newest, checkpoints, strict=True)]

    def _stays(self, step: int) -> bool:
        return step == self.best or (self._every is not None and step % self._every == 0)


class Saves:
    """The checkpoints of a folder as Orbax manages them, and the save that goes on."""

    def __init__(self, folder: Path, kept: Kept | None):
        """Without `kept`, checkpoints can only be read."""
        self.folder, self.kept, self._step = folder, kept, None
        connected = connection()
        self._meeting = Meeting(connected.client, connected.index, connected.count) if connected else None
        options = ocp.CheckpointManagerOptions(
            preservation_policy=kept,
            read_only=kept is None,
            create=kept is not None,
            cleanup_tmp_directories=kept is not None,
            temporary_path_class=_committed_by_file() if is_remote(folder) else None,
            async_options=ocp.options.AsyncOptions(
                post_finalization_callback=self._before_commit, barrier_sync_fn=self._meeting
            ),
        )
        handlers = ocp.handlers.create_default_handler_registry(
            state=ocp.PyTreeCheckpointHandler(), about=ocp.JsonCheckpointHandler()
        )
        self.manager = ocp.CheckpointManager(folder.absolute(), options=options, handler_registry=handlers)
        self._opened = _identity(folder)
        self._ended: Outcome | None = None
        self._forgetful = False

    def begin(self, step: int, items: Any, best: int | None) -> None:
        """Begin to write a step, unless it is there; the checkpoint of the step `best` stays."""
        self.own_outcome()
        assert self.kept is not None
        self.kept.best = best
        if step in self.manager.all_steps():
            return
        if self._forgetful:  # of the checkpoints that a failed save would have replaced
            self.manager.reload()
            self._forgetful = False
        if self._meeting:
            self._meeting.begin()
        self._step, self._ended = step, None
        try:
            self.manager.save(step, args=items)
        except Exception as error:
            self._ended, self._forgetful = self._failed(step, error), True

    def over(self) -> bool:
        """True if the save that was begun has ended in this process."""
        return self._step is not None and (self._ended is not None or not self.manager.is_saving_in_progress())

    def own_outcome(self) -> Outcome | None:
        """Wait for the save that was begun, in this process; None if there is none."""
        if self._step is not None and self._ended is None:
            try:
                self.manager.wait_until_finished()
                self._ended = Outcome(self._step)
            except Exception as error:
                # What fails behind the commit, such as the removal of an older one, is tried again with the next.
                self._forgetful = True
                committed = is_whole(self.folder / str(self._step))
                self._ended = Outcome(self._step) if committed else self._failed(self._step, error)
        return self._ended

    def outcome(self) -> Outcome | None:
        """Wait for the save that was begun, with all processes, which get the same; None if there is none."""
        own, connected = self.own_outcome(), connection()
        if own is None:
            return None
        if connected:
            key = f"t5like/saved/{next(_outcomes)}"
            connected.share(key, own)
            said = [Outcome(*each) for each in connected.collect(key, AGREED_WITHIN).values()]
            own = next((each for each in said if each.reason), own)
        self._step = self._ended = None
        return own

    def close(self) -> None:
        """Wait for the save that was begun, whose outcome nobody asks for, and close the manager."""
        self.own_outcome()
        self.manager.close()

    def _failed(self, step: int, error: Exception) -> Outcome:
        """Remove what a save has left, which takes the place that the next one may need."""
        reason = self._replaced() or reason_of(error)
        if is_primary_process() and not is_remote(self.folder):
            shutil.rmtree(self._unfinished(step), ignore_errors=True)
            if _identity(self.folder) != self._opened:
                for made in (self.folder, self.folder.parent):  # by Orbax, in the place of what was removed
                    with contextlib.suppress(OSError):
                        made.rmdir()
        with contextlib.suppress(Exception):
            self.manager.reload()  # it has forgotten the checkpoints that this one would have replaced
        return Outcome(step, reason, "retry attempts failed" in str(error))

    def _before_commit(self) -> None:
        """Write the checksums; process 0 does it once all have written their parts."""
        if reason := self._replaced():
            raise FileNotFoundError(reason)
        assert self._step is not None
        checksums.write(self._unfinished(self._step))

    def _replaced(self) -> str:
        """The reason why nothing is saved any more, if the folder is not that which was opened."""
        same = _identity(self.folder) == self._opened
        return "" if same else f"{self.folder} was removed or replaced while the run went on"

    def _unfinished(self, step: int) -> Path:
        """The folder in which a checkpoint is written."""
        name = str(step) if is_remote(self.folder) else f"{step}{ocp.utils.TMP_DIR_SUFFIX}"
        return self.folder / name


def failure(folder: Path, outcome: Outcome, why: str = "") -> UserError:
    """The error of a checkpoint that could not be saved."""
    run, kind = folder.parent, StorageError if outcome.unreached else UserError
    return kind(
        f"The checkpoint of step {outcome.step:,} could not be saved ({outcome.reason}){why}: mend that and start the "
        f"same command again, which goes on from the newest checkpoint of {run}."
    )


def reason_of(error: BaseException) -> str:
    """The reason of a failure as part of a sentence, from what a library makes of it."""
    text = str(error)
    known = next((reason for reason in REASONS if reason in text), None)
    if known:
        return known
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    first = next(iter(text.strip().splitlines()), "") or type(error).__name__
    return re.sub(r"\s+", " ", first).rstrip(":. ")[:200]


def _identity(folder: Path) -> tuple[int, int] | None:
    """The device and number of a folder on a disk, None where there is none; folders of buckets have no identity."""
    if is_remote(folder):
        return None
    try:
        status = folder.stat()
    except OSError:
        return (0, 0)
    return status.st_dev, status.st_ino


def _committed_by_file() -> type[ocp.path.atomicity.CommitFileTemporaryPath]:
    """Make ready for checkpoints in a bucket; they are whole once a file says so, since folders are not renamed."""
    from t5like.runs.bucket_checkpoints import open_buckets

    open_buckets()
    return ocp.path.atomicity.CommitFileTemporaryPath
