"""The moment at which all processes of a run do what one of them wants, such as to stop or to save."""

import contextlib
import itertools
import sys
import threading
from collections.abc import Callable

import jax

from t5like.processes.distributed import Connection

JOINED_WITHIN = 10
"""Seconds that the end of a loop waits for the thread that watches, which looks up once a second."""
_agreements = itertools.count()


class Agreement:
    """Agrees with the other processes on the moment of a request; moments are the calls of `now`, which all make alike.

    A thread of each process watches for requests through the coordination service, so that a moment costs no message.
    There are rounds: the first request of one is taken. Each process says how many moments it has had while its loop is
    held, and the request's is the one that follows the largest: none has passed that.
    """

    def __init__(
        self,
        connected: Connection,
        wanted: Callable[[], str | None],
        heard: Callable[[str], None],
        seconds: float | None,
    ):
        """Args:
        wanted: what this process asks for, if anything; asked about once a second.
        heard: called with each request that is agreed on, by the thread.
        seconds: within which all processes must have come; None waits a day.
        """
        self._connected, self._wanted, self._heard = connected, wanted, heard
        self._milliseconds = int(1000 * (seconds or 24 * 3600))
        self._key, self.moments, self._due = f"t5like/agree/{next(_agreements)}", 0, dict[int, str]()
        self._held, self._over, self._together = threading.Lock(), threading.Event(), False
        self._thread = threading.Thread(target=self._watch, name="requests of other processes", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def end(self, together: bool) -> None:
        """End the watch, `together` when all others do too: a request in the last moment needs the answers of all."""
        if together:
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                self._connected.client.key_value_set(f"{self._key}/ended/{self._connected.index}", "")
        self._together = together
        self._over.set()
        self._thread.join(JOINED_WITHIN if together else 0)

    def _is_over(self) -> bool:
        # A client that is cut off fails at once, so there is a pause.
        if not self._over.wait(0.05):
            return False
        try:
            ended = self._connected.client.key_value_dir_get(f"{self._key}/ended/")
        except jax.errors.JaxRuntimeError:
            return True
        return not self._together or len(ended) == self._connected.count

    def now(self) -> str | None:
        """The request whose moment this is, if any: the same on every process."""
        with self._held:
            self.moments += 1
            return self._due.pop(self.moments, None)

    def _watch(self) -> None:
        client = self._connected.client
        for number in itertools.count():
            key, value = f"{self._key}/{number}", None
            while value is None:
                if self._is_over():
                    return
                own = None if self._over.is_set() else self._wanted()
                if own and own not in self._due.values():
                    with contextlib.suppress(jax.errors.JaxRuntimeError):  # another was first
                        client.key_value_set(key, own)
                with contextlib.suppress(jax.errors.JaxRuntimeError):
                    value = client.blocking_key_value_get(key, 1000)
            self._heard(value)
            with self._held:
                self._agree(key, value)

    def _agree(self, key: str, value: str) -> None:
        client = self._connected.client
        client.key_value_set(f"{key}/at/{self._connected.index}", str(self.moments))
        try:
            client.wait_at_barrier(f"{key}/said", self._milliseconds)
        except jax.errors.JaxRuntimeError as error:
            print(f"The processes did not agree on a step to {value} after: {error}", file=sys.stderr, flush=True)
            return
        moment = 1 + max(int(moments) for _, moments in client.key_value_dir_get(f"{key}/at/"))
        while moment in self._due:  # two requests, one after the other
            moment += 1
        self._due[moment] = value
