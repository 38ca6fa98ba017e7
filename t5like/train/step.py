"""One step: (state, batch) -> (state, metrics), a pure function that is the same on one device and on thousands."""

import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from t5like.config import Config, Model, Rules, Train
from t5like.model.heads import ABSENT
from t5like.model.sharding import Params, shard
from t5like.model.transformer import Transformer
from t5like.optim.groups import frozen_and_trained, joined
from t5like.optim.optimizer import at_step, make_schedule
from t5like.runs.checkpoints import State
from t5like.train.chunked import Targets, chunked_sums
from t5like.train.losses import UNSMOOTHED, Smoothing, Sums, label_sums, smoothing_of, with_labels
from t5like.train.spikes import Verdict, judge

Batch = dict[str, Array]


class Metrics(NamedTuple):
    """Metrics of a step, scalars; the loss of a token is `sums["loss"].mean()`."""

    sums: Sums
    gradient_norm: Array
    learning_rate: Array
    verdict: Verdict


def train_step(
    state: State, batch: Batch, config: Config, net: Transformer, optimizer: optax.GradientTransformation
) -> tuple[State, Metrics]:
    """Lower the mean loss over the batch's weighted targets by one update.

    The mean is over the whole batch however it is sharded or accumulated. An update from a loss or gradient that is
    not finite, or a spike, is left out; the step is counted all the same, and the verdict says so.
    """
    sums, gradient = accumulated_gradient(state, batch, config, net)
    frozen, trained = frozen_and_trained(state.params, config.optimizer, config.model.lora)
    gradient = jax.tree.map(lambda g: g / jnp.maximum(sums["objective"].count, 1), gradient)
    norm = optax.tree.norm(gradient)
    with jax.named_scope("optimizer"):
        updates, opt_state = optimizer.update(gradient, at_step(state.opt_state, state.step), trained)
        params = optax.apply_updates(trained, updates)
    finite = jnp.isfinite(norm) & jnp.isfinite(sums["objective"].total)
    loss = sums["loss"].total / jnp.maximum(sums["loss"].count, 1)
    verdict, recent = judge(loss, norm, finite, state.recent, config.train)
    params, opt_state = jax.tree.map(
        lambda new, old: jnp.where(verdict.left_out == 0, new, old), (params, opt_state), (trained, state.opt_state)
    )
    rate = jnp.asarray(make_schedule(config.optimizer, config.train.steps)(state.step), jnp.float32)
    state = State(state.step + 1, joined(frozen, params), opt_state, state.skipped, recent)
    return state, Metrics(sums, norm, rate, verdict)


def accumulated_gradient(state: State, batch: Batch, config: Config, net: Transformer) -> tuple[Sums, Params]:
    """The batch's sums and the gradient of their `objective` by the parameters that are trained, computed in
    `train.accumulate` parts."""
    parts = config.train.accumulate
    frozen, trained = frozen_and_trained(state.params, config.optimizer, config.model.lora)
    key = jax.random.fold_in(jax.random.key(config.train.seed), state.step)

    def gradient_of(part: Batch, number: Array) -> tuple[Sums, Params]:
        def objective(trained: Params) -> tuple[Array, Sums]:
            keys = {"dropout": jax.random.fold_in(key, number)} if config.model.drops else {}
            sums = batch_sums(joined(frozen, trained), part, net, config.train, keys, smoothing_of(config))
            return sums["objective"].total, sums

        (_, sums), gradient = jax.value_and_grad(objective, has_aux=True)(trained)
        return sums, gradient

    if parts == 1:
        return gradient_of(batch, jnp.zeros((), jnp.int32))
    # Part n takes every parts-th row from n on, so that each device keeps its own rows.
    split = {name: _split_rows(x, parts, config.rules) for name, x in batch.items()}

    def add(total: tuple[Sums, Params], numbered: tuple[Batch, Array]) -> tuple[tuple[Sums, Params], None]:
        return jax.tree.map(jnp.add, total, gradient_of(*numbered)), None

    part = {name: jax.ShapeDtypeStruct(x.shape[1:], x.dtype) for name, x in split.items()}
    sums = jax.eval_shape(lambda part: batch_sums(state.params, part, net, config.train, {}), part)
    start = jax.tree.map(jnp.zeros_like, (sums, trained))
    return jax.lax.scan(add, start, (split, jnp.arange(parts, dtype=jnp.int32)))[0]


def batch_sums(
    params: Params,
    batch: Batch,
    net: Transformer,
    settings: Train,
    keys: dict[str, Array],
    smoothing: Smoothing = UNSMOOTHED,
) -> Sums:
    """The sums of a batch, as the model's head predicts it; `settings` and, of text, `smoothing` say what `objective`
    has more than `loss`.

    Logits, and scores of the head `token` are held against `*_target_tokens` with `*_loss_weights`, those of rows,
    of spans and of candidates against `labels`: `[batch]`, `[batch, labels]` for several labels or numbers of a row,
    or `[batch, 2]` for the positions where a span starts and ends.
    """
    if not net.model.predicts_pieces:
        scores = cast(Any, net.apply({"params": params}, batch, rngs=keys, method=Transformer.scores)).labels
        return head_sums(scores, batch, net.model, settings.label_smoothing, settings.class_weights)
    apply = functools.partial(net.apply, {"params": params}, batch, rngs=keys)
    inputs, labels = cast(Any, apply(method=Transformer.lm_head_inputs))
    targets = Targets(*targets_and_weights(batch))
    sums = chunked_sums(inputs, targets, settings.z_loss, net.rules, smoothing=smoothing)
    return sums if labels is None else with_labels(sums, labels, batch["labels"], targets.weights)


def head_sums(
    scores: Float[Array, "batch ..."],
    batch: Batch,
    model: Model,
    smoothing: float = 0.0,
    class_weights: tuple[float, ...] = (),
) -> Sums:
    """The sums of a head's scores (`heads.Scores.labels`); a row or a token without a segment has no weight."""
    if model.head == "token":
        labels, weights = targets_and_weights(batch)
        return label_sums(scores, labels, weights, model.label_problem, smoothing, class_weights)
    real = predicting(batch, "segment_ids") > 0
    if model.head == "span":
        scores = jnp.where(real[:, :, None], scores, ABSENT)
    rows = jnp.any(real, axis=1).astype(jnp.float32)
    return label_sums(scores, batch["labels"], rows, model.label_problem, smoothing, class_weights)


def targets_and_weights(batch: Batch) -> tuple[Array, Array]:
    """Target tokens and loss weights of the stack that predicts."""
    return predicting(batch, "target_tokens"), predicting(batch, "loss_weights")


def predicting(batch: Batch, feature: str) -> Array:
    """A feature of the stack that predicts: of the decoder if the batch has one."""
    return batch[f"decoder_{feature}" if f"decoder_{feature}" in batch else f"encoder_{feature}"]


def _split_rows(x: Array, parts: int, rules: Rules) -> Array:
    rows = x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)
    return shard(rows, rules, None, "batch", *[None] * (rows.ndim - 2))
