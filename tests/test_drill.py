"""Drills: disturbances are drawn from a seed, real processes are disturbed, and what differs is found."""

import json
import pathlib
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from command_line import succeed, t5like
from settings import sentence, valid
from starts import run_config, write_texts

from t5like.commands import drill as command
from t5like.commands.drill import DrillOptions
from t5like.config import presets
from t5like.drill import faults, moments, watch
from t5like.drill.compare import Figures, Undisturbed, arrays_of, of_events, of_metrics
from t5like.drill.drill import drilled
from t5like.drill.moments import Course
from t5like.drill.report import figures, line, table
from t5like.drill.starts import Group, Process, Server
from t5like.drill.trial import Drill, Trial

COURSE = Course(10.0, 30, 5, 8)


def events(*pairs: tuple[str, int]) -> list[dict[str, Any]]:
    return [{"event": name, "time": "now", "step": step} for name, step in pairs]


WHOLE = events(("started", 0), ("saved", 5), ("saved", 10), ("finished", 10))


def test_the_kinds_of_the_command_are_those_that_there_are():
    assert tuple(faults.FAULTS) == command.FAULTS
    assert tuple(faults.SIGNALS) == command.SIGNALS
    assert command.SEVERAL == faults.SEVERAL
    assert DrillOptions().kinds() == [*command.SIGNALS, *(name for name in command.FAULTS if name != "peer-death")]
    assert DrillOptions(processes=2, signals="", faults="peer-death,moved").kinds() == ["peer-death", "moved"]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"faults": "bitflp"}, "--faults bitflp is none that there is; did you mean 'bitflip'?"),
        ({"signals": "hup"}, "--signals hup is none that there is; there are int, kill, term."),
        ({"faults": "peer-death"}, "--faults peer-death needs several processes: set --processes 2."),
        ({"signals": "", "faults": ""}, "Nothing would be disturbed: name --signals or --faults."),
        ({"only": 30}, "--only 30 must lie between 1 and --kills 24."),
    ],
)
def test_a_mistake_in_what_is_asked_is_one_sentence(flags, expected):
    assert sentence(DrillOptions, **flags) == expected


def test_a_run_with_too_few_checkpoints_is_refused():
    assert sentence(drilled, valid()) == (
        "A run of train.steps=10 makes fewer than 3 checkpoints with train.save_every=1000: set train.save_every=3 or "
        "less, or more steps."
    )


def test_moments_are_drawn_from_the_seed_and_lie_in_what_is_left_of_the_run():
    drawn = [moments.draw(np.random.default_rng([seed, 1])) for seed in range(200)]
    assert drawn == [moments.draw(np.random.default_rng([seed, 1])) for seed in range(200)]
    assert {moment.what for moment in drawn} == set(moments.WHATS)
    for first in (0, 17, 30):
        steps = {moment.what: COURSE.step(moment, first) for moment in drawn}
        assert all(first < step <= 30 for step in steps.values()) or first == 30
        assert steps["save"] % 5 == 0
        assert steps["evaluation"] % 8 == 0 or steps["evaluation"] == 30


def test_what_a_folder_shows_is_read_past_damaged_lines(tmp_path):
    assert (watch.last_step(tmp_path), watch.saved(tmp_path), watch.saving(tmp_path)) == (0, [], 0)
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 3, "loss": 1.0}\n17\n\xff\n{"step": 4, "lo')
    for name in ("5", "10", "15.orbax-checkpoint-tmp", "20.damaged"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert (watch.last_step(tmp_path), watch.saved(tmp_path), watch.saving(tmp_path)) == (3, [5, 10], 15)
    assert watch.records(tmp_path / "metrics.jsonl") == [{"step": 3, "loss": 1.0}]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (WHOLE, []),
        (events(("started", 0), ("saved", 5), ("resumed", 5), ("saved", 10), ("finished", 10)), []),
        (
            events(("started", 0), ("saved", 5), ("save_failed", 10), ("resumed", 5), ("saved", 10), ("finished", 10)),
            [],
        ),
        (events(("started", 0), ("saved", 5), ("resumed", 10), ("finished", 10)), []),
        (
            events(("started", 0), ("saved", 5), ("started", 0), ("saved", 5), ("saved", 10), ("finished", 10)),
            ["started at step 0, after 5 was said to be saved"],
        ),
        (
            events(("started", 0), ("saved", 5), ("saved", 10), ("damaged", 10), ("resumed", 5), ("finished", 10)),
            [],
        ),
        (WHOLE[:-1], ["its end is [], not [{'event': 'finished', 'step': 10}]"]),
        (
            [*WHOLE[:-2], *WHOLE[-1:], *events(("saved", 7))],
            ["finished at step 10, before other events", "no event says that 10 was saved"],
        ),
    ],
)
def test_events_are_held_to_what_they_promise(now, expected):
    assert [said for _, said in of_events(WHOLE, now)] == expected


def logged(*lines: dict[str, Any]) -> Figures:
    by_step: dict[int, list[dict[str, Any]]] = {}
    for number, values in enumerate(lines, 1):
        by_step[number] = [values]
    return Figures(by_step, list(by_step))


def test_metrics_of_each_step_are_compared_bit_for_bit():
    before = logged({"loss": 0.1}, {"loss": 0.2}, {"eval/loss": 0.3})
    assert list(of_metrics(before, before, ())) == []
    other = logged({"loss": 0.1}, {"loss": 0.2 + 2**-55}, {"eval/loss": 0.4})
    assert list(of_metrics(before, other, ())) == [
        ("metrics", "those of step 2 differ: loss is 0.20000000000000004, not 0.2"),
        ("evaluations", "those of step 3 differ: eval/loss is 0.4, not 0.3"),
    ]
    lacking = Figures({1: before.lines[1], 3: before.lines[3]}, [1, 3])
    assert list(of_metrics(before, lacking, {2})) == []
    assert list(of_metrics(before, lacking, ())) == [("metrics", "those of step 2 differ: there are 0 lines, not 1")]
    assert ("metrics", "the steps of metrics.jsonl do not ascend") in of_metrics(
        before, Figures(before.lines, [1, 3, 2]), ()
    )


def test_a_group_is_signalled_limited_and_waited_for(tmp_path):
    program = "import time\nwith open('f', 'wb') as f:\n    time.sleep(1)\n    f.write(bytes(10**6))\n"
    children = [subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stderr=-3) for _ in range(2)]
    group = Group([Process(child.pid, tmp_path / "log", child.poll) for child in children])
    assert not group.ended
    group.send(signal.SIGTERM, [1])
    group.limit_files(1000)
    assert group.wait(60.0) == [1, 143]
    assert (tmp_path / "f").stat().st_size <= 1000


def test_a_command_that_hangs_is_ended(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"]) as child:
        assert Group([Process(child.pid, tmp_path, child.poll)]).wait(0.1) is None
        assert child.poll() == -9


def test_a_table_counts_what_is_right(tmp_path):
    drill = Drill(tmp_path, tmp_path, tmp_path, Undisturbed(tmp_path), COURSE, Server(1), processes=1, cold=10)
    done = [Trial(drill, n, kind, np.random.default_rng(0), tmp_path, tmp_path) for n, kind in enumerate("aab", 1)]
    done[0].complain("metrics", "those of step 2 differ")
    done[1].note("SIGKILL at step 3")
    done[1].lost.append(4)
    found = figures(done)
    assert (found["a"]["metrics"], found["a"]["rows"], found["a"]["right"], found["a"]["steps_lost"]) == (1, 2, 1, 4)
    header, _, first, second = table(found)
    assert header.split()[:2] == ["runs", "disturbed"]
    assert first.split()[:5] == ["a", "2", "1", "0", "4"]
    assert "1/2" in first
    assert "1/1" in second
    assert line(done[0]) == "1 a: nothing, it came too late: WRONG, metrics: those of step 2 differ"
    assert line(done[1]) == "2 a: SIGKILL at step 3: right"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> pathlib.Path:
    """A config of 24 steps with five checkpoints on a little text, as a folder."""
    folder = tmp_path_factory.mktemp("drill")
    changes: dict[str, Any] = {"train__steps": 24, "train__save_every": 5, "eval__every": 8, "mesh__data": 1}
    config = run_config(write_texts(folder)["first"], folder / "config", **changes)
    (folder / "config").mkdir()
    presets.write(config, folder / "config")
    return folder / "config"


@pytest.mark.slow
def test_runs_that_are_killed_and_asked_to_stop_are_the_same_bit_for_bit(source, tmp_path):
    """One of each signal, through the command, forked and cold."""
    flags = ["--kills", "3", "--faults", "", "--cold", "3", "--seed", "1", "--folder", str(tmp_path), "--json"]
    found = json.loads(succeed("drill", source, *flags))
    assert [trial["complaints"] for trial in found["trials"]] == [[]] * 4
    assert sum(kind["disturbances"] for kind in found["kinds"].values()) >= 3
    kept = arrays_of(tmp_path / "undisturbed" / "checkpoints" / "24")
    assert {name.split("/")[0] for name in kept} >= {"step", "params", "opt_state"}
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] == "0") == ["000_undisturbed"]


@pytest.mark.slow
def test_a_drill_says_that_the_run_itself_does_not_end_well(source, tmp_path):
    done = t5like("drill", source, "--data.store", "/proc/none", "--folder", tmp_path)
    assert done.returncode == 2
    assert "The undisturbed run ends with the statuses [2]: t5like: data.store=/proc/none" in done.stderr
