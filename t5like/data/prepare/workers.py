"""Work that is spread over processes: a pool on this machine, or an Apache Beam pipeline.

A task is done when its result is on disk, so neither of them keeps anything that could be lost.
"""

import concurrent.futures
import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from t5like.errors import UserError

Workers = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]
"""Run a function for every task and yield the results in any order."""


def pool(processes: int) -> Workers:
    """Workers that are processes of this machine, or this process alone where one is enough.

    An exception of a worker arrives as itself; it, and an interrupt here, ends the others at once.
    """

    def run(work: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
        count = min(processes, len(tasks))
        if count <= 1:
            yield from map(work, tasks)
            return
        spawn = multiprocessing.get_context("spawn")
        alive, end = spawn.Pipe(duplex=False)
        executor = concurrent.futures.ProcessPoolExecutor(count, spawn, _begin, (alive,))
        try:
            with _without_interrupts():
                finished = concurrent.futures.as_completed([executor.submit(work, task) for task in tasks])
            for done in finished:
                yield done.result()
        except concurrent.futures.process.BrokenProcessPool:
            raise UserError(
                "A worker process died, perhaps for want of memory: the same command goes on from where it "
                f"stopped; with --processes {max(1, count // 2)} it needs less."
            ) from None
        finally:
            alive.close()
            end.close()
            executor.shutdown(wait=True, cancel_futures=True)

    return run


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that start here never see Ctrl-C, which is the parent's to handle; the parent sees it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(alive: multiprocessing.connection.Connection) -> None:
    """In each worker: it ends when the parent closes its side of the pipe or dies, whatever it is doing."""

    def watch() -> None:
        multiprocessing.connection.wait([alive])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def beam(runner: str, flags: Sequence[str]) -> Workers:
    """Workers of an Apache Beam pipeline; `flags` are Beam's own pipeline options, e.g. `--region=...`.

    Raises:
      UserError: Beam is not installed, or has no such runner.
    """
    try:
        import apache_beam
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners.runner import create_runner
    except ImportError:
        raise UserError("--runner needs Apache Beam: pip install apache-beam.") from None
    try:
        chosen = create_runner(runner)
    except (ValueError, AttributeError, ImportError) as error:
        raise UserError(f"Apache Beam has no runner {runner!r}: {str(error).rstrip('.')}.") from None

    def run(work: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
        with apache_beam.Pipeline(runner=chosen, options=PipelineOptions(list(flags))) as pipeline:
            spread = pipeline | apache_beam.Create(list(tasks)) | apache_beam.Reshuffle()
            _ = spread | apache_beam.Map(functools.partial(_quietly, work))
        # Every result is on disk by now; reading them here needs no way back from the workers. A unit that met a
        # user's mistake has none, and meets it again here, where it arrives as itself.
        yield from map(work, tasks)

    return run


def _quietly(work: Callable[[Any], Any], task: Any) -> None:
    with contextlib.suppress(UserError):
        work(task)
