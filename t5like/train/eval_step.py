"""One step of an evaluation: (parameters, batch) -> sums, whose scores are made a chunk of tokens at a time."""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t5like.model.sharding import Params
from t5like.model.transformer import Transformer
from t5like.train.chunked import chunked_losses
from t5like.train.losses import Ratio, Sums, ratio
from t5like.train.step import head_sums, predicting, targets_and_weights

BY_SOURCE = "by source: "
SumsOf = Callable[[Float[Array, " batch"]], Sums]
"""The sums of the rows of a batch, each with a weight of 1 or 0."""


def eval_step(
    params: Params, batch: dict[str, Array], *tables: Float[Array, " vocab"], net: Transformer, sources: int = 0
) -> Sums:
    """The sums of one batch: of tokens, for which there are the two tables of `evaluate.vocabulary_tables`, or of
    labels, of which `loss` has neither smoothing nor weights of classes.

    With `sources` above 0, the feature `sources` of the batch has the number of each row's source, int32, and there are
    the sums of each source too: by the name of a sum behind `BY_SOURCE`, arrays `[sources]`.
    """
    sums_of = _token_sums(params, batch, *tables, net=net) if net.model.predicts_pieces else _labels(params, batch, net)
    sums = sums_of(jnp.ones(len(next(iter(batch.values()))), jnp.float32))
    if sources:
        own = batch["sources"][None] == jnp.arange(sources)[:, None]  # [sources, batch]
        apart = jax.lax.map(lambda of: sums_of(of.astype(jnp.float32)), own)
        sums |= {f"{BY_SOURCE}{name}": each for name, each in apart.items()}
    return sums


def _labels(params: Params, batch: dict[str, Array], net: Transformer) -> SumsOf:
    scores = cast(Any, net.apply({"params": params}, batch, method=Transformer.scores)).labels
    counting = [name for name in batch if name.endswith(("_loss_weights", "_segment_ids"))]

    def sums_of(rows: Float[Array, " batch"]) -> Sums:
        kept = {name: batch[name] * rows[:, None].astype(batch[name].dtype) for name in counting}
        sums = head_sums(scores, batch | kept, net.model)
        return {name: sums[name] for name in ("loss", "accuracy") if name in sums}

    return sums_of


def _token_sums(
    params: Params,
    batch: dict[str, Array],
    piece_bytes: Float[Array, " vocab"],
    unigram: Float[Array, " vocab"],
    net: Transformer,
) -> SumsOf:
    """The sums of tokens; `piece_bytes` are the bytes of text of each piece, `unigram` its -log frequency.

    Text is what is neither sentinel nor EOS. Of `exact_match` the items are the segments with targets: one is right
    whose every target is the best guess, which greedy decoding would write, token for token.
    """
    inputs, label_scores = cast(Any, net.apply({"params": params}, batch, method=Transformer.lm_head_inputs))
    targets, all_weights = targets_and_weights(batch)
    losses = chunked_losses(inputs, targets, net.rules)
    size = piece_bytes[targets]

    def sums_of(rows: Float[Array, " batch"]) -> Sums:
        weights = all_weights * rows[:, None]
        text = weights * (size > 0).astype(jnp.float32)
        sums = {
            "loss": ratio(losses.nll, weights),
            "accuracy": ratio(losses.correct, weights),
            "text_accuracy": ratio(losses.correct, text),
            "text_loss": ratio(losses.nll, text),
            "unigram_text_loss": ratio(unigram[targets], text),
            "nats_per_byte": Ratio(jnp.sum(weights * losses.nll), jnp.sum(text * size)),
            "exact_match": _answers(losses.correct, weights, predicting(batch, "segment_ids")),
        }
        if label_scores is not None:
            right = jnp.argmax(label_scores, axis=-1) == batch["labels"]
            labelled = jnp.any(weights > 0, axis=1).astype(jnp.float32)
            sums["label_accuracy"] = ratio(right.astype(jnp.float32), labelled)
        return sums

    return sums_of


def _answers(
    correct: Float[Array, "batch length"], weights: Float[Array, "batch length"], segments: Int[Array, "batch length"]
) -> Ratio:
    """The segments that have targets, and those among them that have no wrong one.

    With segments 1 1 1 2 2 0, weights 0 1 1 1 1 0 and correct 0 1 1 0 1 0, there are 2, of which 1 is right.
    """
    # [batch, length] -> [batch, segments], of which a row has at most as many as tokens
    count = jax.vmap(lambda x, s: jax.ops.segment_sum(x, s, segments.shape[1] + 1))
    asked, wrong = (
        count((weights > 0).astype(jnp.float32) * x, segments) for x in (jnp.ones_like(correct), 1 - correct)
    )
    return Ratio(
        total=jnp.sum(((asked > 0) & (wrong == 0)).astype(jnp.float32)),
        count=jnp.sum((asked > 0).astype(jnp.float32)),
    )
