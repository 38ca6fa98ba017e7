"""The processes of one run: how each finds its place among them, and what process 0 does before the others.

A run of one process starts nothing. TPU pods, Slurm and Open MPI are recognised by JAX; elsewhere the three variables
of `VARIABLES` say where process 0 is. The key-value store of JAX's coordination service has no public name, nor has
its recognition of clusters: both are used here alone, for what must not hang and must say who waits for whom, as
collectives on the devices cannot.
"""

import itertools
import json
import os
import re
import socket
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
from jax._src import clusters, distributed

from t5like.errors import UserError

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
TOGETHER = 10
"""Seconds within which processes that end for the same reason end."""
LONGEST = 24 * 3600
"""Seconds that processes wait for process 0, which may prepare a large store."""
_tasks = itertools.count()
Result = TypeVar("Result")


@dataclass(frozen=True)
class Place:
    """A process among the `count` of a run; process 0 is at `address`; `devices` are its own where it has not all of
    its machine's."""

    address: str
    count: int
    index: int
    devices: list[int] | None = None


def find_place(seconds: float) -> Place | None:
    """This process's place among several, or None for a process alone.

    Raises:
      UserError: the variables of `VARIABLES` are incomplete or no numbers.
    """
    given = {name: os.environ[name] for name in VARIABLES if os.environ.get(name)}
    numbers = [_number(name, given[name]) if name in given else None for name in VARIABLES[1:]]
    address, (count, index), devices = given.get(VARIABLES[0]), numbers, None
    if len(given) < len(VARIABLES):
        address, count, index, devices = _recognised(address, count, index, seconds)
    if 1 in (count, numbers[0]) or (count is None and not given):
        return None
    if address is None or count is None or index is None:
        missing = [name for name in VARIABLES if name not in given]
        raise UserError(
            f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'} set, but {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not: set all three, or none on a TPU pod or under Slurm."
        )
    if not re.fullmatch(r".+:\d+", address):
        raise UserError(f"{VARIABLES[0]}={address} is no address: give host:port, such as 10.0.0.2:8476.")
    if index >= count:
        raise UserError(f"{VARIABLES[2]}={index} is not below {VARIABLES[1]}={count}: processes count from 0.")
    return Place(address, count, index, devices)


def _number(name: str, value: str) -> int:
    if not value.isdecimal():
        raise UserError(f"{name}={value} is no number.")
    return int(value)


def _recognised(address: str | None, count: int | None, index: int | None, seconds: float) -> tuple[Any, Any, Any, Any]:
    """What JAX knows of the cluster that this machine is in, if any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says on every machine of Kubernetes what is missing for its recognition
        try:
            found = clusters.ClusterEnv.auto_detect_unset_distributed_params(
                address, count, index, None, None, int(seconds)
            )
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            print(f"This process runs alone: JAX finds a cluster, but not its place in it ({reason}).", file=sys.stderr)
            return address, count, index, None
    address, count, index, devices = found
    return address, count, index, None if _alone_on_machine() else devices


def _alone_on_machine() -> bool:
    """Whether the process may take all devices of its machine, as JAX does not assume under Slurm and Open MPI."""
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE") or os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "")
    return bool(re.fullmatch(r"1(\(x\d+\))?", tasks))


def connect(place: Place, seconds: float) -> None:
    """Joins JAX's coordination service, which all processes of the run do at the same time, before they use devices."""
    # Its handler of SIGTERM would keep a process from ending while it compiles or prepares data.
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        place.address,
        place.count,
        place.index,
        place.devices,
        cluster_detection_method="deactivate",
        initialization_timeout=int(seconds),
    )


def process() -> int:
    """The number of this process, without a use of devices; 0 in a run of one."""
    return distributed.global_state.process_id


def leads() -> bool:
    """Whether this is the process that writes logs and prints."""
    return process() == 0


def client() -> Any:
    """The key-value store and barriers of the run's processes; None in a run of one."""
    return distributed.global_state.client


def lead(task: str, act: Callable[[], Result]) -> Result | None:
    """Process 0 acts while the others wait, and fail if it fails; they get None, and process 0 what `act` returns.

    Args:
      task: what process 0 does, as in "process 0 has to prepare the data".

    Raises:
      UserError: what `act` raised on process 0.
    """
    if client() is None:
        return act()
    key = f"t5like/lead/{next(_tasks)}"
    if not leads():
        if said := _outcome(key, task):
            raise UserError(said)
        return None
    try:
        result = act()
    except UserError as error:
        client().key_value_set(key, json.dumps(str(error)))
        raise
    client().key_value_set(key, json.dumps(""))
    return result


def _outcome(key: str, task: str) -> str:
    """Waits for process 0, and says so once a minute."""
    started = said = time.monotonic()
    while True:
        try:
            return json.loads(client().blocking_key_value_get(key, 5000))
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
        waited = time.monotonic() - started
        if waited > LONGEST:
            raise UserError(f"{here()} has waited {waited / 3600:.0f} h for process 0 to {task}: look at its messages.")
        if time.monotonic() - said > 60:
            said = time.monotonic()
            print(f"{here()} waits for process 0 to {task}, for {waited / 60:.0f} min.", file=sys.stderr, flush=True)


def here() -> str:
    """This process by number and host."""
    return f"Process {process()} ({socket.gethostname()})"


def leave(status: int) -> None:
    """What a process does that ends with an error: waits a moment for the others, and if they go on, ends at once.

    An end in good order waits minutes for processes that wait in vain for this one.
    """
    if client() is None:
        return
    try:
        client().wait_at_barrier("t5like/leave", TOGETHER * 1000)
    except jax.errors.JaxRuntimeError:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)
