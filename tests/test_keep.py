"""`launch/tpu_pod.sh keep` through every state of a queued resource, and what else may happen: it never leaves hosts
that cost money and do nothing."""

import os
import pathlib
import shutil
import subprocess
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import pytest
from command_line import ROOT
from stand_in_cloud import Cloud, Row

POLL = 600
UP = ["create", "scp", "install", "start"]
"""What is done for a run on new hosts."""
AGAIN = ["scp", "install", "start"]
WELL = [Row(0, "ACTIVE"), Row(1500, "ACTIVE", "finished")]


class Case(NamedTuple):
    """What the cloud does, and what `keep` does about it, until it ends with a status and a sentence."""

    tables: list[list[Row]]
    acts: list[str]
    status: int = 0
    said: str = ""
    fails: Mapping[str, int] = MappingProxyType({})
    exists: bool = True
    started: bool = True
    flags: str = ""


CASES = {
    "nothing yet": Case([WELL], [*UP, "delete"], exists=False, started=False),
    "waiting": Case(
        [
            [
                Row(0, "ACCEPTED"),
                Row(500, "CREATING"),
                Row(1000, "WAITING_FOR_RESOURCES"),
                Row(1700, "PROVISIONING"),
                Row(2300, "ACTIVE"),
                Row(3500, "ACTIVE", "finished"),
            ]
        ],
        [*AGAIN, "delete"],
        started=False,
    ),
    "running": Case([WELL], ["delete"]),
    "not started": Case([WELL], [*AGAIN, "delete"], started=False),
    "preempted": Case(
        [[Row(0, "ACTIVE"), Row(500, "SUSPENDING"), Row(1500, "SUSPENDED")], WELL], ["delete", *UP, "delete"]
    ),
    "preempted twice": Case(
        [[Row(0, "SUSPENDED")], [Row(0, "ACTIVE"), Row(1500, "SUSPENDED")], WELL],
        ["delete", *UP, "delete", *UP, "delete"],
    ),
    "preempted, and one scp is refused": Case(
        [[Row(0, "SUSPENDED")], WELL], ["delete", "create", "scp", *AGAIN, "delete"], fails={"scp": 1}
    ),
    "preempted, and installation fails for good": Case(
        [[Row(0, "SUSPENDED")], [Row(0, "ACTIVE")]],
        ["delete", "create", *["scp", "install"] * 6, "delete"],
        1,
        "install or start failed 6 times; the hosts are deleted.",
        fails={"install": 99},
    ),
    "one host does not start": Case([WELL], [*AGAIN, *AGAIN, "delete"], fails={"start": 1}, started=False),
    "failed once": Case([[Row(0, "FAILED")], WELL], ["delete", *UP, "delete"]),
    "failed always": Case(
        [[Row(0, "FAILED")]],
        [*["delete", "create"] * 5, "delete", "delete"],
        1,
        "pod came to nothing (FAILED) 6 times; the hosts are deleted.",
    ),
    "refused": Case(
        [[Row(0, "ACTIVE", "refused, exit status 2")]], ["delete"], 1, "the run did not end well, and its last lines"
    ),
    "run failed": Case([[Row(0, "ACTIVE", "failed, exit-code, exit status 1")]], ["delete"], 1, "did not end well"),
    "stopped for good": Case(
        [[Row(0, "ACTIVE"), Row(500, "ACTIVE", "stopped")]], ["delete"], 1, "was stopped and not started again within"
    ),
    "stopped for a while": Case([[Row(0, "ACTIVE", "stopped"), Row(500, "ACTIVE"), *WELL[1:]]], ["delete"]),
    "silent for a while": Case([[Row(0, "ACTIVE", "-"), Row(500, "ACTIVE"), *WELL[1:]]], ["delete"]),
    "silent for good": Case([[Row(0, "ACTIVE", "-")], WELL], ["delete", *UP, "delete"]),
    "deleted by somebody": Case([[Row(0, "ACTIVE"), Row(500, "DELETING"), Row(1800, "GONE")]], [], 1, "pod is gone"),
    "gcloud fails for two hours": Case(
        [[Row(0, "ACTIVE"), Row(500, "ERROR"), Row(8100, "ACTIVE", "finished")]], ["delete"]
    ),
    "creation refused once": Case([WELL], ["create", *UP, "delete"], fails={"create": 1}, exists=False, started=False),
    "deletion refused twice": Case([WELL], ["delete"] * 3, fails={"delete": 2}),
    "time over": Case(
        [[Row(0, "ACTIVE")]], ["stop", "delete"], 1, "was watched for 2h, its --time-limit", flags="--time-limit 2h"
    ),
    "time over in the queue": Case(
        [[Row(0, "WAITING_FOR_RESOURCES")]], ["delete"], 1, "its --time-limit", flags="--time-limit 2h"
    ),
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> pathlib.Path:
    """A repository with the scripts and a preset, committed."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "launch", root / "launch")
    (root / "configs").mkdir()
    (root / "configs" / "x.py").write_text("config = None\n")
    (root / ".gitignore").write_text("/build/\n")
    for words in ("init --quiet", "add .", "-c user.name=a -c user.email=b commit --quiet --message all"):
        subprocess.run(["git", *words.split()], cwd=root, check=True)
    return root


def keep(checkout: pathlib.Path, cloud: Cloud, flags: str = "") -> subprocess.CompletedProcess[str]:
    asked = f"--name pod --zone us-central2-b --accelerator v5litepod-64 {flags} configs/x.py"
    path = f"{cloud.folder / 'programs'}:{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "CLOUD": str(cloud.folder), "POLL_SECONDS": str(POLL)}
    return subprocess.run(
        ["bash", "launch/tpu_pod.sh", "keep", *asked.split()],
        cwd=checkout,
        env=variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("name", CASES)
def test_no_hosts_are_left_whatever_happens(checkout, tmp_path, name):
    case = CASES[name]
    cloud = Cloud(tmp_path, case.tables, case.fails, case.exists, case.started)
    done = keep(checkout, cloud, case.flags)
    assert (done.returncode, cloud.acts(), cloud.exists) == (case.status, case.acts, False), done.stderr
    assert case.said in done.stderr
    assert "costs money" not in done.stderr


def test_hosts_that_cannot_be_deleted_are_named_loudly(checkout, tmp_path):
    cloud = Cloud(tmp_path, [[Row(0, "ACTIVE", "finished")]], {"delete": 99})
    done = keep(checkout, cloud)
    assert done.returncode == 1
    assert cloud.acts() == ["delete"] * 6
    assert "pod could not be deleted" in done.stderr
    assert "pod exists and costs money until: bash launch/tpu_pod.sh delete --name pod" in done.stderr


def test_paid_hosts_idle_for_half_an_hour_at_most(checkout, tmp_path):
    """Each of these would otherwise have been polled for ever."""
    for number, word in enumerate(("stopped", "-", "refused, exit status 2")):
        (tmp_path / str(number)).mkdir()
        cloud = Cloud(tmp_path / str(number), [[Row(0, "ACTIVE", word)], [Row(0, "FAILED")]])
        keep(checkout, cloud, "--time-limit 20h")
        acts = (cloud.folder / "acts").read_text().split()
        assert acts[1] == "delete" and int(acts[0]) <= 1800 + 2 * POLL
