"""A stack of periods: layers that differ in turn, each with an attention window of its own."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import mesh_of, random_batch, replace, small_config
from test_transformer import build, logits

from t5like.errors import UserError
from t5like.model.attention.masks import AttentionMask
from t5like.model.network import path_name
from t5like.model.stack import scans
from t5like.model.transformer import Transformer
from t5like.train.state import make_training
from t5like.train.step import train_step


def test_the_scans_of_a_stack_are_whole_periods_and_what_is_left():
    model = small_config("gpt", model__windows=(8, 8, None)).model
    assert list(scans(model, 8)) == [("blocks", 2, (8, 8, None)), ("rest", 1, (8, 8))]
    assert list(scans(model, 6)) == [("blocks", 2, (8, 8, None))]
    assert list(scans(model, 1)) == [("rest", 1, (8,))]
    assert list(scans(replace(model, windows=()), 6)) == [("blocks", 6, (None,))]


def test_layers_in_periods_are_the_same_layers_scanned_one_by_one(one_device):
    """Five layers, as two periods of two and one that is left, and as five."""
    periods, params, batch = build(small_config("gpt", model__windows=(None, None), model__decoder_layers=5))
    given = params["decoder"]["blocks"]
    # layer n of a period of two is every second one
    whole = jax.tree.map(lambda a, b: jnp.stack([a[0], b[0], a[1], b[1]]), given["layer_0"], given["layer_1"])
    rest = params["decoder"]["rest"]
    all_layers = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), whole, rest)
    alone = {**params, "decoder": {"blocks": all_layers, "norm": params["decoder"]["norm"]}}
    one = Transformer(replace(periods.model, windows=()), periods.rules)
    np.testing.assert_allclose(logits(one, alone, batch), logits(periods, params, batch), atol=1e-5)


@pytest.mark.parametrize("attention", ["plain", "linear"])
@pytest.mark.parametrize(("windows", "reach"), [((3,), 4), ((3, 2), 3), ((2, None), 23), ((), 23)])
def test_a_token_reaches_back_as_far_as_the_windows_of_its_layers_together(attention, windows, reach, one_device):
    net, params, batch = build(small_config("gpt", model__windows=windows, model__attention=attention))
    found = seen_by_last_token(net, params, batch)
    assert found == list(range(24 - 1 - reach, 24))


def seen_by_last_token(net: Transformer, params: Any, batch: dict[str, jax.Array]) -> list[int]:
    """The positions of the first row whose tokens change what is predicted at its end."""
    tokens, whole = batch["decoder_input_tokens"], logits(net, params, batch)
    changed = jnp.stack([tokens[0].at[n].set((tokens[0, n] + 1) % 200) for n in range(24)])
    wide = {name: jnp.repeat(x[:1], 24, axis=0) for name, x in batch.items()} | {"decoder_input_tokens": changed}
    different = np.abs(logits(net, params, wide)[:, -1] - whole[0, -1]).max(-1)
    return np.flatnonzero(different > 1e-6).tolist()


def test_a_window_is_open_on_both_sides_where_nothing_is_causal():
    segments = jnp.array([[1, 1, 1, 1, 2, 2]], jnp.int32)
    mask = AttentionMask(segments, segments, causal=False, window=2).matrix()[0].astype(int).tolist()
    assert mask == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 1],
        [0, 0, 0, 0, 1, 1],
    ]


@pytest.mark.parametrize("kind", ["splash", "cudnn"])
def test_kernels_refuse_windows(kind):
    settings = small_config("gpt", model__windows=(4,), model__attention=kind, model__dtype="bfloat16")
    net, batch = Transformer(settings.model, settings.rules), random_batch(settings)
    said = f"model.attention='{kind}' cannot be used here, as it takes no attention windows: choose 'auto' or one of "
    with mesh_of("tpu" if kind == "splash" else "gpu"), pytest.raises(UserError) as error:
        jax.eval_shape(lambda: net.init(jax.random.key(0), batch))
    assert str(error.value) == said + "'plain', 'linear'."


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adafactor", "muon"])
def test_periods_are_trained_as_single_layers_are_on_any_mesh(optimizer, mesh):
    settings = small_config("t5", model__windows=(3, None), optimizer__name=optimizer, optimizer__learning_rate=0.05)
    training, batch = make_training(settings, mesh), random_batch(settings)
    paths = {path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(training.abstract.params)}
    assert {"encoder/blocks/layer_1/self/query", "decoder/rest/mlp/up", "decoder/norm/scale"} <= paths
    step = jax.jit(lambda state: train_step(state, batch, settings, training.network.net, training.optimizer))
    state, losses = training.initial_state(), []
    for _ in range(8):
        state, metrics = step(state)
        losses.append(float(metrics.sums["loss"].mean()))
    assert losses[-1] < 0.95 * losses[0]
