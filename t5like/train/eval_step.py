"""One step of an evaluation: (parameters, batch) -> sums, whose scores are made a chunk of tokens at a time."""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t5like.model.transformer import Transformer
from t5like.train.chunked import Readout, chunked_losses
from t5like.train.step import targets_and_weights


class EvalSums(NamedTuple):
    """Sums over held-out targets, float32 scalars; on the host, float64 sums of those.

    `text` are the targets that spell text: neither sentinels nor EOS. `answers` are the segments with targets, and
    those are correct whose every target is the best guess: what greedy decoding would write, token for token.
    """

    nll: Any
    weight: Any
    correct: Any
    text_nll: Any
    text_weight: Any
    text_bytes: Any
    text_correct: Any
    unigram_nll: Any
    answers: Any
    answers_correct: Any
    labels: Any
    labels_correct: Any


def eval_step(
    params: Any,
    batch: dict[str, Array],
    piece_bytes: Float[Array, " vocab"],
    unigram: Float[Array, " vocab"],
    net: Transformer,
) -> EvalSums:
    """The sums of one batch; `piece_bytes` are the bytes of text of each piece, `unigram` its -log frequency."""
    readout, label_scores = cast(Any, net.apply({"params": params}, batch, method=Transformer.before_scores))
    targets, weights = targets_and_weights(batch)
    losses = chunked_losses(Readout(*readout), targets, net.rules)
    size = piece_bytes[targets]
    text = weights * (size > 0).astype(jnp.float32)
    answers, answers_correct = _answers(losses.correct, weights, _segments(batch))
    labels = labels_correct = jnp.zeros((), jnp.float32)
    if label_scores is not None:
        labelled = jnp.any(weights > 0, axis=1).astype(jnp.float32)
        right = jnp.argmax(label_scores, axis=-1) == batch["labels"]
        labels, labels_correct = jnp.sum(labelled), jnp.sum(labelled * right.astype(jnp.float32))
    return EvalSums(
        nll=jnp.sum(weights * losses.nll),
        weight=jnp.sum(weights),
        correct=jnp.sum(weights * losses.correct),
        text_nll=jnp.sum(text * losses.nll),
        text_weight=jnp.sum(text),
        text_bytes=jnp.sum(text * size),
        text_correct=jnp.sum(text * losses.correct),
        unigram_nll=jnp.sum(text * unigram[targets]),
        answers=answers,
        answers_correct=answers_correct,
        labels=labels,
        labels_correct=labels_correct,
    )


def _segments(batch: dict[str, Array]) -> Int[Array, "batch length"]:
    """The segments of the stack that predicts."""
    return batch["decoder_segment_ids" if "decoder_segment_ids" in batch else "encoder_segment_ids"]


def _answers(
    correct: Float[Array, "batch length"], weights: Float[Array, "batch length"], segments: Int[Array, "batch length"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The number of segments that have targets, and of those among them that have no wrong one.

    With segments 1 1 1 2 2 0, weights 0 1 1 1 1 0 and correct 0 1 1 0 1 0, there are 2, of which 1 is right.
    """
    # [batch, length] -> [batch, segments], of which a row has at most as many as tokens
    count = jax.vmap(lambda x, s: jax.ops.segment_sum(x, s, segments.shape[1] + 1))
    asked, wrong = (
        count((weights > 0).astype(jnp.float32) * x, segments) for x in (jnp.ones_like(correct), 1 - correct)
    )
    return jnp.sum((asked > 0).astype(jnp.float32)), jnp.sum(((asked > 0) & (wrong == 0)).astype(jnp.float32))
