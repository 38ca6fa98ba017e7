"""The judgement of steps: what is a spike, what it leads to, and that a run goes back behind the rows of a bad step."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import small_config

from t5like.config import Train
from t5like.errors import UserError
from t5like.runs.best import evaluations
from t5like.runs.directory import RunDirectory
from t5like.runs.lines import Appended
from t5like.runs.skipped import rows_skipped
from t5like.train.spikes import Recent, Verdict, abstract_recent, judge, rolls_back

SPIKES = dict(spike_loss=1.5, spike_norm=10.0, spike_window=3, non_finite="skip")


def train(**changes) -> Train:
    return small_config("gpt", **{f"train__{name}": value for name, value in changes.items()}).train


def judged(settings: Train, losses: list[float], norms: list[float]) -> tuple[list[Verdict], Recent | None]:
    """The verdicts on steps, one after the other, as one program makes them."""
    recent = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract_recent(settings))
    step, verdicts = jax.jit(judge, static_argnames="settings"), []
    for loss, norm in zip(np.float32(losses), np.float32(norms), strict=True):
        finite = jnp.asarray(np.isfinite(loss) & np.isfinite(norm))
        verdict, recent = step(jnp.asarray(loss), jnp.asarray(norm), finite, recent, settings=settings)
        verdicts.append(jax.device_get(verdict))
    return verdicts, jax.device_get(recent)


def left_out(settings: Train, losses: list[float], norms: list[float] | None = None) -> list[int]:
    return [int(verdict.left_out) for verdict in judged(settings, losses, norms or [1.0] * len(losses))[0]]


def test_what_is_far_above_the_running_median_is_a_spike():
    """The window of three must be full; what was left out is not in it."""
    assert left_out(train(**SPIKES), [9, 2, 2, 3.1, 3.1, 2, 3.1]) == [0, 0, 0, 1, 2, 0, 1]
    assert left_out(train(**SPIKES), [2, 2, 2, 2.9], [1, 1, 1, 10.5]) == [0, 0, 0, 1]
    assert left_out(train(**SPIKES), [9, 2, 1, 2, 2, 2], [1, 1, 1, 1, 9, 9]) == [0] * 6


def test_the_median_is_that_of_the_last_steps_alone():
    losses = [8, 8, 8, 4, 4, 5.9, 5.9]
    assert left_out(train(**SPIKES), [*losses, 9.2]) == [0] * 7 + [1]
    _, recent = judged(train(**SPIKES), losses, [1] * 7)
    assert sorted(recent.losses) == pytest.approx([4, 5.9, 5.9]) and recent.seen == 7


@pytest.mark.parametrize(("changes", "numbers"), [({}, [0, 1, 1, 1]), (SPIKES, [0, 1, 2, 3])])
def test_what_is_not_finite_is_left_out_whatever_is_asked(changes, numbers):
    """A run that stops at the first need not count them."""
    losses, norms = [2, np.nan, np.inf, 2], [1, 1, 1, np.nan]
    assert left_out(train(**changes), losses, norms) == numbers
    recent = judged(train(**changes), losses, norms)[1]
    assert recent is None or (np.isfinite(recent.losses).all() and recent.seen == 1)


def verdict_of(number: int, finite: float = 0.0, loss: float = 0.0, norm: float = 0.0) -> Verdict:
    return Verdict(*map(np.float32, (finite, loss, norm)), np.int32(number))


def test_a_policy_decides_what_follows_a_bad_step():
    good, bad = verdict_of(0, 1.0), verdict_of(1)
    assert [rolls_back(good, 7, train(non_finite=p)) for p in ("stop", "skip", "rollback")] == [False] * 3
    assert not rolls_back(bad, 7, train(non_finite="skip"))
    assert rolls_back(bad, 7, train(non_finite="rollback"))
    with pytest.raises(UserError, match=r"^Loss or gradient of step 7 is not finite, and its update was left out"):
        rolls_back(bad, 7, train())
    with pytest.raises(
        UserError, match=r"^The loss of step 7 is 3.2 times its median and the gradient norm 12 times, and"
    ):
        rolls_back(verdict_of(1, 1.0, 3.2, 12.0), 7, train(spike_loss=2.0))


def test_a_run_that_skips_stops_after_too_many_in_a_row():
    settings = train(non_finite="skip", skips=3)
    assert not rolls_back(verdict_of(3), 9, settings)
    with pytest.raises(UserError, match=r"step 10 is not finite.* number 4 in a row .* train.skips=3"):
        rolls_back(verdict_of(4), 10, settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(skips=5), "no effect"),
        (dict(spike_window=5), "no effect .* train.spike_loss"),
        (dict(spike_loss=1.0), "above 1"),
        (dict(non_finite="skip", skips=0), "above 0"),
    ],
)
def test_settings_that_make_no_sense_are_sentences(changes, message):
    with pytest.raises(UserError, match=message):
        train(**changes)


def skipped_by(folder: pathlib.Path, *events: tuple[str, int, int, int]) -> list[int]:
    """The rows that a run has skipped before each of its steps 1 to 8, after events: name, step, to, rows."""
    names = ("event", "step", "to", "rows_skipped")
    known = [{"event": "saved", "step": 2}, *(dict(zip(names, event, strict=True)) for event in events)]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in known))
    skipped = rows_skipped(RunDirectory(folder))
    return [skipped(step) for step in range(1, 9)]


def test_rows_are_skipped_from_the_step_on_that_a_run_went_back_to(tmp_path):
    begun = ("started", 0, 0, 0)
    assert skipped_by(tmp_path) == skipped_by(tmp_path, begun) == [0] * 8
    assert skipped_by(tmp_path, begun, ("rolled_back", 4, 2, 16)) == [0, 0, *[16] * 6]
    back = ("rolled_back", 4, 2, 16), ("rolled_back", 7, 6, 24)
    assert skipped_by(tmp_path, begun, *back) == [0, 0, *[16] * 4, 24, 24]
    assert skipped_by(tmp_path, begun, *back, ("rolled_back", 5, 4, 32)) == [0, 0, 16, 16, *[32] * 4]
    assert skipped_by(tmp_path, begun, *back, ("resumed", 6, 0, 16)) == [0, 0, *[16] * 6]
    assert skipped_by(tmp_path, ("started", 4, 0, 8)) == [*[0] * 4, *[8] * 4]


def test_figures_that_are_no_numbers_are_null_in_logs_and_never_the_best(tmp_path):
    log = Appended(tmp_path / "metrics.jsonl")
    others = [float("inf"), {"norm": np.float64("nan")}]
    log.append({"step": 1, "eval/loss": float("nan"), "others": others, "name": "NaN"})
    log.append({"step": 2, "eval/loss": 1.5})
    log.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text.splitlines()[0] == '{"step": 1, "eval/loss": null, "others": [null, {"norm": null}], "name": "NaN"}'
    found = evaluations(RunDirectory(tmp_path), "loss")
    assert np.isnan(found[1]) and found[2] == 1.5
