"""Joining JAX's coordination service, with what is set there on the way."""

import functools
import os
import signal
import threading

import jax
from jax._src import distributed
from jaxlib import _jax  # pyright: ignore[reportAttributeAccessIssue]

from t5like.errors import UserError
from t5like.processes.distributed import ProcessInfo


def connect(info: ProcessInfo, seconds: float) -> None:
    """Join JAX's coordination service, which all processes of the run do at the same time, before they use devices."""
    handler, made = signal.getsignal(signal.SIGTERM), _jax.get_distributed_runtime_client
    # Its own call-back logs a stack of C++ and aborts; see `peers` for what comes of another.
    _jax.get_distributed_runtime_client = functools.partial(made, missed_heartbeat_callback=_say_nothing)
    try:
        jax.distributed.initialize(
            info.address,
            info.count,
            info.index,
            info.devices,
            cluster_detection_method="deactivate",
            initialization_timeout=int(seconds),
            heartbeat_timeout_seconds=lost_after(),
        )
    finally:
        _jax.get_distributed_runtime_client = made
        # JAX's preemption service has put its own, which would keep a process from ending while it compiles or prepares
        # data. Training asks the service for notices that come another way, beside its own handler.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _say_nothing(*status: object) -> None:
    """Leave it to the processes to say who is lost."""


def lost_after() -> int:
    """Seconds after which JAX counts a process as lost that is killed, stopped or without a network."""
    value = os.environ.get("T5LIKE_LOST_SECONDS", "30")
    if not value.isdecimal() or int(value) < 10:
        raise UserError(f"T5LIKE_LOST_SECONDS={value} must be a number of seconds, at least 10.")
    return int(value)


def notices_preemption() -> bool:
    """True if JAX's preemption service is on, which `multihost_utils.reached_preemption_sync_point` asks."""
    return distributed.global_state.preemption_sync_manager is not None


def coordinator_address() -> str:
    """Host and port of the service, which is a part of process 0."""
    return distributed.global_state.coordinator_address or ""
