"""Saves in the background: told of once they are committed, tried again where they fail, and kept by the rule."""

import errno
import json
import shutil
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from small import small_config

from t5like.errors import StorageError, UserError
from t5like.processes.meeting import COMMIT, EDGE, Meeting
from t5like.runs import checksums
from t5like.runs.checkpoints import Checkpoints, State
from t5like.runs.saving import Kept, Outcome, failure, reason_of
from t5like.train import saver
from t5like.train.logger import Logger
from t5like.train.saver import Saver

NOTHING: Any = None
STATE = State(np.int32(1), {"one": np.ones(4, np.float32)}, NOTHING)
FULL = OSError(errno.ENOSPC, "No space left on device")


class Info(NamedTuple):
    step: int


def test_the_newest_the_best_and_every_mth_step_stay():
    kept = Kept(2, 10)
    kept.best = 7
    infos = [Info(step) for step in (5, 7, 10, 15, 20, 25, 30, 35)]
    stay = kept.should_preserve(infos, context=None)
    assert [info.step for info, stays in zip(infos, stay, strict=True) if stays] == [7, 10, 20, 30, 35]


def test_steps_that_stay_for_ever_must_be_saved():
    with pytest.raises(UserError, match=r"train.keep_every=3 must be a multiple of train.save_every=2, or None"):
        small_config("gpt", train__keep_every=3, train__save_every=2)


@pytest.fixture
def broken(monkeypatch) -> list[Exception]:
    """Errors, each of which the next commit meets."""
    errors: list[Exception] = []
    write = checksums.write

    def meet(folder: Any) -> None:
        if errors:
            raise errors.pop(0)
        write(folder)

    monkeypatch.setattr(checksums, "write", meet)
    monkeypatch.setattr(saver, "PAUSE", 0.0)
    return errors


@pytest.fixture
def saving(tmp_path):
    """A saver of a run with its logs, and the records of its events."""
    settings = small_config("gpt").train
    (tmp_path / "run").mkdir()
    with (
        Checkpoints(tmp_path / "run" / "checkpoints", 2) as checkpoints,
        Logger(tmp_path / "run", 0, tensorboard=False) as logger,
        Saver(checkpoints, settings, logger) as saves,
    ):
        yield saves, checkpoints, lambda: events(tmp_path / "run")


def events(run: Any) -> list[tuple[Any, ...]]:
    records = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [(record["event"], record["step"]) for record in records]


def test_a_save_that_fails_is_told_and_the_next_one_is_good(saving, broken, capsys):
    saves, checkpoints, told = saving
    broken.append(FULL)
    saves.begin(STATE, 1, None)
    saves.begin(STATE, 2, None)
    assert saves.settle() and checkpoints.steps() == [2]
    assert told() == [("save_failed", 1), ("saved", 2)]
    assert capsys.readouterr().out == "The checkpoint of step 1 could not be saved: No space left on device.\n"
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == ["2"]


def test_a_failed_save_costs_no_older_checkpoint(saving, broken):
    saves, checkpoints, _ = saving
    for step in (1, 2):
        saves.begin(STATE, step, None)
    assert saves.settle()
    broken.append(FULL)
    saves.begin(STATE, 3, None)
    assert not saves.settle() and checkpoints.steps() == [1, 2]
    saves.begin(STATE, 4, None)
    assert saves.settle() and checkpoints.steps() == [2, 4]


def test_the_last_save_is_tried_until_it_is_good(saving, broken):
    saves, checkpoints, told = saving
    broken += [FULL, FULL]
    saves.begin(STATE, 5, None)
    saves.ensure(STATE, 5, None)
    assert checkpoints.steps() == [5] and told() == [("save_failed", 5), ("save_failed", 5), ("saved", 5)]


def test_as_many_failures_as_are_borne_end_the_run_with_one_sentence(saving, broken):
    saves, _, _ = saving
    broken += [FULL] * 9
    saves.begin(STATE, 5, None)
    with pytest.raises(UserError) as raised:
        saves.ensure(STATE, 5, None)
    assert len(broken) == 6 and "\n" not in str(raised.value)
    assert str(raised.value).startswith(
        "The checkpoint of step 5 could not be saved (No space left on device), 3 times one after the other "
        "(train.failed_saves): mend that and start the same command again"
    )


def test_a_bucket_that_does_not_answer_may_do_so_later(tmp_path):
    assert isinstance(failure(tmp_path, Outcome(3, "503", unreached=True)), StorageError)


def test_nothing_is_told_before_it_is_committed(saving, monkeypatch):
    saves, checkpoints, told = saving
    write, hold = checksums.write, threading.Event()
    monkeypatch.setattr(checksums, "write", lambda folder: hold.wait(60) and write(folder))
    saves.begin(STATE, 1, None)
    saves.tell()
    assert told() == [] and not (checkpoints.folder / "1").exists()
    hold.set()
    checkpoints.finish()
    saves.tell()
    assert told() == [("saved", 1)] and (checkpoints.folder / "1" / checksums.FILE).exists()


def test_nothing_is_saved_in_the_place_of_a_run_that_was_removed(saving):
    _, checkpoints, _ = saving
    run = checkpoints.folder.parent
    shutil.rmtree(run)
    checkpoints.save(STATE, 1)
    outcome = checkpoints.outcome()
    assert outcome and outcome.reason == f"{run / 'checkpoints'} was removed or replaced while the run went on"
    assert not run.exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FULL, "No space left on device"),
        (ValueError('RESOURCE_EXHAUSTED: Error writing "a/b": [28: No space left on device] [x]'), FULL.strerror),
        (ValueError("first:\nsecond"), "first"),
        (AttributeError(), "AttributeError"),
    ],
)
def test_the_reason_of_a_failure_is_part_of_a_sentence(error, reason):
    assert reason_of(error) == reason


class Store:
    """JAX's key-value store, for threads instead of processes."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def key_value_set(self, key: str, value: str) -> None:
        self.values[key] = value

    def key_value_dir_get(self, folder: str) -> list[tuple[str, str]]:
        return [(key, value) for key, value in list(self.values.items()) if key.startswith(folder)]

    def key_value_delete(self, folder: str) -> None:
        self.values = {key: value for key, value in self.values.items() if not key.startswith(folder)}


def meetings(acts: Callable[[Meeting, int], Any]) -> list[Any]:
    """What a function returns for the meetings of two processes, each in a thread of its own."""
    store: Any = Store()
    both = [Meeting(store, index, 2, lambda seconds: time.sleep(0.001)) for index in range(2)]
    for meeting in both:
        meeting._prefix = "one"
    found: list[Any] = [None, None]
    threads = [
        threading.Thread(target=lambda index=index: found.__setitem__(index, acts(both[index], index)))
        for index in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def save(meeting: Meeting, fails: bool) -> str:
    """The barriers of a save in one process, as Orbax comes to them."""
    meeting.begin()
    meeting(key=EDGE, timeout_ms=9000)
    try:
        if fails:
            raise FULL
        meeting(key="async_write_complete.5", timeout_ms=9000)
        meeting(key=f"{COMMIT}.5", timeout_ms=9000)
        said = ""
    except OSError as error:
        said = str(error)
    meeting(key=EDGE, timeout_ms=9000)
    return said


def test_a_save_that_fails_in_one_process_fails_in_all_at_once():
    began = time.monotonic()
    said = meetings(lambda meeting, index: [save(meeting, index == number == 1) for number in range(4)])
    assert said == [["", "it failed in process 1", "", ""], ["", str(FULL), "", ""]]
    assert time.monotonic() - began < 5


def test_a_process_that_does_not_come_is_waited_for_only_so_long():
    meeting = Meeting(Store(), 0, 2, lambda seconds: None)  # pyright: ignore[reportArgumentType]
    meeting.begin()
    with pytest.raises(TimeoutError, match="not all processes came within 0 s"):
        meeting(key=EDGE, timeout_ms=1)
