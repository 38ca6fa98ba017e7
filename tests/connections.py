"""Processes that JAX's own coordination service connects, all of them in this one."""

import concurrent.futures
import contextlib
import socket
from collections.abc import Iterator

from jaxlib import _jax  # pyright: ignore[reportAttributeAccessIssue]

from t5like.processes.distributed import Connection


def free_address() -> str:
    """Host and port for process 0."""
    with socket.create_server(("", 0)) as server:
        return f"localhost:{server.getsockname()[1]}"


@contextlib.contextmanager
def connected(address: str, count: int) -> Iterator[list[Connection]]:
    """Processes that JAX's own coordination service connects, all of them in this one."""
    service = _jax.get_distributed_runtime_service(address, count)
    clients = [_jax.get_distributed_runtime_client(address, number) for number in range(count)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(lambda client: client.connect(), clients))
        try:
            yield [Connection(client, number, count) for number, client in enumerate(clients)]
        finally:
            list(pool.map(lambda client: client.shutdown(), clients))
    service.shutdown()
