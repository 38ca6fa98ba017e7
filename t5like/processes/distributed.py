"""The processes of one run: their numbers, their connection, and what process 0 does while the others wait.

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
from jaxlib._jax import DistributedRuntimeClient

from t5like.errors import StorageError, TransientError, UserError

VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
TOGETHER = 10
"""Seconds within which processes that end for the same reason end."""
LONGEST = 24 * 3600
"""Seconds that processes wait for process 0, which may prepare a large store."""
_tasks = itertools.count()
Result = TypeVar("Result")
Outcome = list[str]
"""An error as processes send it to each other: the name of its class, and its sentence."""
ERRORS = {error.__name__: error for error in (UserError, TransientError, StorageError)}


@dataclass(frozen=True)
class ProcessInfo:
    """A process of a run of several, as JAX is told of it."""

    address: str
    """Host and port of process 0."""
    count: int
    """Processes of the run."""
    index: int
    devices: list[int] | None = None
    """Its own devices by their numbers, where it has not all of its machine's."""


def find_process(seconds: float) -> ProcessInfo | None:
    """Read from the environment which process of several this is; None for a process alone.

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
    return ProcessInfo(address, count, index, devices)


def _number(name: str, value: str) -> int:
    if not value.isdecimal():
        raise UserError(f"{name}={value} is no number.")
    return int(value)


def _recognised(
    address: str | None, count: int | None, index: int | None, seconds: float
) -> tuple[str | None, int | None, int | None, list[int] | None]:
    """Address, count, index and devices, completed by what JAX knows of the cluster that this machine is in, if any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says on every machine of Kubernetes what is missing for its recognition
        try:
            found = clusters.ClusterEnv.auto_detect_unset_distributed_params(
                address, count, index, None, None, int(seconds)
            )
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            print(
                f"This process runs alone: JAX finds a cluster, but not its number in it ({reason}).", file=sys.stderr
            )
            return address, count, index, None
    address, count, index, devices = found
    return address, count, index, None if devices is None or _alone_on_machine() else list(devices)


def _alone_on_machine() -> bool:
    """True if the process may take all devices of its machine, which JAX does not assume under Slurm and Open MPI."""
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE") or os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "")
    return bool(re.fullmatch(r"1(\(x\d+\))?", tasks))


def process_index() -> int:
    """The number of this process, without a use of devices; 0 in a run of one."""
    return distributed.global_state.process_id


def is_primary_process() -> bool:
    """True in the process that writes logs and prints: process 0."""
    return process_index() == 0


@dataclass(frozen=True)
class Connection:
    """JAX's coordination service as one process of several reaches it: a key-value store and barriers."""

    client: DistributedRuntimeClient
    index: int
    count: int

    def share(self, key: str, value: Any) -> None:
        """Set this process's value, which goes through JSON, for `collect`."""
        self.client.key_value_set(f"{key}/{self.index}", json.dumps(value))

    def collect(self, key: str, seconds: float) -> dict[int, Any]:
        """The values that all processes share, by their numbers.

        Raises:
          TransientError: one has shared none within so many seconds.
        """
        deadline, found = time.monotonic() + seconds, dict[int, Any]()
        for number in range(self.count):
            left = max(int(1000 * (deadline - time.monotonic())), 1)
            if (text := self.get(f"{key}/{number}", left)) is None:
                raise TransientError(f"Process {number} did not answer within {seconds:.0f} s: look at its messages.")
            found[number] = json.loads(text)
        return found

    def run_on_primary(self, key: str, task: str, act: Callable[[], Result]) -> Result | None:
        """See `run_on_primary`; `key` is used once."""
        if self.index:
            raise_outcome(self._outcome(key, task))
            return None
        try:
            result = act()
        except (UserError, TransientError) as error:
            self.client.key_value_set(key, json.dumps(outcome_of(error)))
            raise
        self.client.key_value_set(key, json.dumps(None))
        return result

    def wait_for_all(self, key: str, seconds: float) -> None:
        """Return in all processes at the same moment, when the last of them has come; `key` is used once.

        Raises:
          TransientError: one has not come within so many seconds, or is lost.
        """
        try:
            self.client.wait_at_barrier(key, int(1000 * seconds))
        except jax.errors.JaxRuntimeError as error:
            raise TransientError(
                f"{_name(self.index)} waited for the others in vain for {seconds:.0f} s ({_first_line(error)}): look "
                "at their messages."
            ) from None

    def _outcome(self, key: str, task: str) -> Outcome | None:
        """Wait for process 0, and say so once a minute."""
        started = said = time.monotonic()
        while (text := self.get(key, 5000)) is None:
            waited = time.monotonic() - started
            if waited > LONGEST:
                raise TransientError(
                    f"{_name(self.index)} has waited {waited / 3600:.0f} h for process 0 to {task}: look at its "
                    "messages."
                )
            if time.monotonic() - said > 60:
                said = time.monotonic()
                waits = f"{_name(self.index)} waits for process 0 to {task}, for {waited / 60:.0f} min."
                print(waits, file=sys.stderr, flush=True)
        return json.loads(text)

    def get(self, key: str, milliseconds: int) -> str | None:
        """The value of a key; None if it has none within so many milliseconds.

        Raises:
          TransientError: process 0, which has the values, is lost.
        """
        try:
            return self.client.blocking_key_value_get(key, milliseconds)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" in str(error):
                return None
            raise TransientError(
                f"{_name(self.index)} has lost process 0 ({_first_line(error)}): look at its messages."
            ) from None


def outcome_of(error: UserError | TransientError) -> Outcome:
    """The error as it is sent to other processes, which end with the same sentence and status."""
    return [type(error).__name__, str(error)]


def raise_outcome(outcome: Outcome | None) -> None:
    """Raise the error that another process sent; without one, go on."""
    if outcome:
        name, sentence = outcome
        raise ERRORS[name](sentence)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def connection() -> Connection | None:
    """This process's connection to the others; None in a run of one."""
    state = distributed.global_state
    return None if state.client is None else Connection(state.client, state.process_id, state.num_processes)


def run_on_primary(task: str, act: Callable[[], Result]) -> Result | None:
    """Process 0 acts while the others wait, and fail if it fails; they get None, and process 0 what `act` returns.

    Args:
      task: what process 0 does, as in "process 0 has to prepare the data".

    Raises:
      UserError, TransientError: what `act` raised on process 0.
      TransientError: process 0 is lost.
    """
    if (connected := connection()) is None:
        return act()
    return connected.run_on_primary(f"t5like/primary/{next(_tasks)}", task, act)


def _name(index: int) -> str:
    return f"Process {index} ({socket.gethostname()})"


def leave(status: int) -> None:
    """End a process that failed: wait a moment for the others, and if they go on, end at once.

    An end in good order would wait minutes for processes that wait in vain for this one.
    """
    if (connected := connection()) is None:
        return
    try:
        connected.client.wait_at_barrier("t5like/leave", TOGETHER * 1000)
    except jax.errors.JaxRuntimeError:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)
