"""Held-out figures of a set of parameters: loss, perplexity, bits per byte, and a unigram model's beside them; or the
loss and the accuracy of labels."""

import functools
import operator
from collections.abc import Callable

import jax
import numpy as np

from t5like.config import Config, Rules
from t5like.config.objective import HEADS
from t5like.data.rows.stream import Rows, evaluation_stream
from t5like.data.vocabulary import Vocabulary
from t5like.errors import UserError
from t5like.model.network import Network
from t5like.model.sharding import Params, batch_sharding, row_parts
from t5like.processes.batches import GlobalBatches, replicated
from t5like.signals import uninterrupted
from t5like.train.compile import lower_evaluation, sources_apart
from t5like.train.eval_step import BY_SOURCE
from t5like.train.losses import Ratio, Sums


class Evaluator:
    """Evaluates parameters on the same held-out rows each time; compiled on first use."""

    def __init__(self, network: Network, vocabulary: Vocabulary):
        require_objective(network.config)
        self._network, settings = network, network.config.eval
        self._rows = Rows(network.config.data, vocabulary, "validation")
        self._to_global = GlobalBatches(batch_sharding(network.config.rules, network.mesh), settings.batch)
        check_rows("eval.batch", settings.batch, network.config.rules)
        self._tables = []
        if network.config.model.predicts_pieces:
            train = Rows(network.config.data, vocabulary, "train")
            tables = vocabulary_tables(vocabulary, train.token_counts(), network.config.model.vocab)
            self._tables = [replicated(network.mesh, table) for table in tables]
        self._lowered = functools.cache(lambda: lower_evaluation(network))
        self._step = functools.cache(lambda: self._lowered().compile())

    def __call__(self, params: Params, between: Callable[[], None] = uninterrupted) -> dict[str, float]:
        """Figures over `eval.rows` held-out rows: `loss`, `perplexity`, `bits_per_byte`, `accuracy` of all targets, and
        for those that spell text (all but sentinels and EOS) `text_accuracy`, and `text_loss` beside
        `unigram_text_loss`. Objectives that answer a text with a text have `exact_match`, the share of whole targets,
        EOS included, that greedy decoding would write. Labels have `loss`, `targets` and the `accuracy` of whole
        targets, both ends of a span, all labels of a text; numbers have `mean_squared_error` instead. Where there are
        several sources, each one's figures follow, as `SOURCE/loss`; one without such rows has none.
        `between` is called before each batch, and may raise."""
        config = self._network.config
        settings, apart = config.eval, bool(sources_apart(config))
        batches = evaluation_stream(self._rows, settings.rows, settings.batch, self._to_global.local_rows, apart)

        def sums_of(features: dict[str, np.ndarray]) -> Sums:
            between()
            return jax.device_get(self._step()(params, self._to_global(features), *self._tables))

        sums = map(sums_of, batches)
        wide = (jax.tree.map(np.float64, each) for each in sums)
        total = functools.reduce(lambda *pair: jax.tree.map(operator.add, *pair), wide)
        return all_figures(total, config)

    def names(self) -> list[str]:
        """The names of the figures, which are known before there are any."""
        config, sizes = self._network.config, self._rows.sizes
        one = jax.tree.map(lambda leaf: np.ones(leaf.shape), self._lowered().out_info)
        empty = tuple(f"{name}/" for name, size in zip(config.data.source_names, sizes, strict=True) if not size)
        return [name for name in all_figures(one, config) if not name.startswith(empty)]


def all_figures(sums: Sums, config: Config) -> dict[str, float]:
    """The figures of all rows, and of each source, from the sums of `eval_step`."""
    of_texts = functools.partial(figures, answers=config.data.objective.spec.answers)
    of_sums = of_texts if config.model.predicts_pieces else label_figures
    found = of_sums({name: each for name, each in sums.items() if not name.startswith(BY_SOURCE)})
    apart = {name.removeprefix(BY_SOURCE): each for name, each in sums.items() if name.startswith(BY_SOURCE)}
    for number, source in enumerate(config.data.source_names if apart else ()):
        own = {name: Ratio(each.total[number], each.count[number]) for name, each in apart.items()}
        if own["loss"].count:
            found |= {f"{source}/{name}": value for name, value in of_sums(own).items()}
    return found


def figures(sums: Sums, answers: bool) -> dict[str, float]:
    """The figures of rows from their sums; `answers` keeps the exact matches."""
    means = {name: float(ratio.mean()) for name, ratio in sums.items() if answers or name != "exact_match"}
    nats, size = sums["nats_per_byte"]
    del means["nats_per_byte"]
    return means | {
        "perplexity": float(np.exp(means["loss"])),
        "bits_per_byte": float(nats / np.log(2) / max(size, 1)),
        "tokens": float(sums["loss"].count),
    }


def label_figures(sums: Sums) -> dict[str, float]:
    """The figures of `Evaluator` of labels, from their sums."""
    means = {name: float(ratio.mean()) for name, ratio in sums.items()}
    error = {} if "accuracy" in means else {"mean_squared_error": means["loss"]}
    return means | error | {"targets": float(sums["loss"].count)}


def vocabulary_tables(vocabulary: Vocabulary, counts: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """For each row of the embedding, float32: the bytes of text it spells, and its -log frequency among text pieces.

    The frequencies are those of the training split, each count raised by one.
    """
    spells = vocabulary.bytes_of > 0
    counts = np.where(spells, counts + 1, 0)
    nll = np.where(spells, -np.log(np.maximum(counts, 1) / counts.sum()), 0)
    padding = (0, rows - vocabulary.size)
    return np.pad(vocabulary.bytes_of, padding).astype(np.float32), np.pad(nll, padding).astype(np.float32)


def require_objective(config: Config) -> None:
    """Raise `UserError` if the model's head predicts what the config's objective does not have."""
    head, kind = config.model.head, config.data.objective.kind
    if not config.model.predicts_pieces and config.data.objective.spec.head != head:
        kinds = " or ".join(map(repr, HEADS.get(head, [])))
        remedy = f"choose data.objective.kind={kinds}, or set model.head='vocabulary'" if kinds else "set model.head"
        raise UserError(f"model.head={head!r} does not predict pieces, as data.objective.kind={kind!r} asks: {remedy}.")


def check_rows(name: str, rows: int, rules: Rules) -> None:
    """Raise `UserError` if a batch of `rows` does not divide over the devices of the current mesh."""
    parts = row_parts(rules)
    if rows % parts:
        raise UserError(
            f"{name}={rows} does not divide over the {parts} devices that split a batch: "
            f"make it a multiple of {parts}, or change mesh."
        )
