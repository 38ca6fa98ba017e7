"""A model's answer to an example."""

from typing import NamedTuple

Value = str | float | tuple[str, ...] | None


class Prediction(NamedTuple):
    """A model's answer to an example.

    `value` is a label or a text, a number, or labels; None where a text that was written is none of what the task asks
    for. `scores` are probabilities of the labels or candidates, or that of the answer; `text` is what was written.
    """

    value: Value
    scores: dict[str, float]
    text: str | None = None
