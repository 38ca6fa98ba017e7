"""Any number of processes, or Beam, makes the same store; none of them outlives the command or loses work."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
from preparations import contents, settings

from t5like.data.prepare import prepare
from t5like.data.prepare.workers import beam, pool
from t5like.errors import UserError

HERE = pathlib.Path(__file__).parent
SCRIPT = """
import pathlib, sys
sys.path[:0] = sys.argv[1:3]
from preparations import settings
from t5like import cli
from t5like.data.prepare import prepare
from t5like.data.prepare.workers import pool


def run(arguments):
    print("begun", flush=True)
    prepare(settings(pathlib.Path(sys.argv[3]), sys.argv[4]), [].append, pool(2))


if __name__ == "__main__":
    cli.run = run
    cli.main()
"""


def begin(folder: pathlib.Path, store: str) -> subprocess.Popen[str]:
    """Starts a preparation with two workers, in a process group of its own."""
    command = [sys.executable, "-c", SCRIPT, str(HERE), str(HERE.parent), str(folder), store]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, start_new_session=True, **pipes)
    assert process.stdout and process.stdout.readline() == "begun\n"
    return process


def members(group: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for status in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = status.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(of) == group and state != "Z":
            found.append(int(status.parent.name))
    return found


def ends(group: int) -> bool:
    """Whether all processes of a group end within some seconds."""
    for _ in range(100):
        if not members(group):
            return True
        time.sleep(0.1)
    return False


def square(number: int) -> int:
    return number * number


def mistake(number: int) -> int:
    if number == 3:
        raise UserError("The third is wrong.")
    return number


def bug(number: int) -> float:
    return 1 / (number - 3)


def die(number: int) -> None:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)


def sleep_or_mistake(number: int) -> None:
    if number:
        time.sleep(60)
    raise UserError("The first is wrong.")


@pytest.mark.parametrize("processes", [1, 3])
def test_every_task_is_done_once(processes):
    assert sorted(pool(processes)(square, range(20))) == [n * n for n in range(20)]
    assert list(pool(processes)(square, [])) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_of_a_worker_arrives_as_itself(processes):
    with pytest.raises(UserError, match=r"^The third is wrong\.$"):
        list(pool(processes)(mistake, range(6)))
    with pytest.raises(ZeroDivisionError) as raised:
        list(pool(processes)(bug, range(6)))
    shown = "".join(map(str, [raised.value.__cause__, raised.traceback[-1]]))
    assert "return 1 / (number - 3)" in shown


def test_a_worker_that_is_killed_is_a_sentence():
    with pytest.raises(
        UserError, match=r"^A worker process died, .* goes on from where it stopped; with --processes 1"
    ):
        list(pool(2)(die, range(6)))


def test_workers_do_not_finish_what_nobody_waits_for():
    started = time.monotonic()
    with pytest.raises(UserError, match=r"^The first is wrong\.$"):
        list(pool(2)(sleep_or_mistake, range(4)))
    assert time.monotonic() - started < 30


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    data = settings(folder)
    prepare(data, [].append, pool(1))
    return folder, contents(data.store)


@pytest.mark.parametrize("processes", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_the_store_is_the_same_bytes_with_any_number_of_processes(undisturbed, processes):
    folder, expected = undisturbed
    data = settings(folder, f"with_{processes}")
    prepare(data, [].append, pool(processes))
    assert contents(data.store) == expected
    assert any(name.startswith("packs/") for name in expected)


@pytest.mark.filterwarnings("ignore")  # Beam's own
def test_the_store_is_the_same_bytes_with_beam(undisturbed):
    pytest.importorskip("apache_beam")
    folder, expected = undisturbed
    data = settings(folder, "with_beam")
    prepare(data, [].append, beam("DirectRunner", ["--direct_num_workers=2"]))
    assert contents(data.store) == expected


@pytest.mark.filterwarnings("ignore")  # Beam's own
def test_an_error_within_beam_arrives_as_itself():
    pytest.importorskip("apache_beam")
    with pytest.raises(UserError, match=r"^The third is wrong\.$"):
        list(beam("DirectRunner", [])(mistake, range(6)))
    with pytest.raises(UserError, match=r"^Apache Beam has no runner 'NoRunner': "):
        beam("NoRunner", [])


@pytest.mark.slow
def test_a_preparation_that_is_killed_at_any_moment_ends_with_the_same_bytes(tmp_path):
    started = time.monotonic()
    first = begin(tmp_path, "undisturbed")
    whole, error = time.monotonic(), first.communicate()[1]
    assert not first.returncode, error
    whole, expected = time.monotonic() - whole, contents(f"{tmp_path}/undisturbed")
    print(f"undisturbed: {whole:.2f} s, started in {time.monotonic() - started - whole:.2f} s")
    moments = random.Random()
    for number in range(int(os.environ.get("T5LIKE_KILLS", "2"))):
        store, moment = f"killed_{number}", moments.uniform(0, whole)
        process = begin(tmp_path, store)
        time.sleep(moment)
        # Every other time the workers are left alone, and end by themselves.
        (os.kill if number % 2 else os.killpg)(process.pid, signal.SIGKILL)
        process.communicate()
        left = sorted(path.name for path in (tmp_path / store).glob("*"))
        assert ends(process.pid), f"workers outlived a kill after {moment:.2f} s"
        prepare(settings(tmp_path, store), [].append, pool(1))
        assert contents(f"{tmp_path}/{store}") == expected, f"killed after {moment:.2f} s"
        print(f"killed after {moment:.2f} s, leaving {left}")


@pytest.mark.parametrize("seconds", [0.3, *(pytest.param(n, marks=pytest.mark.slow) for n in (0.0, 1.5))])
def test_ctrl_c_ends_it_with_one_line(tmp_path, seconds):
    process = begin(tmp_path, "store")
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    sent = time.monotonic()
    _, error = process.communicate(timeout=30)
    assert time.monotonic() - sent < 10
    assert (process.returncode, error) == (130, "t5like: stopped by SIGINT.\n")
    assert ends(process.pid)
