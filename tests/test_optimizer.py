"""Updates, against the formulas worked out by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from t5like import config
from t5like.train.optimizer import make_optimizer, make_schedule

RNG = np.random.default_rng(0)


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def adafactor_by_hand(param: np.ndarray, gradients: list[np.ndarray], rate: float) -> np.ndarray:
    """Shazeer and Stern 2018 with T5's constants, for one matrix."""
    rows, columns, full = 0.0, 0.0, 0.0
    for step, gradient in enumerate(gradients, 1):
        beta = 1 - step**-0.8
        square = np.square(gradient) + 1e-30
        if min(param.shape) >= 128:
            rows = beta * rows + (1 - beta) * square.mean(1)
            columns = beta * columns + (1 - beta) * square.mean(0)
            second = np.outer(rows, columns) / np.mean(rows)
        else:
            second = full = beta * full + (1 - beta) * square
        update = gradient / np.sqrt(second)
        update /= max(1.0, rms(update))
        param = param - rate * max(1e-3, rms(param)) * update
    return param


def run(settings: config.Optimizer, params: Any, gradients: list[Any], axes: dict[str, tuple[str, ...]]) -> Any:
    optimizer = make_optimizer(settings, 100, axes)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("shape", [(160, 130), (160, 40)], ids=["factored", "full"])
def test_adafactor_is_the_paper_s(shape):
    param = RNG.normal(size=shape) * 0.1
    gradients = [RNG.normal(size=shape) * 10.0**n for n in range(4)]
    settings = config.Optimizer(name="adafactor", learning_rate=0.02, schedule="constant")
    to_tree = lambda x: {"w": jnp.asarray(x, jnp.float32)}  # noqa: E731
    got = run(settings, to_tree(param), list(map(to_tree, gradients)), {"w": ("embed", "mlp")})
    np.testing.assert_allclose(got["w"], adafactor_by_hand(param, gradients, 0.02), rtol=2e-4, atol=1e-6)


def test_adafactor_treats_scanned_layers_and_heads_as_single_matrices():
    """A stack of attention kernels (layers, embed, heads, kv) moves as its matrices (embed, heads * kv) would alone."""
    scales = np.array([1.0, 5.0, 0.1])[:, None, None, None]
    param, gradient = (RNG.normal(size=(3, 160, 4, 40)) * scales for _ in range(2))
    settings = config.Optimizer(name="adafactor", learning_rate=0.02, schedule="constant")
    to_tree = lambda x: {"blocks": {"query": jnp.asarray(x, jnp.float32)}}  # noqa: E731
    got = run(settings, to_tree(param), [to_tree(gradient)] * 2, {"blocks/query": ("layers", "embed", "heads", "kv")})
    for layer in range(3):
        alone = adafactor_by_hand(param[layer].reshape(160, 160), [gradient[layer].reshape(160, 160)] * 2, 0.02)
        np.testing.assert_allclose(got["blocks"]["query"][layer].reshape(160, 160), alone, rtol=2e-4, atol=1e-6)


def test_adamw_decays_matrices_but_neither_norms_nor_biases():
    params = {
        "w": jnp.ones((4, 4)),
        "norm": {"scale": jnp.ones(4)},
        "w_bias": jnp.ones(4),
        "relative": jnp.ones((4, 4)),
        "transform": {"norm_bias": jnp.ones(4)},
    }
    axes = dict.fromkeys(("w", "norm/scale", "w_bias", "relative", "transform/norm_bias"), ("embed",))
    settings = config.Optimizer(name="adamw", learning_rate=0.1, schedule="constant", weight_decay=0.5)
    still = jax.tree.map(jnp.zeros_like, params)
    got = run(settings, params, [still], axes)
    np.testing.assert_allclose(got["w"], 0.95)
    for kept in (got["norm"]["scale"], got["w_bias"], got["relative"], got["transform"]["norm_bias"]):
        np.testing.assert_array_equal(kept, 1)


def test_clipping_bounds_the_global_norm():
    """With Adam's first step a gradient counts by its sign alone, so the bound shows in the second moments."""
    settings = config.Optimizer(name="adamw", schedule="constant", clip=1.0)
    optimizer = make_optimizer(settings, 10, {"a": ("embed",), "b": ("embed",)})
    params = {"a": jnp.zeros(3), "b": jnp.zeros(4)}
    _, state = optimizer.update({"a": jnp.full(3, 30.0), "b": jnp.full(4, 40.0)}, optimizer.init(params), params)
    moments = [leaf for name in ("mu",) for leaf in optax.tree.get(state, name).values()]
    assert float(optax.tree.norm(moments)) / 0.1 == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (dict(schedule="constant"), {0: 1.0, 50: 1.0, 100: 1.0}),
        (dict(schedule="linear", warmup=10), {0: 0.0, 5: 0.5, 10: 1.0, 55: 0.5, 100: 0.0}),
        (dict(schedule="linear", final=0.1), {0: 1.0, 50: 0.55, 100: 0.1}),
        (dict(schedule="cosine", warmup=20, final=0.2), {10: 0.5, 20: 1.0, 60: 0.6, 100: 0.2}),
        (dict(schedule="inverse_sqrt", hold=25), {0: 1.0, 25: 1.0, 100: 0.5}),
        (dict(schedule="inverse_sqrt", warmup=20, hold=25), {0: 0.0, 10: 0.5, 20: 1.0, 25: 1.0, 100: 0.5}),
        (dict(schedule="warmup_stable_decay", warmup=10, decay=40), {5: 0.5, 10: 1.0, 60: 1.0, 80: 0.5, 100: 0.0}),
    ],
)
def test_schedules_pass_through_their_points(settings, expected):
    schedule = make_schedule(config.Optimizer(learning_rate=2.0, **settings), 100)
    for step, share in expected.items():
        assert float(schedule(jnp.int32(step))) == pytest.approx(2 * share, abs=1e-6), step


def test_t5_s_rate_is_one_over_the_root_of_the_step():
    schedule = make_schedule(config.Optimizer(learning_rate=0.01, schedule="inverse_sqrt", hold=10_000), 10**6)
    for step in (0, 1, 10_000, 40_000, 10**6):
        assert float(schedule(jnp.int32(step))) == pytest.approx(1 / max(step, 10_000) ** 0.5)
