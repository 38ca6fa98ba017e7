"""The checks before a run of several processes: who is missing or different is named, in time."""

import concurrent.futures
import copy
import os
import re
import socket
import time
from collections.abc import Callable

import pytest
from command_line import CONFIGS
from connections import connected, free_address
from settings import valid
from test_processes import finish, start

from t5like import cli
from t5like.errors import TransientError, UserError
from t5like.processes import handshake, preflight
from t5like.processes.distributed import VARIABLES, Connection, ProcessInfo, find_process
from t5like.processes.handshake import assemble
from t5like.processes.preflight import Report, complaint_about, report_of, require_alike, require_shared

HOSTS = [f"host-{letter}" for letter in "abcdefgh"]


@pytest.fixture
def address() -> str:
    return free_address()


AGAIN = "another try may do: "
"""Before the sentences of failures that are no mistakes."""


def sentences(calls: list[Callable[[], object]]) -> list[str]:
    """What each process, a thread here, ends with; nothing if it goes on."""

    def one(call: Callable[[], object]) -> str:
        try:
            call()
        except UserError as error:
            return str(error)
        except TransientError as error:
            return f"{AGAIN}{error}"
        return ""

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(one, calls))


def come(address: str, numbers: list[int], count: int, seconds: float = 20.0) -> list[str]:
    """What the processes of these numbers hear in the handshake of `count`."""
    return sentences([lambda n=n: assemble(ProcessInfo(address, count, n), seconds) for n in numbers])


def reports(count: int) -> list[Report]:
    """What processes on hosts of their own say of themselves when all is well."""
    one = report_of(ProcessInfo("", count, 0), valid(), {"options": 1})
    return [{**copy.deepcopy(one), "host": {"name": host}} for host in HOSTS[:count]]


def compare(address: str, given: list[Report]) -> list[str]:
    """What each process hears when their reports are compared."""
    with connected(address, len(given)) as processes:
        return sentences([lambda p=p, r=r: require_alike(p, r) for p, r in zip(processes, given, strict=True)])


def share(address: str, directory: object) -> list[str]:
    """What two processes hear when they try a directory."""
    with connected(address, 2) as processes:
        return sentences([lambda p=p: require_shared(p, HOSTS[p.index], str(directory)) for p in processes])


def test_processes_that_all_come_go_on(address):
    assert come(address, [0, 1, 2, 3], 4) == [""] * 4


def test_processes_that_are_alike_go_on(address):
    assert compare(address, reports(3)) == [""] * 3


def test_a_directory_that_all_share_is_left_as_it_was(address, tmp_path):
    assert share(address, tmp_path / "run") == [""] * 2
    assert list((tmp_path / "run").iterdir()) == []


def test_a_process_that_does_not_come_is_named_within_the_limit(address, monkeypatch):
    monkeypatch.setattr(handshake.socket, "gethostname", lambda: "host-a")
    started = time.monotonic()
    said = come(address, [0, 2], 4, seconds=1.0)
    assert time.monotonic() - started < 5
    assert (
        said
        == [
            f"{AGAIN}Processes 1, 3 of 4 did not come within 1 s (there are process 0 (host-a), process 2 (host-a)): "
            "start the same command on every host, or set JAX_NUM_PROCESSES to the number that there are."
        ]
        * 2
    )


def test_a_process_that_comes_late_is_waited_for(address):
    def late() -> None:
        time.sleep(1.0)
        assemble(ProcessInfo(address, 2, 1), 20.0)

    assert sentences([lambda: assemble(ProcessInfo(address, 2, 0), 20.0), late]) == ["", ""]


def test_a_process_that_finds_no_process_0_says_where_it_should_be(address):
    (said,) = come(address, [1], 2, seconds=0.3)
    assert said.startswith(f"{AGAIN}Process 1 ({socket.gethostname()}) finds no process 0 at {address} within 0 s (")


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
    heard = compare(address, given)
    assert heard == heard[:1] * 3
    assert re.match(rf"Process 2 \(host-c\) {said}", heard[0])


def test_the_installed_source_is_part_of_the_version(tmp_path, monkeypatch):
    before = report_of(ProcessInfo("", 2, 0), valid(), {})["versions"]["t5like"]
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "loop.py").write_text("changed")
    monkeypatch.setattr(preflight, "__file__", str(tmp_path / "train" / "preflight.py"))
    assert report_of(ProcessInfo("", 2, 0), valid(), {})["versions"]["t5like"] != before


@pytest.mark.parametrize(("ahead", "way"), [(60.0, "ahead of"), (-60.0, "behind")])
def test_a_clock_that_is_apart_is_named(address, monkeypatch, ahead, way):
    """As if process 2 read its own clock when it reports."""

    def shared(process: Connection, key: str, value: object) -> None:
        if isinstance(value, list) and process.index == 2:
            value = [value[0] + ahead, value[1]]
        share(process, key, value)

    share = Connection.share
    monkeypatch.setattr(Connection, "share", shared)
    sentence = (
        f"The clock of process 2 (host-c) is 60 s {way} that of process 0 (host-a): set both by a time server (NTP)."
    )
    assert compare(address, reports(3)) == [sentence] * 3


def test_a_process_that_does_not_answer_is_named_on_all_others(address, monkeypatch):
    monkeypatch.setattr(preflight, "PATIENCE", 1.0)
    given = reports(3)

    def silent(process: Connection) -> None:
        process.client.wait_at_barrier("t5like/preflight/clocks", 1000)

    with connected(address, 3) as processes:
        calls = [lambda p=p: silent(p) if p.index == 1 else require_alike(p, given[p.index]) for p in processes]
        said = sentences(calls)
    sentence = f"{AGAIN}Process 1 did not answer within 1 s: look at its messages."
    assert said == [sentence, "", sentence]


def test_a_directory_that_one_host_does_not_share_is_named(address, tmp_path, monkeypatch):
    """As if process 1 had a disk of its own under the same name."""

    def look(directory: str, token: str = "") -> str:
        return complaint_about(f"{directory}/own" if token else directory, token)

    monkeypatch.setattr(preflight, "complaint_about", look)
    monkeypatch.setattr(preflight, "VISIBLE", 0.2)
    sentence = (
        f" does not see what process 0 wrote into train.directory={tmp_path}/own: choose one on storage that all hosts "
        "share, such as NFS or a mounted bucket."
    )
    said = share(address, tmp_path)
    assert said == [f"Process 0 (host-a){sentence}"] * 2
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_named(address, tmp_path):
    (tmp_path / "file").touch()
    started = time.monotonic()
    said = share(address, tmp_path / "file" / "run")
    assert time.monotonic() - started < preflight.VISIBLE
    assert (
        said
        == [
            f"Process 0 (host-a) cannot write into train.directory={tmp_path}/file/run (Not a directory): choose "
            "another, or let every host write there."
        ]
        * 2
    )


def test_a_number_that_is_given_twice_is_refused(address):
    said = come(address, [0, 1, 1], 3)
    assert said == ["Process 1 was started twice: give each process a number of its own."] * 3


def test_a_process_that_was_started_again_replaces_itself(address):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(come, address, [0], 3)
        time.sleep(0.2)
        with socket.create_connection(("localhost", int(address.rpartition(":")[2]))) as ended:
            ended.sendall(b'[1, "host-b"]\n')
            time.sleep(0.2)
        assert come(address, [1, 2], 3) == ["", ""]
        assert first.result() == [""]


def test_a_process_that_came_and_ended_is_missing(address):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(come, address, [0], 2, 1.0)
        time.sleep(0.2)
        with socket.create_connection(("localhost", int(address.rpartition(":")[2]))) as ended:
            ended.sendall(b'[1, "host-b"]\n')
        assert first.result()[0].startswith(f"{AGAIN}Process 1 of 2 did not come")


def test_a_process_0_that_ends_early_sends_nobody_on(address, monkeypatch):
    def fail(server: socket.socket, count: int, hosts: dict, connections: dict, seconds: float) -> None:
        wait(server, 2, hosts, connections, seconds)
        raise RuntimeError("a bug")

    wait = handshake._wait
    monkeypatch.setattr(handshake, "_wait", fail)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(assemble, ProcessInfo(address, 3, 0), 20.0)
        (said,) = come(address, [1], 3)
        assert isinstance(first.exception(), RuntimeError)
    assert said == (
        f"{AGAIN}Process 0 ({socket.gethostname()}) ended before all processes were there: look at its messages."
    )


def test_a_process_whose_machine_is_gone_replaces_itself_when_it_is_back(address, monkeypatch):
    """A machine that ends says nothing: the system asks after it (here at once), and gets no answer."""
    monkeypatch.setattr(handshake, "_keep_alive", lambda connection: asked.append(connection))
    asked: list[socket.socket] = []
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(come, address, [0], 3)
        time.sleep(0.2)
        with socket.create_connection(("localhost", int(address.rpartition(":")[2]))) as silent:
            silent.sendall(b'[1, "host-b"]\n')
            while not asked:
                time.sleep(0.02)
            lost = asked[0]
            monkeypatch.setattr(handshake, "_is_open", lambda connection: connection is not lost)
            assert come(address, [1, 2], 3) == ["", ""]
        assert first.result() == [""]


def test_a_connection_is_asked_whether_the_other_machine_is_there():
    with socket.socket() as connection:
        handshake._keep_alive(connection)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15


def test_a_failure_that_another_try_may_mend_has_a_status_of_its_own(address, monkeypatch, capsys):
    """It reaches the other processes as what it is, not as a mistake."""

    def unreachable() -> None:
        raise TransientError("The bucket does not answer.")

    with connected(address, 2) as processes:
        said = sentences([lambda p=p: p.run_on_primary("key", "read", unreachable) for p in processes])
    assert said == [f"{AGAIN}The bucket does not answer."] * 2
    monkeypatch.setattr(cli, "run", lambda words: unreachable())
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().err) == (75, "t5like: The bucket does not answer.\n")


def test_other_programs_at_the_port_are_passed_over(address):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first = pool.submit(come, address, [0], 2)
        time.sleep(0.2)
        with socket.create_connection(("localhost", int(address.rpartition(":")[2]))) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\n")
            assert come(address, [1], 2) == [""]
        assert first.result() == [""]


def test_a_port_that_is_taken_is_a_sentence():
    with socket.create_server(("", 0)) as server:
        taken = f"localhost:{server.getsockname()[1]}"
        (said,) = come(taken, [0], 2, seconds=1.0)
    assert re.match(rf"^Process 0 \(.*\) cannot listen at port \d+ of {taken} \(.*\): end what", said)


def process_with(monkeypatch: pytest.MonkeyPatch, **variables: str) -> ProcessInfo | None:
    for name in (*VARIABLES, *(name for name in os.environ if name.startswith(("SLURM_", "OMPI_")))):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return find_process(1.0)


SLURM = {
    "SLURM_JOB_ID": "5",
    "SLURM_STEP_NODELIST": "node[3-4]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


def test_a_process_alone_is_none_of_several(monkeypatch):
    assert process_with(monkeypatch) is None
    assert process_with(monkeypatch, JAX_NUM_PROCESSES="1") is None
    assert process_with(monkeypatch, **SLURM | {"SLURM_NTASKS": "1"}) is None


def test_a_process_is_given_by_variables_or_found_under_slurm(monkeypatch):
    three = dict(zip(VARIABLES, ("h:1", "3", "2"), strict=True))
    assert process_with(monkeypatch, **three) == ProcessInfo("h:1", 3, 2)
    found = process_with(monkeypatch, **SLURM)
    assert found == ProcessInfo("node3:61445", 2, 1, [0])
    # One task on each node has all of the node's devices.
    assert process_with(monkeypatch, **SLURM, SLURM_STEP_TASKS_PER_NODE="1(x2)") == ProcessInfo("node3:61445", 2, 1)
    assert process_with(monkeypatch, **SLURM, JAX_COORDINATOR_ADDRESS="h:1") == ProcessInfo("h:1", 2, 1, [0])


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
def test_a_process_that_is_half_given_is_a_sentence(monkeypatch, values, said):
    with pytest.raises(UserError, match=said):
        process_with(monkeypatch, **dict(zip(VARIABLES, values, strict=True)))


@pytest.mark.slow
def test_real_processes_end_with_the_status_and_the_sentence(tmp_path):
    """One whose other never comes, two with different commands, and two that cannot write."""
    train, other = ["train", str(CONFIGS / "tiny_gpt.py")], ["--train.seed=7"]
    first, other_command = start([train, ["--help"]], T5LIKE_START_SECONDS="4")
    finish([other_command])
    ((_, err),) = finish([first], 75)
    assert "Process 1 of 2 did not come within 4 s (there is process 0 (" in err
    said = finish(start([train, train + other]), 2)
    assert all(f"has train.seed=7, but process 0 ({socket.gethostname()}) has " in err for _, err in said)
    (tmp_path / "file").touch()
    said = finish(start([[*train, f"--train.directory={tmp_path}/file/run"]] * 2), 2)
    assert all("cannot write into train.directory=" in err and err.count("\n") == 1 for _, err in said)
