"""The batches of a run. Step s is rows [s*B, (s+1)*B) of the order, and each host reads its own part of them.

`Rows` is the pure function from row numbers to features; the streams put tf.data around it for background work and
prefetching. A stream has no state to save: it starts at any step.
"""

from collections.abc import Callable, Iterator
from typing import SupportsInt

import numpy as np
from etils import epath
from jaxtyping import Int

from t5like.config import Data
from t5like.data.objectives import OBJECTIVES, Features
from t5like.data.order import hash_of, locate
from t5like.data.store import SPLITS, Split, open_tokens
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError

PREFETCH = 4


class Rows:
    """The rows of one split: a window of tokens each, turned into features by the config's objective."""

    def __init__(self, data: Data, vocabulary: Vocabulary, split: Split):
        self.data, self.vocabulary, self.split = data, vocabulary, split
        self.tokens = open_tokens(epath.Path(data.store).expanduser(), split)
        self.count = self.tokens.size // data.window
        if not self.count:
            raise UserError(
                f"The {split} split of {data.store} has {self.tokens.size} tokens, less than the {data.window} of one "
                "row: lower data.length, add text, or change data.held_out."
            )

    def __call__(self, numbers: Int[np.ndarray, " rows"]) -> Features:
        """The features of rows by their numbers; number n is in epoch n // count."""
        epoch, position = locate(numbers, self.count, self.data.seed)
        tokens = self.tokens.windows(position * self.data.window, self.data.window)
        keys = hash_of(self.data.seed, SPLITS.index(self.split), epoch, position)
        return OBJECTIVES[self.data.objective.kind](tokens, keys, self.data, self.vocabulary)


def training_stream(
    rows: Rows, first_step: int, last_step: int, batch: int, host: int = 0, hosts: int = 1
) -> Iterator[Features]:
    """This host's part of the batches of steps [first_step, last_step)."""
    share = batch // hosts

    def of_step(step: int) -> Features:
        return rows(step * batch + host * share + np.arange(share))

    return _background(of_step, first_step, last_step)


def evaluation_stream(rows: Rows, most: int, batch: int, host: int = 0, hosts: int = 1) -> Iterator[Features]:
    """This host's part of each of the first `most` rows, once; the last batch is filled with rows of weight 0."""
    count, share = min(most, rows.count), batch // hosts

    def of_step(step: int) -> Features:
        numbers = step * batch + host * share + np.arange(share)
        features = rows(np.minimum(numbers, count - 1))
        (weights,) = (name for name in features if name.endswith("_loss_weights"))
        features[weights] = features[weights] * (numbers < count)[:, None].astype(np.float32)
        return features

    return _background(of_step, 0, -(-count // batch))


def _background(of_step: Callable[[int], Features], first: int, last: int) -> Iterator[Features]:
    """`of_step(step)` for each step of [first, last), computed ahead in tf.data's threads, in order."""
    import tensorflow as tf

    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    sample = of_step(first)
    names = sorted(sample)
    types = [tf.as_dtype(sample[name].dtype) for name in names]

    def arrays_of(step: SupportsInt) -> list[np.ndarray]:
        batch = of_step(int(step))
        return [batch[name] for name in names]

    def features(step: tf.Tensor) -> list[tf.Tensor]:
        return tf.numpy_function(arrays_of, [step], types)

    steps = tf.data.Dataset.range(first, last)
    dataset = steps.map(features, num_parallel_calls=2, deterministic=True).prefetch(PREFETCH)
    for arrays in dataset.as_numpy_iterator():
        yield dict(zip(names, arrays, strict=True))
