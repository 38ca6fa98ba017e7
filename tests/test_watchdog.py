"""A phase that takes too long ends the run, and says where it stands."""

import json
import signal
import time

from connections import connected, free_address

from t5like.config.limits import Limits
from t5like.train import watchdog
from t5like.train.watchdog import Watchdog


def watched(tmp_path, monkeypatch, connection=None, **limits) -> tuple[Watchdog, list[tuple[int, str]]]:
    """A watchdog whose clock is looked at by the test alone, and what it ends with."""
    ended: list[tuple[int, str]] = []
    monkeypatch.setattr(watchdog, "connection", lambda: connection)
    return Watchdog(Limits(**limits), tmp_path, lambda *end: ended.append(end)), ended


def event(tmp_path) -> dict:
    (line,) = (tmp_path / "events.jsonl").read_text().splitlines()
    return json.loads(line)


def test_a_step_that_hangs_leaves_the_stacks_of_all_threads(tmp_path, monkeypatch):
    dog, ended = watched(tmp_path, monkeypatch, step=60.0)
    dog.enters("step", 7)
    dog._look(time.monotonic() + 59)
    assert not ended
    dog._look(time.monotonic() + 61)
    ((status, said),) = ended
    assert status == 75
    assert said.startswith("Step 7 has not ended for 61 s (train.limits.step): the stacks of all threads are in")
    kept = event(tmp_path)
    assert (kept["event"], kept["phase"], kept["step"]) == ("hang", "step", 7)
    assert any("test_a_step_that_hangs" in frame for frame in kept["stacks"]["0"]["MainThread"])


def test_a_phase_may_take_ten_times_as_long_as_before_and_each_has_its_own_limit(tmp_path, monkeypatch):
    dog, _ = watched(tmp_path, monkeypatch, step=60.0, save=None)
    dog._longest["step"] = 20.0
    dog.enters("step", 3)
    now = time.monotonic()
    assert dog.late(now + 199) is None
    assert dog.late(now + 201) is not None
    with dog.phase("evaluation"):
        assert dog.late(now + 1799) is None
        assert dog.late(now + 1802) is not None
        dog._since = now - 1000
        dog.goes_on()
        assert dog.late(now + 1799) is None
        assert dog._longest["evaluation"] >= 1000
    with dog.phase("save"):
        assert dog.late(now + 10**9) is None
    assert (dog._phase, dog._step) == ("step", 3)


def test_a_process_that_was_stopped_itself_counts_the_time_of_no_phase(tmp_path, monkeypatch):
    """As by Ctrl-Z and fg."""
    monkeypatch.setattr(watchdog, "LOOKS", 0.01)
    monkeypatch.setattr(watchdog, "SLEPT", -1.0)  # so that each look comes too late
    dog, ended = watched(tmp_path, monkeypatch, step=0.1)
    dog.enters("step", 1)
    with dog:
        time.sleep(0.3)
    assert not ended


def test_a_signal_that_finds_no_end_within_its_grace_ends_the_run_but_no_save(tmp_path, monkeypatch):
    dog, ended = watched(tmp_path, monkeypatch)
    dog._longest["step"] = 20.0
    dog.enters("step", 7)
    dog.expects_end(signal.SIGTERM, 30.0)
    now = time.monotonic()
    dog._look(now + 39)  # steps of 20 s have 40
    with dog.phase("save"):
        dog._look(now + 1000)
    assert not ended
    dog._look(now + 41)
    assert ended == [
        (
            143,
            "SIGTERM: Step 7 did not end in time, so its state is not saved: the same command goes on from the newest "
            "checkpoint (train.grace).",
        )
    ]


def test_the_processes_that_do_not_answer_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(watchdog, "ANSWERED", 1.0)
    monkeypatch.setattr(watchdog, "LOOKS", 0.2)
    with connected(free_address(), 3) as processes:
        dogs = [watched(tmp_path, monkeypatch, process, step=60.0) for process in processes]
        for dog, _ in dogs:
            dog.enters("step", 4)
        dogs[1][0]._since -= 60.5  # its own step will be too long as well, when another has found that
        with dogs[1][0]:  # it answers, and the third process does not
            dogs[0][0]._look(time.monotonic() + 61)
            dogs[1][0]._thread.join(0.5)
    kept = event(tmp_path)
    assert (kept["process"], kept["silent"], sorted(kept["stacks"])) == (0, [2], ["0", "1"])
    assert kept["stacks"]["1"]["step"] == 4
    for _, ended in dogs[:2]:
        assert ended[0][0] == 75 and "; process 2 did not answer: " in ended[0][1]
