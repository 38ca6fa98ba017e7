"""A Slurm cluster of this machine alone, from the programs of the system's packages, without a service manager."""

import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from typing import Any

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "sinfo", "squeue")
SETTINGS = """ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=1000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE
"""


def missing() -> str:
    """Why no cluster can be started here, or nothing."""
    lacking = [name for name in PROGRAMS if not shutil.which(name, path=search_path())]
    if lacking:
        return f"Slurm's {', '.join(lacking)} are not installed (Debian: slurmctld, slurmd, slurm-client, munge)"
    return "" if os.geteuid() == 0 else "slurmd starts the tasks of others, and needs root"


def search_path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


def wait_for(what: str, condition: Callable[[], bool], seconds: float = 300) -> None:
    """Until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not happen in {seconds:.0f} s"
        time.sleep(0.2)


class Cluster:
    """One node with four processors; `variables` are what its commands need."""

    def __init__(self, folder: pathlib.Path):
        host = socket.gethostname().partition(".")[0]
        for name in ("state", "spool"):
            (folder / name).mkdir()
        (folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (folder / "munge.key").chmod(0o600)
        with socket.create_server(("", 0)) as first, socket.create_server(("", 0)) as second:
            ports = [first.getsockname()[1], second.getsockname()[1]]
        settings = folder / "slurm.conf"
        settings.write_text(SETTINGS.format(host=host, folder=folder, ports=ports))
        self.variables = {**os.environ, "PATH": search_path(), "SLURM_CONF": str(settings)}
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        munged = [f"--{flag}={folder / name}" for flag, name in files.items()]
        self._output = (folder / "daemons.log").open("wb")
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._start("munged", "--foreground", "--force", *munged)
        wait_for("munge's socket", (folder / "munge.socket").exists, 20)
        self._start("slurmctld", "-D", "-f", settings)
        self._start("slurmd", "-D", "-f", settings)
        wait_for("an idle node", lambda: self.say("sinfo", "--noheader", "--format=%T") == "idle", 60)

    def _start(self, *command: object) -> None:
        words = [str(word) for word in command]
        self._daemons.append(subprocess.Popen(words, env=self.variables, stdout=self._output, stderr=subprocess.STDOUT))

    def say(self, *command: object, **options: Any) -> str:
        """What one of Slurm's programs answers; nothing where it fails."""
        asked: dict[str, Any] = {"env": self.variables, "capture_output": True, "text": True, "timeout": 60, **options}
        return subprocess.run([str(word) for word in command], check=False, **asked).stdout.strip()

    def job(self, number: str) -> dict[str, str]:
        """What Slurm knows of a job."""
        words = self.say("scontrol", "--oneliner", "show", "job", number).split()
        return {name: value for name, _, value in (word.partition("=") for word in words)}

    def stop(self) -> None:
        """Ends the jobs and the programs."""
        self.say("scancel", "--user=root")
        wait_for("the end of the jobs", lambda: self.say("squeue", "--noheader", "--states=R,CG") == "", 60)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
        self._output.close()
