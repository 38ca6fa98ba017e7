"""A signal is acted on at once, also while the main thread is in a compiler."""

import signal
import subprocess
import sys
import threading

import pytest
from command_line import environment

from t5like.signals import Signals

BUSY = """
import hashlib
from t5like.signals import Signals, end_at_once, holding

with Signals(end_at_once), holding("the outer"), holding("what is prepared is kept"):
    print("begun", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # C, which Python's handlers wait for
"""


class Heard:
    """Remembers signals, and says when one has come."""

    def __init__(self):
        self.signals: list[signal.Signals] = []
        self._came = threading.Semaphore(0)

    def __call__(self, number: signal.Signals) -> None:
        self.signals.append(number)
        self._came.release()

    def wait(self) -> list[signal.Signals]:
        assert self._came.acquire(timeout=10)
        return self.signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_in_c_ends_at_once_and_says_what_holds(number):
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout and process.stdout.readline() == "begun\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    assert said == f"t5like: stopped by {number.name}: what is prepared is kept.\n"


def test_the_second_signal_goes_to_whom_there_was_before():
    outer, inner, before = Heard(), Heard(), signal.getsignal(signal.SIGINT)
    with Signals(outer):
        with Signals(inner):
            signal.raise_signal(signal.SIGTERM)
            assert inner.wait() == [signal.SIGTERM]
            assert outer.signals == []
            signal.raise_signal(signal.SIGINT)
            assert outer.wait() == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)  # for Python's own handler, which is the outermost
            signal.raise_signal(signal.SIGINT)
    assert (outer.signals, inner.signals) == ([signal.SIGINT], [signal.SIGTERM])
    assert signal.getsignal(signal.SIGINT) is before


def test_a_thread_that_is_not_the_main_one_leaves_signals_as_they_are():
    found = []

    def run() -> None:
        with Signals(Heard()):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]
