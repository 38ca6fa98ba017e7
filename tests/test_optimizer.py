"""Updates, against the formulas worked out by hand."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from t5like import config
from t5like.model import sharding
from t5like.optim.optimizer import make_optimizer, make_schedule

RNG = np.random.default_rng(0)
Update = Callable[[np.ndarray, np.ndarray, int, dict[str, Any]], np.ndarray]
"""(parameter, gradient, step from 1, what is remembered) -> the scaled gradient."""


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x))))


def adafactor(param: np.ndarray, gradient: np.ndarray, step: int, memory: dict[str, Any]) -> np.ndarray:
    """Shazeer and Stern 2018 with T5's constants, for one matrix."""
    beta, square = 1 - step**-0.8, np.square(gradient) + 1e-30

    def mean(name: str, value: np.ndarray) -> np.ndarray:
        memory[name] = beta * memory.get(name, 0.0) + (1 - beta) * value
        return memory[name]

    if min(param.shape) >= 128:
        rows, columns = mean("rows", square.mean(1)), mean("columns", square.mean(0))
        second = np.outer(rows, columns) / np.mean(rows)
    else:
        second = mean("full", square)
    update = gradient / np.sqrt(second)
    return update / max(1.0, rms(update)) * max(1e-3, rms(param))


def adam(param: np.ndarray, gradient: np.ndarray, step: int, memory: dict[str, Any]) -> np.ndarray:
    """Kingma and Ba 2015, with betas of 0.8 and 0.98."""
    memory["first"] = 0.8 * memory.get("first", 0.0) + 0.2 * gradient
    memory["second"] = 0.98 * memory.get("second", 0.0) + 0.02 * np.square(gradient)
    return memory["first"] / (1 - 0.8**step) / (np.sqrt(memory["second"] / (1 - 0.98**step)) + 1e-8)


def adam_rms(param: np.ndarray, gradient: np.ndarray, step: int, memory: dict[str, Any]) -> np.ndarray:
    """nanoT5's AdamWScale (Nawrot 2023)."""
    return adam(param, gradient, step, memory) * max(1e-3, rms(param))


def lion(param: np.ndarray, gradient: np.ndarray, step: int, memory: dict[str, Any]) -> np.ndarray:
    """Chen et al. 2023, algorithm 2."""
    before = memory.get("mean", 0.0)
    memory["mean"] = 0.98 * before + 0.02 * gradient
    return np.sign(0.8 * before + 0.2 * gradient)


def muon(param: np.ndarray, gradient: np.ndarray, step: int, memory: dict[str, Any]) -> np.ndarray:
    """Five steps of Jordan's iteration on Nesterov's momentum, with a root mean square of about 0.2."""
    memory["mean"] = 0.9 * memory.get("mean", 0.0) + 0.1 * gradient
    x = 0.9 * memory["mean"] / (1 - 0.9 ** (step + 1)) + 0.1 * gradient / (1 - 0.9**step)
    x = x / np.linalg.norm(x)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x * 0.2 * max(x.shape) ** 0.5


BY_HAND: dict[str, Update] = {"adafactor": adafactor, "adamw": adam, "adamw_rms": adam_rms, "lion": lion, "muon": muon}
RATE = 0.02


def by_hand(name: str, param: np.ndarray, gradients: list[np.ndarray], decay: float = 0.0) -> np.ndarray:
    """A matrix after these gradients, at T5's rate: constant for two steps, then falling as one over the root."""
    memory: dict[str, Any] = {}
    for step, gradient in enumerate(gradients, 1):
        rate = RATE * min(1.0, (2 / max(step - 1, 1)) ** 0.5)
        param = param - rate * (BY_HAND[name](param, gradient, step, memory) + decay * param)
    return param


def run(name: str, param: np.ndarray, gradients: list[np.ndarray], axes: tuple[str, ...], decay: float = 0.0) -> Any:
    """The same by our optimizer, for the parameter `mlp/up` whose dimensions have these names."""
    betas = {} if name == "adafactor" else dict(beta1=0.8, beta2=0.98)
    betas |= dict(momentum=0.9) if name == "muon" else {}
    settings = config.Optimizer(
        name=name, learning_rate=RATE, schedule="inverse_sqrt", hold=2, weight_decay=decay, **betas
    )
    tree = lambda x: {"mlp": {"up": jnp.asarray(x, jnp.float32)}}  # noqa: E731
    return moved(settings, tree(param), [tree(gradient) for gradient in gradients], {"mlp/up": axes})["mlp"]["up"]


def moved(settings: config.Optimizer, params: Any, gradients: list[Any], axes: dict[str, tuple[str, ...]]) -> Any:
    """The parameters after these gradients."""
    optimizer = make_optimizer(settings, 100, axes)
    state, update = jax.jit(optimizer.init)(params), jax.jit(optimizer.update)
    for gradient in gradients:
        updates, state = update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize("size", [0.1, 1e-5], ids=["", "tiny"])
@pytest.mark.parametrize("shape", [(160, 130), (160, 40)], ids=["factored", "full"])
def test_adafactor_is_the_paper_s(shape, size):
    """Growing gradients are clipped, and a tiny parameter counts as 1e-3."""
    param = RNG.normal(size=shape) * size
    gradients = [RNG.normal(size=shape) * 10.0**n for n in (0, 1, 2, -1, -2, 3)]
    got = run("adafactor", param, gradients, ("embed", "mlp"))
    np.testing.assert_allclose(got, by_hand("adafactor", param, gradients), rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "adamw_rms", "lion", "muon"])
def test_other_optimizers_are_their_papers(name):
    """The decay is multiplied by the learning rate, but not by the size of the parameter."""
    param = RNG.normal(size=(24, 40)) * 0.1
    gradients = [RNG.normal(size=(24, 40)) * 10.0**n for n in (0, 1, -1, 0)]
    got = run(name, param, gradients, ("embed", "mlp"), decay=0.3)
    np.testing.assert_allclose(got, by_hand(name, param, gradients, decay=0.3), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["adafactor", "adamw_rms", "muon"])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((3, 160, 4, 40), ("layers", "embed", "heads", "kv")),
        ((3, 4, 40, 160), ("layers", "heads", "kv", "embed")),
    ],
    ids=["query", "out"],
)
def test_scanned_layers_and_heads_move_as_single_matrices(name, shape, axes):
    """A stack of attention kernels moves as its matrices (embed, heads * kv) would alone."""
    scales = np.array([1.0, 5.0, 0.1])[:, None, None, None]
    param, first, second = (RNG.normal(size=shape) * scales for _ in range(3))
    got = run(name, param, [first, second], axes)
    for layer in range(3):
        alone, *gradients = (x[layer].reshape(160, 160) for x in (param, first, second))
        expected = by_hand(name, alone, gradients)
        np.testing.assert_allclose(got[layer].reshape(160, 160), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["adafactor", "adamw_rms", "muon"])
def test_matrices_of_two_stacked_dimensions_move_as_single_ones(name, monkeypatch):
    """As those of experts in each layer would."""
    monkeypatch.setattr(sharding, "STACKED", {"layers", "experts"})
    scales = np.array([1.0, 5.0, 0.1, 2.0]).reshape(2, 2, 1, 1)
    param, gradient = (RNG.normal(size=(2, 2, 128, 160)) * scales for _ in range(2))
    got = run(name, param, [gradient], ("layers", "experts", "embed", "mlp"))
    for layer, expert in np.ndindex(2, 2):
        expected = by_hand(name, param[layer, expert], [gradient[layer, expert]])
        np.testing.assert_allclose(got[layer, expert], expected, rtol=1e-3, atol=1e-5)


def test_muon_makes_updates_nearly_orthogonal():
    gradient = RNG.normal(size=(24, 40)) * np.geomspace(1, 100, 24)[:, None]
    got = run("muon", np.zeros((24, 40)), [gradient], ("embed", "mlp")) / RATE / (0.2 * 40**0.5)
    assert np.all(np.abs(np.linalg.svd(got)[1] - 1) < 0.35)
    assert np.linalg.svd(gradient / np.linalg.norm(gradient))[1].min() < 0.05


def test_muon_leaves_to_adamw_what_is_no_matrix_of_a_layer():
    shapes = {
        "embedding": (6, 4),
        "output": (4, 6),
        "encoder/relative": (4, 4),
        "encoder/blocks/mlp/up_bias": (2, 4),
        "encoder/blocks/self/query_bias": (2, 2, 2),
        "encoder/norm/scale": (4,),
    }
    axes = dict.fromkeys(shapes, ("embed",))
    params, gradient = (
        unflatten_dict({path: jnp.asarray(RNG.normal(size=s), jnp.float32) for path, s in shapes.items()}, sep="/")
        for _ in range(2)
    )
    muon, adamw = (
        moved(config.Optimizer(name=name, schedule="constant"), params, [gradient] * 2, axes)
        for name in ("muon", "adamw")
    )
    for path, before in flatten_dict(params, sep="/").items():
        after = flatten_dict(muon, sep="/")[path]
        np.testing.assert_array_equal(after, flatten_dict(adamw, sep="/")[path], err_msg=path)
        assert not np.any(after == before), path


def test_clipping_bounds_the_global_norm():
    """With Adam's first step a gradient counts by its sign alone, so the bound shows in the second moments."""
    settings = config.Optimizer(name="adamw", schedule="constant", clip=1.0)
    optimizer = make_optimizer(settings, 10, {"embedding": ("embed",), "output": ("embed",)})
    params = {"embedding": jnp.zeros(3), "output": jnp.zeros(4)}
    gradient = {"embedding": jnp.full(3, 30.0), "output": jnp.full(4, 40.0)}
    _, state = jax.jit(lambda g, p: optimizer.update(g, optimizer.init(p), p))(gradient, params)
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
