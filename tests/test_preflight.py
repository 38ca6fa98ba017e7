"""The roll call before a run of several processes: who is missing or different is named, in time."""

import concurrent.futures
import copy
import os
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from command_line import CONFIGS
from settings import valid
from test_processes import finish, start

from t5like.errors import UserError
from t5like.processes import preflight, roll_call
from t5like.processes.distributed import VARIABLES, Place, find_place
from t5like.processes.preflight import Report, call_roll, complaint_about, report_of


@pytest.fixture
def address() -> str:
    with socket.create_server(("", 0)) as server:
        return f"localhost:{server.getsockname()[1]}"


def reports(count: int) -> list[Report]:
    """What processes on hosts of their own say of themselves when all is well."""
    one = report_of(Place("", count, 0), valid(), {"options": 1})
    return [{**copy.deepcopy(one), "host": {"name": f"host-{'abcdefgh'[number]}"}} for number in range(count)]


def call(address: str, given: list[Report | None], folder: str = "", seconds: float = 20.0) -> list[str]:
    """What each process, a thread here, ends with; those without a report do not come."""

    def one(number: int, report: Report) -> str:
        try:
            call_roll(Place(address, len(given), number), report, folder, seconds)
        except UserError as error:
            return str(error)
        return ""

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(one, *zip(*((n, report) for n, report in enumerate(given) if report), strict=True)))


def test_processes_that_are_alike_go_on(address, tmp_path):
    assert call(address, reports(4), str(tmp_path / "run")) == [""] * 4
    assert list((tmp_path / "run").iterdir()) == []


def test_a_process_that_does_not_come_is_named_within_the_limit(address):
    there, _, other, _ = reports(4)
    started = time.monotonic()
    said = call(address, [there, None, other, None], seconds=1.0)
    assert time.monotonic() - started < 5
    assert (
        said
        == [
            "Processes 1, 3 of 4 did not come within 1 s (there are process 0 (host-a), process 2 (host-c)): start the "
            "same command on every host, or set JAX_NUM_PROCESSES to the number that there are."
        ]
        * 2
    )


def test_a_process_that_finds_no_process_0_says_where_it_should_be(address):
    (said,) = call(address, [None, reports(2)[1]], seconds=0.3)
    assert said.startswith(f"Process 1 ({socket.gethostname()}) finds no process 0 at {address} within 0 s (")


@pytest.mark.parametrize(
    ("group", "name", "value", "said"),
    [
        ("versions", "jax", "0.1", r"has jax=0\.1, but process 0 \(host-a\) has .*: install the same on every host\."),
        ("flags", "XLA_FLAGS", "--x", r"has XLA_FLAGS=--x, but .* set it to the same on every host\."),
        (
            "config",
            "train.steps",
            "7",
            r"has train\.steps=7, but process 0 \(host-a\) has 10: start every process with",
        ),
        ("config", "model.new", "7", r"has model\.new=7, but process 0 \(host-a\) has nothing: start every process"),
    ],
)
def test_what_differs_on_one_host_is_named(address, group, name, value, said):
    given = reports(3)
    given[2][group][name] = value
    heard = call(address, given)
    assert heard == heard[:1] * 3
    assert re.match(rf"Process 2 \(host-c\) {said}", heard[0])


def test_the_installed_source_is_part_of_the_version(tmp_path, monkeypatch):
    before = report_of(Place("", 2, 0), valid(), {})["versions"]["t5like"]
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "loop.py").write_text("changed")
    monkeypatch.setattr(preflight, "__file__", str(tmp_path / "train" / "preflight.py"))
    assert report_of(Place("", 2, 0), valid(), {})["versions"]["t5like"] != before


@pytest.mark.parametrize(("ahead", "way"), [(60.0, "ahead of"), (-60.0, "behind")])
def test_a_clock_that_is_apart_is_named(address, monkeypatch, ahead, way):
    def clocks(roll: roll_call.Roll) -> Iterator[tuple[int, float, float]]:
        yield from ((number, apart + ahead * (number == 2), doubt) for number, apart, doubt in read(roll))

    read = roll_call.Roll.clocks
    monkeypatch.setattr(roll_call.Roll, "clocks", clocks)
    said = call(address, reports(3))
    sentence = (
        f"The clock of process 2 (host-c) is 60 s {way} that of process 0 (host-a): set both by a time server (NTP)."
    )
    assert said == [sentence] * 3


def test_clocks_of_one_machine_agree(address):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        other = pool.submit(roll_call.answer, address, 1, {}, {}, 20.0)
        with roll_call.Roll(address, 2, {}) as roll:
            roll.wait(20.0)
            ((number, apart, doubt),) = roll.clocks()
        other.result()
    assert number == 1 and abs(apart) <= doubt + 0.01


def test_a_directory_that_one_host_does_not_share_is_named(address, tmp_path, monkeypatch):
    """As if process 1 had a disk of its own under the same name."""

    def look(directory: str, token: str = "") -> str:
        return complaint_about(f"{directory}/own" if token else directory, token)

    monkeypatch.setattr(preflight, "complaint_about", look)
    monkeypatch.setattr(preflight, "VISIBLE", 0.2)
    said = call(address, reports(2), str(tmp_path))
    assert (
        said
        == [
            f"Process 1 (host-b) does not see what process 0 wrote into train.directory={tmp_path}/own: choose one on "
            "storage that all hosts share, such as NFS or a mounted bucket."
        ]
        * 2
    )
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_named(address, tmp_path):
    (tmp_path / "file").touch()
    said = call(address, reports(2), str(tmp_path / "file" / "run"))
    assert (
        said
        == [
            f"Process 0 (host-a) cannot write into train.directory={tmp_path}/file/run (Not a directory): choose "
            "another, or let every host write there."
        ]
        * 2
    )


def test_a_number_that_is_given_twice_is_refused(address):
    def come(number: int) -> Any:
        return call_roll(Place(address, 3, number), reports(3)[number], "", 20.0)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        ended = [pool.submit(come, number) for number in (0, 1, 1)]
    for one in ended:
        with pytest.raises(UserError, match=r"^(Process 1 was started twice|There is a process 1 already)"):
            one.result()


def test_other_programs_at_the_port_are_passed_over(address):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(call_roll, Place(address, 2, 0), reports(2)[0], "", 20.0)
        time.sleep(0.2)
        with socket.create_connection(("localhost", int(address.rpartition(":")[2]))) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\n")
            second = pool.submit(call_roll, Place(address, 2, 1), reports(2)[1], "", 20.0)
            assert (first.exception(), second.exception()) == (None, None)


def test_a_port_that_is_taken_is_a_sentence():
    with socket.create_server(("", 0)) as server:
        taken = f"localhost:{server.getsockname()[1]}"
        with pytest.raises(
            UserError, match=rf"^Process 0 \(.*\) cannot listen at port \d+ of {taken} \(.*\): end what"
        ):
            call_roll(Place(taken, 2, 0), reports(2)[0], "", 1.0)


def place_with(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Place | None:
    for name in (*VARIABLES, *(name for name in os.environ if name.startswith(("SLURM_", "OMPI_")))):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return find_place(1.0)


SLURM = {
    "SLURM_JOB_ID": "5",
    "SLURM_STEP_NODELIST": "node[3-4]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


def test_a_process_alone_has_no_place(monkeypatch):
    assert place_with(monkeypatch) is None
    assert place_with(monkeypatch, JAX_NUM_PROCESSES="1") is None
    assert place_with(monkeypatch, **SLURM | {"SLURM_NTASKS": "1"}) is None


def test_a_place_is_given_by_variables_or_found_under_slurm(monkeypatch):
    three = dict(zip(VARIABLES, ("h:1", "3", "2"), strict=True))
    assert place_with(monkeypatch, **three) == Place("h:1", 3, 2)
    found = place_with(monkeypatch, **SLURM)
    assert found == Place("node3:61445", 2, 1, [0])
    # One task on each node has all of the node's devices.
    assert place_with(monkeypatch, **SLURM, SLURM_STEP_TASKS_PER_NODE="1(x2)") == Place("node3:61445", 2, 1)
    assert place_with(monkeypatch, **SLURM, JAX_COORDINATOR_ADDRESS="h:1") == Place("h:1", 2, 1, [0])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            ("h:1", "2", ""),
            r"^JAX_COORDINATOR_ADDRESS and JAX_NUM_PROCESSES are set, but JAX_PROCESS_ID is not: set all",
        ),
        (("", "2", ""), r"^JAX_NUM_PROCESSES is set, but JAX_COORDINATOR_ADDRESS and JAX_PROCESS_ID are not: set all"),
        (("h:1", "2", "2"), r"^JAX_PROCESS_ID=2 is not below JAX_NUM_PROCESSES=2: processes count from 0\.$"),
        (("h:1", "two", "0"), r"^JAX_NUM_PROCESSES=two is no number\.$"),
        (("h", "2", "0"), r"^JAX_COORDINATOR_ADDRESS=h is no address: give host:port"),
    ],
)
def test_a_place_that_is_half_given_is_a_sentence(monkeypatch, values, said):
    with pytest.raises(UserError, match=said):
        place_with(monkeypatch, **dict(zip(VARIABLES, values, strict=True)))


@pytest.mark.slow
def test_real_processes_end_with_status_2_and_the_sentence(tmp_path):
    """One whose other never comes, two with different commands, and two that cannot write."""
    train, other = ["train", str(CONFIGS / "tiny_gpt.py")], ["--train.seed=7"]
    first, other_command = start([train, ["--help"]], T5LIKE_START_SECONDS="4")
    finish([other_command])
    ((_, err),) = finish([first], 2)
    assert "Process 1 of 2 did not come within 4 s (there is process 0 (" in err
    said = finish(start([train, train + other]), 2)
    assert all(f"has train.seed=7, but process 0 ({socket.gethostname()}) has " in err for _, err in said)
    (tmp_path / "file").touch()
    said = finish(start([[*train, f"--train.directory={tmp_path}/file/run"]] * 2), 2)
    assert all("cannot write into train.directory=" in err and err.count("\n") == 1 for _, err in said)
