"""One process at a time: locks that are held, left behind, silent, lost and fought for."""

import concurrent.futures
import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
import time

import pytest
from command_line import ROOT

from t5like import lock
from t5like.errors import TransientError
from t5like.lock import FILE, Holder, locked
from t5like.storage import path_of

buckets = pytest.importorskip(
    "buckets", reason="the stand-ins of buckets are not installed: pip install moto[s3] flask"
)
HERE = Holder("train", "box", os.getpid(), lock._began(os.getpid()), lock._system(), 0.0, 0.0, "first")
ELSEWHERE = dataclasses.replace(HERE, system="another machine")


@pytest.fixture(scope="module", params=("disk", "gs", "s3"))
def kind(request):
    if request.param == "disk":
        yield None
        return
    with pytest.MonkeyPatch.context() as variables:
        yield from buckets.serve(request.param, variables)


@pytest.fixture
def folder(kind, request, tmp_path):
    return path_of(f"{kind.scheme}://bucket/{request.function.__name__}") if kind else tmp_path


@pytest.fixture
def quick(monkeypatch):
    for name, seconds in {"BEAT": 0.05, "STALE": 0.5, "LOOK": 0.05}.items():
        monkeypatch.setattr(lock, name, seconds)


def leave(folder, holder: Holder) -> None:
    """Puts a holder's lock in the place of what is there."""
    place = lock._place(folder)
    while not place.exchange(place.read(), holder.content):
        pass


def test_a_second_process_is_refused_with_the_first_ones_name_and_the_lock_goes_with_it(folder):
    with locked(folder, "train"):
        with pytest.raises(TransientError) as error, locked(folder, "train"):
            pass
        pattern = r".* is in use by t5like train \(process \d+ on .*, since \d{4}-.* UTC\): wait for its end, or stop"
        assert re.match(pattern, str(error.value))
    assert not (folder / FILE).exists()
    with locked(folder, "train"):
        pass


@pytest.mark.parametrize(
    "gone", [{"began": "0"}, {"process": 2**22 + 1}], ids=["another of that number", "no such process"]
)
def test_the_lock_of_a_process_that_is_gone_is_taken_over_at_once_and_explained(folder, gone):
    leave(folder, dataclasses.replace(HERE, **gone))
    said: list[str] = []
    with locked(folder, "train", said.append):
        assert json.loads((folder / FILE).read_bytes())["key"] != "first"
    assert len(said) == 1 and "was left locked by t5like train (process" in said[0] and "is taken over" in said[0]


def damaged(**changes) -> bytes:
    return json.dumps(dataclasses.asdict(HERE) | changes).encode()


@pytest.mark.parametrize(
    "content",
    [
        *(b"{", b"[1]", b'{"host": 3}', b"\xff\xfe", b"[" * 10**5),
        *(
            damaged(since="now"),
            damaged(since=1e300),
            damaged(process="1"),
            damaged(process=10**30),
            damaged(process=0),
        ),
    ],
    ids=range(10),
)
def test_a_damaged_lock_is_taken_over_as_one_that_gives_no_sign(tmp_path, quick, monkeypatch, content):
    monkeypatch.setattr(lock, "STALE", 0.1)
    (tmp_path / FILE).write_bytes(content)
    said: list[str] = []
    began = time.monotonic()
    with locked(tmp_path, "train", said.append):
        pass
    assert time.monotonic() - began > 0.1
    assert len(said) == 2 and "a process that its damaged lock does not name" in said[1]


def test_a_silent_holder_elsewhere_is_taken_over_and_one_that_beats_is_not(folder, quick):
    leave(folder, ELSEWHERE)
    said: list[str] = []
    with locked(folder, "train", said.append):
        pass
    assert "waiting for it, unless that gives no sign" in said[0] and "taken over" in said[1]
    leave(folder, ELSEWHERE)
    ended = threading.Event()

    def beat():
        number = 0.0
        while not ended.wait(0.05):
            leave(folder, dataclasses.replace(ELSEWHERE, beat=(number := number + 1)))

    with concurrent.futures.ThreadPoolExecutor() as threads:
        beats = threads.submit(beat)
        with contextlib.ExitStack() as stack:
            stack.callback(ended.set)
            with pytest.raises(TransientError, match="is in use by t5like train"):
                stack.enter_context(locked(folder, "train", said.append))
        beats.result()


def test_who_waits_gets_the_lock_after_the_holder_which_beats(folder, quick, monkeypatch):
    said: list[str] = []
    with concurrent.futures.ThreadPoolExecutor() as threads:

        def second():
            with locked(folder, "prepare", said.append, wait=True):
                return time.monotonic()

        with locked(folder, "prepare"):
            monkeypatch.setattr(lock, "_system", lambda: "")  # as if the second were elsewhere
            got = threads.submit(second)
            time.sleep(1.0)
            assert not got.done()
            released = time.monotonic()
        assert got.result(timeout=10) > released
    assert len(said) == 1 and "waiting for it" in said[0]


def test_of_many_that_find_a_lock_left_behind_one_gets_it(folder):
    leave(folder, dataclasses.replace(HERE, began="0"))
    done = threading.Event()

    def start(_):
        with contextlib.suppress(TransientError), locked(folder, "train", lambda _: None):
            done.wait(20)
            return True
        return False

    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        starts = [threads.submit(start, number) for number in range(6)]
        deadline = time.monotonic() + 10
        while sum(each.done() for each in starts) < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        done.set()
        assert sum(each.result() for each in starts) == 1


def test_a_process_whose_lock_was_taken_over_ends_at_once(folder, quick, monkeypatch, capfd):
    ended: list[int] = []
    lost = threading.Event()

    def end(status):
        ended.append(status)
        lost.set()
        raise OSError  # of the thread that beats

    monkeypatch.setattr(os, "_exit", end)
    with locked(folder, "train"):
        leave(folder, dataclasses.replace(ELSEWHERE, key="second"))
        assert lost.wait(10)
    assert set(ended) == {75} and "was taken over by t5like train" in capfd.readouterr().err
    assert json.loads((folder / FILE).read_bytes())["key"] == "second"  # which is left to the other


def test_a_lock_that_was_removed_by_hand_comes_back(folder, quick):
    with locked(folder, "train"):
        (folder / FILE).unlink()
        deadline = time.monotonic() + 10
        while not (folder / FILE).exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert not (folder / FILE).exists()


def test_a_killed_process_leaves_its_lock_to_the_next(tmp_path):
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); import pathlib, time; from t5like.lock import locked\n"
        f"with locked(pathlib.Path({str(tmp_path)!r}), 'train'): print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(TransientError, match=f"process {holder.pid} on "), locked(tmp_path, "train"):
            pass
        holder.kill()
    said: list[str] = []
    with locked(tmp_path, "train", said.append):
        assert len(said) == 1 and f"process {holder.pid} on " in said[0]
