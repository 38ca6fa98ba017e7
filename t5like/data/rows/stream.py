"""The batches of a run. Step s is rows [s*B, (s+1)*B) of the order, and each process reads its own part of them.

`Rows` is the pure function from row numbers to features; the streams put tf.data around it for background work and
prefetching. A stream has no state to save: it starts at any step.
"""

import functools
from collections.abc import Callable, Iterator
from typing import SupportsInt

import numpy as np
from jaxtyping import Int

from t5like.config import Data
from t5like.data.draws import Draws
from t5like.data.inspection import RowOrigin
from t5like.data.objectives import make_features, require_special_tokens
from t5like.data.objectives.words import require_segmenter
from t5like.data.order import example_key, locate
from t5like.data.ragged import Ragged
from t5like.data.rows.examples import Documents, Examples, Reader, SentencePairs, Windows
from t5like.data.rows.layout import lay_out
from t5like.data.rows.mixture import Mixture, mixture
from t5like.data.store import SPLITS, Split, Store
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.storage import etils_path

PREFETCH = 2
"""Computed parts that wait for the loop."""
ROWS_AT_ONCE = 512
"""Rows that are worth the overhead of a computation."""
Features = dict[str, np.ndarray]


class Rows:
    """The rows of one split, turned into features by the config's objective.

    Training mixes the sources by the config's rates; the rows of evaluation are those of all sources, each once.

    Raises:
      UserError: the store is not finished or damaged, or a source has no row.
    """

    def __init__(self, data: Data, vocabulary: Vocabulary, split: Split, remote: bool = False):
        self.data, self.vocabulary = data, vocabulary
        self.split: Split = split
        require_special_tokens(data, vocabulary)
        require_segmenter(data)
        self.store = Store(etils_path(data.store), remote)
        kind = _reader(data)
        self.sources: list[Reader] = [kind(self.store, data, n, split) for n in range(len(data.sources))]
        self.sizes = [source.rows for source in self.sources]
        for name, size, number in zip(data.source_names, self.sizes, range(len(self.sizes)), strict=True):
            if not size and (split == "train" or not any(self.sizes)):
                raise UserError(self._too_little(name, number))
        self.mixture = mixture(data, self.sizes) if split == "train" else Mixture(self.sizes, data.seed)

    def _too_little(self, name: str, source: int) -> str:
        """A sentence about a source without rows."""
        where = f"The {self.split} split of {name!r} in {self.data.store}"
        if self.data.objective.spec.sentence_pairs:
            return (
                f"{where} has no document of two sentences, of which data.objective.kind={self.data.objective.kind!r} "
                "makes pairs: add text, or make longer documents, for example with data.sources.N.document='file'."
            )
        return (
            f"{where} has {self.store.tokens(source, self.split).size} tokens, less than the {self.data.window} of one "
            "row: lower data.length, add text, loosen data.filters, or change data.held_out."
        )

    @property
    def count(self) -> int:
        """Rows that are there, of all sources together."""
        return sum(self.sizes)

    def __call__(self, numbers: Int[np.ndarray, " rows"]) -> Features:
        """The features of rows by their numbers."""
        source, epoch, position = self.locate(numbers)
        found: list[Examples] = []
        row: list[np.ndarray] = []
        keys: list[Draws] = []
        for number in np.unique(source).tolist():
            asked = np.flatnonzero(source == number)
            reader = self.sources[number]
            examples = reader.read(position[asked], epoch[asked])
            row.append(asked[examples.row])
            key = functools.partial(example_key, self.data.seed, SPLITS.index(self.split), number)
            lengths, noise = (key(each, examples.number) for each in (examples.drawing, epoch[row[-1]]))
            if isinstance(reader, SentencePairs):
                examples = reader.with_others(examples, position[asked], epoch[asked], noise)
            found.append(examples)
            keys.append(Draws(lengths, noise))
        parts = tuple(map(_joined, zip(*(examples.parts for examples in found), strict=True)))
        draws = Draws(*map(np.concatenate, zip(*keys, strict=True)))
        features = make_features(parts, draws, self.data, self.vocabulary)
        return lay_out(features, np.concatenate(row), len(numbers), self.data, self.vocabulary)

    def locate(
        self, numbers: Int[np.ndarray, " rows"]
    ) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
        """Source, epoch of the source, and position in the source of each row."""
        source, own = self.mixture.locate(numbers)
        epoch, position = np.empty_like(own), np.empty_like(own)
        for number in np.unique(source).tolist():
            asked = source == number
            epoch[asked], position[asked] = locate(own[asked], self.sizes[number], self.data.seed, number)
        return source, epoch, position

    def sources_of(self, numbers: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
        """The number of each row's source, int32."""
        return self.mixture.locate(numbers)[0].astype(np.int32)

    def epochs(self, rows: int) -> dict[str, float]:
        """Epochs of each source in a run of `rows` rows."""
        seen = self.mixture.rows_of(rows)
        return {n: float(x / size) for n, x, size in zip(self.data.source_names, seen, self.sizes, strict=True)}

    def origins(self, numbers: Int[np.ndarray, " rows"]) -> list[RowOrigin]:
        """The provenance of each row: source, epoch, position, and the ids of its documents."""
        origins = []
        for source, epoch, position in zip(*self.locate(numbers), strict=True):
            examples = self.sources[source].read(np.array([position]), np.array([epoch]))
            ends = examples.number + examples.parts[0].lengths - 1
            ids: dict[str, None] = {}
            for first, last in zip(examples.number.tolist(), ends.tolist(), strict=True):
                ids |= dict.fromkeys(self.store.documents_between(int(source), self.split, first, last))
            origins.append(RowOrigin(self.data.source_names[source], int(epoch), int(position), tuple(ids)))
        return origins

    def token_counts(self) -> Int[np.ndarray, " vocab"]:
        """Count each token of the vocabulary in the split, among the first tokens of each source."""
        arrays = [self.store.tokens(number, self.split) for number in range(len(self.sizes))]
        return np.sum([array.counts(self.vocabulary.size) for array in arrays], axis=0)


def _reader(data: Data) -> type[Windows] | type[Documents]:
    if data.objective.spec.sentence_pairs:
        return SentencePairs
    return Documents if data.by_document else Windows


def _joined(parts: tuple[Ragged, ...]) -> Ragged:
    if len(parts) == 1:
        return parts[0]
    return Ragged(np.concatenate([part.values for part in parts]), np.concatenate([part.lengths for part in parts]))


def training_stream(
    rows: Rows,
    first_step: int,
    last_step: int,
    batch: int,
    own: Int[np.ndarray, " own"] | None = None,
    offset: int = 0,
) -> Iterator[Features]:
    """The batches of steps [first_step, last_step), or of each the rows that are `own`: numbers in it, ascending.

    Step s is rows [s*batch + offset, (s+1)*batch + offset)."""
    return _background(lambda numbers: rows(numbers + offset), range(first_step, last_step), batch, own)


def evaluation_stream(
    rows: Rows, most: int, batch: int, own: Int[np.ndarray, " own"] | None = None, sources: bool = False
) -> Iterator[Features]:
    """Each of the first `most` rows once, or the `own` of each batch; the last is filled with rows of weight 0, which
    have no segments where rows and not tokens are weighed.

    With `sources`, the feature `sources` has the number of each row's source, int32."""
    count = min(most, rows.count)

    def weighted(numbers: Int[np.ndarray, " rows"]) -> Features:
        features = rows(np.minimum(numbers, count - 1))
        (counting,) = [name for name in features if name.endswith("_loss_weights")] or [
            name for name in features if name.endswith("_segment_ids")
        ]
        features[counting] = features[counting] * (numbers < count)[:, None].astype(features[counting].dtype)
        return features | ({"sources": rows.sources_of(np.minimum(numbers, count - 1))} if sources else {})

    return _background(weighted, range(-(-count // batch)), batch, own)


def _background(
    features_of: Callable[[np.ndarray], Features], steps: range, batch: int, own: Int[np.ndarray, " own"] | None
) -> Iterator[Features]:
    """The features of each step's own rows, computed ahead in tf.data's threads, in order.

    Small batches are computed several steps at a time, since most calls of numpy cost the same for few rows and many.
    """
    import tensorflow as tf

    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    own = np.arange(batch) if own is None else own
    share = len(own)
    together = max(ROWS_AT_ONCE // share, 1)

    def features_from(step: int) -> Features:
        chunk = np.arange(step, min(step + together, steps.stop))
        return features_of((chunk[:, None] * batch + own).ravel())

    sample = features_of(steps.start * batch + own[:1])
    names = sorted(sample)
    types = [tf.as_dtype(sample[name].dtype) for name in names]

    failed: list[UserError] = []

    def arrays_from(step: SupportsInt) -> list[np.ndarray]:
        try:
            features = features_from(int(step))
        except UserError as error:
            failed.append(error)
            raise
        return [features[name] for name in names]

    def tensors_from(step: tf.Tensor) -> list[tf.Tensor]:
        return tf.numpy_function(arrays_from, [step], types)

    dataset = tf.data.Dataset.range(steps.start, steps.stop, together)
    dataset = dataset.map(tensors_from, num_parallel_calls=2, deterministic=True).prefetch(PREFETCH)
    try:
        for arrays in dataset.as_numpy_iterator():
            for first in range(0, len(arrays[0]), share):
                yield {name: array[first : first + share] for name, array in zip(names, arrays, strict=True)}
    except tf.errors.OpError:
        if failed:  # TensorFlow wraps what its threads raise
            raise failed[0] from None
        raise
