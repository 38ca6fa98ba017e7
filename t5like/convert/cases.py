"""Batches on which a run and its original are compared, and the run's outputs for them.

A case is rows of examples. Ours takes a row of several examples packed, with segments; the original is given each
alone, since that is what packing must equal. Random tokens come from the whole embedding, so that no row of it stays
untried.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from t5like.config import Model
from t5like.data.features import token_features
from t5like.data.vocabulary import Frame, Vocabulary
from t5like.model.sharding import Params
from t5like.model.transformer import Transformer
from t5like.train.labels import label_losses
from t5like.train.losses import token_losses

NO_TARGET = -100
"""Target of a position whose prediction costs nothing, as torch's losses have it."""


Label = int | float | list[int] | list[float]
Kept = Sequence[np.ndarray | None]


class Example(NamedTuple):
    """One text; lists that the model's family does not use are empty."""

    encoder: list[int]
    types: list[int]
    decoder: list[int]
    targets: list[int]
    """Target of each position of the last stack, or `NO_TARGET`: a token, or a label of the head `token`."""
    label: Label = 0
    """Target of the row's head: a class, one number or several, zeros and ones, or a span's first and last position."""


class Case(NamedTuple):
    """Rows of one or more examples each."""

    name: str
    rows: list[list[Example]]

    @property
    def examples(self) -> list[Example]:
        return [example for row in self.rows for example in row]


class Outcome(NamedTuple):
    """A model's outputs for a case, an entry for each example; None where the head has no such scores."""

    tokens: Kept
    """Scores of each token, `[tokens, scores]`; hidden states of a model without a head, `[tokens, embed]`."""
    rows: Kept
    """Scores of the row, `[labels]`; its pooled embedding of a model without a head, `[embed]`."""
    loss: float | None
    """Mean loss; None where rows were packed or there is nothing to predict."""


def cases_of(model: Model, vocabulary: Vocabulary, frame: Frame, texts: Sequence[str], length: int) -> list[Case]:
    """Random rows of one length and of several, rows that are packed, and rows of real text."""
    random = np.random.default_rng(0)
    short = max(length // 3, 4)
    make = lambda size: _random_example(model, vocabulary.start, random, size)  # noqa: E731
    text = [_text_example(model, vocabulary, frame, one, length, random) for one in texts]
    cases = [
        Case("random", [[make(length)] for _ in range(3)]),
        Case("padded", [[make(size)] for size in (length, short, length - 3)]),
        Case("text", [[example] for example in text if len(_main(model, example)) > 1]),
    ]
    if not model.pools:
        sizes = ((short, length - short), (length - short - 2, short), (length - short, short))
        cases.insert(2, Case("packed", [[make(first), make(second)] for first, second in sizes]))
    return [case for case in cases if case.rows]


def features_of(model: Model, rows: Sequence[Sequence[Example]], parts: int) -> dict[str, jax.Array]:
    """The rows as features, padded, as many as `parts` divides: the last row is repeated."""
    rows = [*rows, *[rows[-1]] * (-len(rows) % parts)]
    found: dict[str, np.ndarray] = {}
    if model.encoder_layers:
        types = [[example.types for example in row] for row in rows] if model.token_types else None
        found |= token_features("encoder", [[example.encoder for example in row] for row in rows], types)
    if model.decoder_layers:
        found |= token_features("decoder", [[example.decoder for example in row] for row in rows])
    return {name: jnp.asarray(array) for name, array in found.items()}


def outcome_of(params: Params, net: Transformer, case: Case, parts: int) -> Outcome:
    """Runs our network on a case."""
    model = net.model
    features = features_of(model, case.rows, parts)
    method = Transformer.hidden if model.head == "none" else Transformer.scores
    found = _applied(params, features, net=net, method=method)
    if model.head == "none":
        pooled = _applied(params, features, net=net, method=Transformer.embed)
        tokens, rows = found, pooled if model.pooler else None
    else:
        by_token = model.head in ("token", "span")
        tokens = found.labels if by_token else found.logits
        rows = None if by_token else found.labels
    tokens, rows = (None if x is None else np.asarray(jax.device_get(x)) for x in (tokens, rows))
    if tokens is not None:
        tokens = tokens[:, : max(sum(len(_main(model, example)) for example in row) for row in case.rows)]
    cut = None if tokens is None else _cut(tokens, model, case)
    packed = any(len(row) > 1 for row in case.rows)
    # Of a span the original counts positions of padding too, where its scores are noise.
    uneven = model.head == "span" and len({len(_main(model, example)) for example in case.examples}) > 1
    loss = None if packed or uneven or model.head == "none" else _loss(model, case, tokens, rows)
    nothing = [None] * len(case.examples)
    return Outcome(cut or nothing, nothing if rows is None else list(rows[: len(case.rows)]), loss)


@functools.partial(jax.jit, static_argnames=("net", "method"))
def _applied(params: Params, features: dict[str, jax.Array], *, net: Transformer, method: Callable[..., Any]) -> Any:
    """One program for all cases of one shape."""
    return net.apply({"params": params}, features, method=method)


def _cut(tokens: np.ndarray, model: Model, case: Case) -> list[np.ndarray]:
    """The scores of each example's tokens: [rows, length, scores] -> an array [tokens, scores] for each example."""
    found = []
    for array, row in zip(tokens, case.rows, strict=False):
        ends = np.cumsum([len(_main(model, example)) for example in row])
        found += [array[end - len(_main(model, example)) : end] for end, example in zip(ends, row, strict=True)]
    return found


def _loss(model: Model, case: Case, tokens: np.ndarray | None, rows: np.ndarray | None) -> float:
    """The mean loss of real targets, and that of labels beside it."""
    loss = 0.0
    if tokens is not None and model.head != "span":
        targets = np.full(tokens.shape[:2], NO_TARGET, np.int32)
        for row, example in zip(targets, case.examples, strict=False):
            row[: len(example.targets)] = example.targets
        real = targets != NO_TARGET
        nll = token_losses(jnp.asarray(tokens), jnp.asarray(np.where(real, targets, 0))).nll
        loss += float(np.asarray(nll)[real].mean())
    labelled = tokens if model.head == "span" else rows
    if labelled is not None:
        labels = [example.label for example in case.examples]
        scores = jnp.asarray(labelled[: len(labels)])
        loss += float(label_losses(scores, jnp.asarray(np.asarray(labels)), model.label_problem).mean())
    return loss


def _main(model: Model, example: Example) -> list[int]:
    """The tokens of the last stack."""
    return example.decoder if model.decoder_layers else example.encoder


def _random_example(model: Model, start: int, random: np.random.Generator, size: int) -> Example:
    draw = lambda n: random.integers(0, model.vocab, n).tolist()  # noqa: E731
    encoder = draw(size) if model.encoder_layers else []
    decoder = draw(max(size - 3, 2)) if model.decoder_layers else []
    if model.family == "encoder-decoder":
        decoder[0] = start
    return _with_targets(model, encoder, decoder, random)


def _text_example(
    model: Model, vocabulary: Vocabulary, frame: Frame, text: str, length: int, random: np.random.Generator
) -> Example:
    ids = [int(token) for token in vocabulary.encode(text)][: length - 2]
    if model.family == "decoder":
        return _with_targets(model, [], frame.around(ids), random)
    if model.family == "encoder":
        return _with_targets(model, frame.around(ids), [], random)
    half = len(ids) // 2
    return _with_targets(model, frame.around(ids[:half]), [vocabulary.start, *ids[half:]], random)


def _with_targets(model: Model, encoder: list[int], decoder: list[int], random: np.random.Generator) -> Example:
    """An example with the next tokens as a decoder's targets, and with random ones in all other cases."""
    main = decoder or encoder
    if model.family == "decoder":
        targets = [*main[1:], NO_TARGET]
    else:
        scores = model.labels if model.head == "token" else model.vocab
        drawn = random.integers(0, scores, len(main))
        targets = np.where(random.random(len(main)) < 0.5, drawn, NO_TARGET).tolist()
        targets[0] = int(drawn[0])
    second = (np.arange(len(encoder)) >= len(encoder) // 2) & (model.token_types > 1)
    types = second.astype(int).tolist() if model.token_types else []
    return Example(encoder, types, decoder, targets, _random_label(model, random, len(main)))


def _random_label(model: Model, random: np.random.Generator, length: int) -> Label:
    """A class, one number or several, zeros and ones, or a span's first and last position, as the head predicts it."""
    if model.head == "span":
        return sorted(random.integers(0, length, 2).tolist())
    if model.head == "choice":
        return 0  # of the row's only candidate
    if model.head == "sequence" and model.label_problem == "regression":
        return float(random.normal()) if model.labels == 1 else random.normal(size=model.labels).tolist()
    if model.head == "sequence" and model.label_problem == "multi_label_classification":
        return random.integers(0, 2, model.labels).astype(float).tolist()
    return int(random.integers(0, max(model.labels, 2)))
