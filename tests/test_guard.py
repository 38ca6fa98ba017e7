"""What a run is asked for after a step: to stop, by a signal, or to save, by the clock."""

import os
import signal
import time

import pytest

from t5like.config import Train
from t5like.config.limits import Limits
from t5like.errors import UserError
from t5like.train.guard import Asked, PreemptionHandler, StoppedEvaluationError
from t5like.train.watchdog import Watchdog


def settings(**changes) -> Train:
    return Train(directory="run", steps=10, batch=1, **changes)


def handler(tmp_path, **changes) -> PreemptionHandler:
    return PreemptionHandler(settings(**changes), Watchdog(Limits(), tmp_path))


def test_a_run_saves_by_time_counted_from_its_last_save(tmp_path):
    with handler(tmp_path, save_minutes=0.002) as asks:
        assert asks.after(1) == Asked()
        time.sleep(0.13)
        asks.saved()
        assert asks.after(2) == Asked()
        time.sleep(0.13)
        asks.between_batches()  # of an evaluation, which is not left for it
        assert [asks.after(step) for step in (3, 4)] == [Asked(save=True)] * 2  # until it is done
        asks.saved()
        assert asks.after(5) == Asked()
    with handler(tmp_path, save_minutes=None) as asks:
        asks._saved -= 10**9
        assert asks.after(1) == Asked()


def test_a_signal_is_heard_after_the_step_and_between_the_batches_of_an_evaluation(tmp_path, capsys):
    with handler(tmp_path, grace=20.0) as asks:
        assert asks.after(1) == Asked()
        asks.between_batches()
        os.kill(os.getpid(), signal.SIGTERM)
        while asks.signal is None:
            time.sleep(0.01)
        with pytest.raises(StoppedEvaluationError):
            asks.between_batches()
        assert asks.after(2) == Asked(signal.SIGTERM)
        assert asks._watchdog._stop is not None
    said = "SIGTERM: finishing the step and saving within 20 s; once more to stop at once."
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("field", ["save_minutes", "grace"])
def test_times_that_are_none_are_no_zero(field):
    with pytest.raises(UserError, match=f"train.{field}=0.0 must be above 0, or None"):
        settings(**{field: 0.0})
    with pytest.raises(UserError, match=r"train\.limits\.step=-1\.0 must be above 0, or None"):
        Limits(step=-1.0)
