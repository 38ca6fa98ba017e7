"""Locks: one process at a time writes into a run directory, or makes a store.

The file `lock.json` of the folder says who holds it, and a time that the holder writes anew every `BEAT` seconds. A
process of this very system is looked up, so the lock of one that was killed is taken over at once. Of processes
elsewhere the beats alone are seen, and only compared with each other, since clocks differ: a lock that stays the same
for `STALE` seconds is taken over. Whoever finds its lock taken over, since it was stopped or cut off for so long, ends
at once, before it writes anything else.

A change of the file happens only if it is what the process has read: on disks under a lock of the system, which ends
with the process, and in buckets by writes on condition.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import json
import os
import platform
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path as LocalPath

from t5like.errors import TRY_AGAIN, StorageError, TransientError, UserError
from t5like.storage import Path, is_remote

FILE = "lock.json"
BEAT, STALE, LOOK = 15.0, 60.0, 1.0
"""Seconds between two beats of a holder, without one after which it is gone, and between two looks of who waits."""
SIZE = 4096
"""Bytes of a lock on a disk, which are overwritten in one piece."""
Say = Callable[[str], None]
_left: set[str] = set()
"""Keys of locks that this process holds no more, but could not remove."""


@dataclasses.dataclass(frozen=True)
class Holder:
    """A process that holds a lock."""

    command: str
    host: str
    process: int
    began: str
    """The process's start, as its system counts it; numbers of processes come again."""
    system: str
    """The kernel and the name space of process numbers in which `process` is one; empty where they have no name."""
    since: float
    """Seconds since 1970 at which it took the lock, by its clock."""
    beat: float
    key: str
    """A random name of this one lock."""

    def __str__(self) -> str:
        since = datetime.datetime.fromtimestamp(self.since, datetime.UTC)
        return f"t5like {self.command} (process {self.process} on {self.host}, since {since:%Y-%m-%d %H:%M:%S} UTC)"

    @property
    def content(self) -> bytes:
        return json.dumps(dataclasses.asdict(self)).encode()

    def runs(self) -> bool | None:
        """True if the process runs, None if that cannot be seen from here."""
        if self.key in _left:
            return False
        if not self.system or self.system != _system():
            return None
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            pass
        return _began(self.process) in (self.began, "")


class _File:
    """A lock on a disk. An empty one is none."""

    def __init__(self, path: LocalPath):
        self._path = path

    def read(self) -> bytes | None:
        try:
            with self._path.open("rb") as file:
                return file.read(SIZE).strip() or None
        except FileNotFoundError:
            return None

    def exchange(self, old: bytes | None, new: bytes | None) -> bool:
        with self._alone() as file:
            if (os.pread(file, SIZE, 0).strip() or None) != old:
                return False
            if new is None:
                self._path.unlink()
            else:
                os.pwrite(file, new.ljust(SIZE), 0)
                os.truncate(file, SIZE)
            return True

    @contextlib.contextmanager
    def _alone(self) -> Iterator[int]:
        """The file, while no other process changes or removes it; on a file system without locks, hopefully."""
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                with contextlib.suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX)
                if self._is(file):
                    yield file
                    return
            finally:
                os.close(file)

    def _is(self, file: int) -> bool:
        """False if another process has removed the file meanwhile."""
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False


class _Object:
    """A lock in a bucket."""

    def __init__(self, path: Path):
        from t5like.bucket_path import BucketPath

        assert isinstance(path, BucketPath)
        self._path = path

    def read(self) -> bytes | None:
        found = self._path.read_version()
        return found and found[0]

    def exchange(self, old: bytes | None, new: bytes | None) -> bool:
        if old is None:
            return new is not None and self._path.write_new(new)
        found = self._path.read_version()
        if found is None or found[0] != old:
            return False
        if new is None:
            self._path.unlink(missing_ok=True)
            return True
        return self._path.write_over(new, found[1])


_Place = _File | _Object
"""A lock's content, and its exchange for another, which happens only if it still is `old`; None is no lock."""


def _place(folder: Path) -> _Place:
    return _Object(folder / FILE) if is_remote(folder) else _File(LocalPath(folder / FILE))


@contextlib.contextmanager
def locked(folder: Path, command: str, say: Say = print, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder, which is made where it is missing.

    Args:
      command: what the holder does, for the sentences of others.
      say: is told of a lock that is taken over, and of what is waited for.
      wait: wait for the end of another holder.

    Raises:
      TransientError: another process holds it.
      OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = _place(folder)
    process, now = os.getpid(), time.time()
    own = Holder(command, platform.node(), process, _began(process), _system(), now, now, secrets.token_hex(8))
    _take(place, own, folder, say, wait)
    with _beating(place, own, folder):
        yield


def _take(place: _Place, own: Holder, folder: Path, say: Say, wait: bool) -> None:
    """Wait until the lock is free or its holder gone, and take it; raise where the holder is there and `wait` is not
    asked for."""
    seen, since, said = None, 0.0, False
    while True:
        there = place.read()
        holder = _holder(there) if there else None
        runs = holder.runs() if holder else None
        if there != seen:
            runs = True if runs is None and there and seen and _same(there, seen) else runs  # it beats
            seen, since = there, time.monotonic()
        gone = runs is False or (runs is None and time.monotonic() - since > STALE)
        if there is None or gone:
            if place.exchange(there, own.content):
                if there:
                    say(f"{folder} was left locked by {_name(holder)}, which is gone: its lock is taken over.")
                return
            continue
        if runs and not wait:
            raise TransientError(
                f"{folder} is in use by {_name(holder)}: wait for its end, or stop it; then the same command goes on."
            )
        if not said:
            sign = "" if runs else f", unless that gives no sign for {STALE:.0f} s"
            say(f"{folder} is in use by {_name(holder)}; waiting for it{sign} ...")
            said = True
        time.sleep(LOOK)


@contextlib.contextmanager
def _beating(place: _Place, own: Holder, folder: Path) -> Iterator[None]:
    """Renew the lock from a thread until the end, and then remove it."""
    content, end = own.content, threading.Event()

    def beat() -> None:
        nonlocal content
        while not end.wait(BEAT):
            with contextlib.suppress(OSError, UserError):  # the next one may do
                renewed = dataclasses.replace(own, beat=time.time()).content
                there = place.read()
                if there and not _same(there, content):
                    _lose(folder, _holder(there))
                if place.exchange(there, renewed):
                    content = renewed

    thread = threading.Thread(target=beat, name="t5like lock", daemon=True)
    thread.start()
    reached = True
    try:
        yield
    except StorageError:  # of a bucket that would not take the lock's end either, after as long a time
        reached = False
        _left.add(own.key)
        raise
    finally:
        end.set()
        if reached:
            thread.join()
            with contextlib.suppress(OSError, UserError):
                place.exchange(content, None)


def _lose(folder: Path, other: Holder | None) -> None:
    """End the process, which no longer may write: also what else it has begun must not go on."""
    sentence = f"{folder} was taken over by {_name(other)}, since this process gave no sign for {STALE:.0f} s."
    print(f"t5like: {sentence}", file=sys.stderr, flush=True)
    os._exit(TRY_AGAIN)


def _same(one: bytes, other: bytes) -> bool:
    """True if two contents are of the same lock."""
    first, second = _holder(one), _holder(other)
    return first is not None and second is not None and first.key == second.key


def _holder(content: bytes) -> Holder | None:
    """The holder that a lock names; None if it is damaged."""
    try:
        found = Holder(**json.loads(content))
        words = (found.command, found.host, found.began, found.system, found.key)
        whole = all(isinstance(word, str) for word in words) and isinstance(found.process, int)
        str(found)
    except (ValueError, TypeError, OverflowError, OSError, RecursionError):
        return None
    return found if whole and 0 < found.process < 2**31 else None


def _name(holder: Holder | None) -> str:
    return str(holder) if holder else "a process that its damaged lock does not name"


def _system() -> str:
    """A name of the kernel as it was booted, and of the processes that are numbered together; empty if unknown."""
    with contextlib.suppress(OSError):
        boot = LocalPath("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()} {boot} {LocalPath('/proc/self/ns/pid').readlink()}"
    return f"{platform.node()} {sys.platform}" if sys.platform == "darwin" else ""


def _began(process: int) -> str:
    """The start of a process; empty if it cannot be seen, `ended` for one that only waits for its parent."""
    try:
        state, *fields = LocalPath(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "ended" if state in "ZX" else fields[18]
