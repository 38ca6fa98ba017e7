"""What stands on the stacks: each head learns, and sees what it should of a row."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import random_batch, random_params, small_config

from t5like.model.heads import pool, pool_segments
from t5like.model.sharding import make_mesh
from t5like.model.transformer import Transformer
from t5like.runs.checkpoints import State
from t5like.train.state import make_training
from t5like.train.step import train_step

HEADS = {
    "classes": dict(head="sequence", labels=3, pooler=True),
    "several": dict(head="sequence", labels=3, pooler=True, problem_type="multi_label_classification"),
    "regression": dict(head="sequence", labels=1, pooling="mean"),
    "tokens": dict(head="token", labels=5),
    "spans": dict(head="span"),
}


def labelled_batch(settings: Any, head: str) -> dict[str, jax.Array]:
    """Rows whose labels follow from their tokens."""
    batch = random_batch(settings)
    stack = "decoder" if settings.model.decoder_layers else "encoder"
    tokens = batch[f"{stack}_input_tokens"]
    match head:
        case "classes":
            return batch | {"labels": tokens[:, 0] % 3}
        case "several":
            return batch | {"labels": (tokens[:, :3] % 2).astype(jnp.float32)}
        case "regression":
            return batch | {"labels": (tokens[:, 0] % 7).astype(jnp.float32) / 7}
        case "tokens":
            return batch | {f"{stack}_target_tokens": tokens % 5}
    return batch | {"labels": jnp.stack([tokens[:, 0] % 4, 4 + tokens[:, 1] % 4], axis=1)}


@pytest.mark.parametrize(("pooling", "expected"), [("first", 10.0), ("last", 12.0), ("mean", 11.0)])
def test_a_row_is_pooled_over_its_real_tokens(pooling, expected):
    x = jnp.array([[10.0, 11.0, 12.0, 99.0, 99.0]])[:, :, None]
    assert pool(x, jnp.array([[1, 1, 1, 0, 0]], jnp.int32), pooling).item() == expected


@pytest.mark.parametrize(
    ("pooling", "expected"), [("first", [10.0, 12.0]), ("last", [11.0, 15.0]), ("mean", [10.5, 13.0])]
)
def test_each_segment_of_a_row_is_pooled_over_its_own_tokens(pooling, expected):
    x = jnp.array([[10.0, 11.0, 12.0, 12.0, 15.0, 99.0]])[:, :, None]
    found = pool_segments(x, jnp.array([[1, 1, 2, 2, 2, 0]], jnp.int32), 3, pooling)
    assert found[0, :2, 0].tolist() == expected


@pytest.mark.parametrize(
    "head", ["classes", *(pytest.param(name, marks=pytest.mark.slow) for name in ("regression", "spans"))]
)
def test_rows_that_fill_up_a_batch_count_for_nothing(head, one_device):
    settings = small_config("bert", model__tied=False, **{f"model__{n}": v for n, v in HEADS[head].items()})
    batch, training = labelled_batch(settings, head), make_training(settings, one_device)
    filled = dict(batch, encoder_segment_ids=batch["encoder_segment_ids"].at[5:].set(0))
    changed = dict(filled, encoder_input_tokens=filled["encoder_input_tokens"].at[5:].add(1))
    step = jax.jit(
        functools.partial(train_step, config=settings, net=training.network.net, optimizer=training.optimizer)
    )
    params = random_params(training.network.net, batch)
    state = State(jnp.int32(0), params, training.optimizer.init(params))
    one, other = (step(state, each)[1].sums for each in (filled, changed))
    assert float(one["loss"].count) == 5
    np.testing.assert_allclose(one["loss"].total, other["loss"].total, rtol=1e-6)


def test_a_sharded_head_gives_the_scores_of_a_single_device(mesh, one_device):
    settings = small_config("bert", model__tied=False, **{f"model__{n}": v for n, v in HEADS["classes"].items()})
    batch = labelled_batch(settings, "classes")
    net = Transformer(settings.model, settings.rules)
    params, batch = jax.device_get((random_params(net, batch), batch))
    score = lambda p, b: net.apply({"params": p}, b, method=Transformer.scores).labels  # noqa: E731
    found = []
    for devices in (mesh, make_mesh(settings.mesh, jax.devices()[:1])):
        with jax.set_mesh(devices):
            found.append(np.asarray(jax.jit(score)(params, batch)))
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
