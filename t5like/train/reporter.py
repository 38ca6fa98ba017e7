"""The metrics of steps and evaluations, as they are checked, logged and shown."""

import time

import jax

from t5like.cost.devices import device_of, mfu
from t5like.cost.flops import step_flops
from t5like.train.logger import Logger, Throughput, duration
from t5like.train.spikes import rolls_back
from t5like.train.state import Training
from t5like.train.step import Metrics


class Reporter:
    """Checks each step's metrics, and logs those of every `train.log_every`th."""

    def __init__(self, training: Training, logger: Logger, throughput: Throughput, began: float):
        config, self._logger, self._throughput = training.config, logger, throughput
        self._settings, self._devices = config.train, jax.devices()
        self._tokens = config.train.batch * sum(config.data.lengths.values())
        self._flops, self._began = step_flops(config).training, began

    def __call__(self, step: int, metrics: Metrics) -> str:
        """Returns why the run must go back before the step, which is not logged then; empty if it goes on."""
        values: Metrics = jax.device_get(metrics)
        self._throughput.ended(step)
        if self._began:
            seconds, self._began = time.monotonic() - self._began, 0.0
            self._logger.event("first_step", step=step, seconds=round(seconds, 3))
            self._logger.say(f"The first step ended {duration(seconds)} after the start.")
        why = values.verdict.words(step) if values.verdict.left_out else ""
        if rolls_back(values.verdict, step, self._settings):
            return why
        if why:
            self._logger.event("skipped", step=step, reason=why)
        if step % self._settings.log_every and step != self._settings.steps:
            return ""
        means = {name: float(ratio.mean()) for name, ratio in values.sums.items()}
        kept = means | {
            "target_tokens": float(values.sums["loss"].count),
            "gradient_norm": float(values.gradient_norm),
            "learning_rate": float(values.learning_rate),
        }
        self._logger.metrics(step, kept)
        self._logger.progress(f"step {step:,} of {self._settings.steps:,}  loss {means['loss']:.3f}{self._speed(step)}")
        return ""

    def _speed(self, step: int) -> str:
        """The speed as part of a line for the terminal; its figures are kept as `timing/...`."""
        if (speed := self._throughput(step)) is None:
            return ""
        share = mfu(self._flops, speed.step, len(self._devices), device_of(self._devices[0].device_kind))
        timing = {"seconds_per_step": speed.step, "tokens_per_second": self._tokens / speed.step}
        timing |= {"input": speed.waiting} | ({} if share is None else {"mfu": share})
        self._logger.metrics(step, {f"timing/{name}": value for name, value in timing.items()})
        known = "n/a" if share is None else f"{share:.0%}"
        return (
            f"  {self._tokens / speed.step:,.0f} tokens/s  MFU {known}  input {speed.waiting:.0%}  "
            f"{duration(speed.left)} left"
        )

    def held_out(self, step: int, figures: dict[str, float]) -> None:
        """Log an evaluation, whose time does not count as that of steps."""
        self._logger.metrics(step, {f"eval/{name}": value for name, value in figures.items()})
        self._logger.say(f"step {step:,}: held-out loss {figures['loss']:.3f}{_beside(figures)}")
        if tasks := [f"{name} {value:.2f}" for name, value in figures.items() if name.startswith("task/")]:
            self._logger.say(f"step {step:,}: {', '.join(tasks)}")
        self._throughput.restart()


def _beside(figures: dict[str, float]) -> str:
    """The end of the line on an evaluation: what else tells how good the loss is."""
    if "text_loss" in figures:
        return f"; on text {figures['text_loss']:.3f}, where a unigram model has {figures['unigram_text_loss']:.3f}"
    if "mean_squared_error" in figures:
        return ", the mean squared error"
    return f"; right {figures['accuracy']:.1%} of {figures['targets']:,.0f}"
