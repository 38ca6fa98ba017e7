"""One step is the same on one device and on eight, in one batch and in parts."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import assert_trees_close, random_batch, random_params, small_config

from t5like import config
from t5like.config import Config
from t5like.model.sharding import batch_sharding, make_mesh
from t5like.model.transformer import Transformer
from t5like.runs.checkpoints import State
from t5like.train.losses import weighted_sums
from t5like.train.state import Training, make_training
from t5like.train.step import Metrics, targets_and_weights, train_step

MESHES = {
    "tensor": config.Mesh(data=2, fsdp=2, tensor=2),
    "fsdp": config.Mesh(),
    "slices": config.Mesh(slice=2, fsdp=4),
}


class Program(NamedTuple):
    """The step of a run on its mesh, which also returns the gradient of the sum over the batch's targets."""

    training: Training
    step: Callable[..., Any]

    def begin(self, batch: Any) -> tuple[State, Any]:
        """A first state with random parameters, and the batch, both where the step takes them."""
        params = random_params(self.training.network.net, batch)
        state = State(jnp.int32(0), params, self.training.optimizer.init(params))
        rows = batch_sharding(self.training.config.rules, self.training.mesh)
        return jax.device_put(state, self.training.shardings), jax.device_put(batch, rows)


@functools.cache
def program(settings: Config, devices: int) -> Program:
    """Made once, since several tests begin with the same."""
    mesh = make_mesh(settings.mesh, jax.devices()[:devices])
    with jax.set_mesh(mesh):
        training = make_training(settings, mesh)

    def step(state: State, batch: Any) -> tuple[State, Metrics, Any]:
        given: list[Any] = []

        def update(gradient: Any, *others: Any) -> Any:
            given.append(gradient)
            return training.optimizer.update(gradient, *others)

        seen = optax.GradientTransformation(training.optimizer.init, update)
        state, metrics = train_step(state, batch, settings, training.network.net, seen)
        return state, metrics, jax.tree.map(lambda mean: mean * metrics.sums["loss"].count, given[0])

    return Program(training, jax.jit(step, out_shardings=(training.shardings, None, None)))


def steps(settings: Config, devices: int, batch: Any) -> tuple[Any, State, Metrics]:
    """The first gradient, and the state and metrics after two steps on the same batch."""
    found = program(settings, devices)
    with jax.set_mesh(found.training.mesh):
        state, batch = found.begin(batch)
        state, _, gradient = found.step(state, batch)
        state, metrics, _ = found.step(state, batch)
        return jax.device_get((gradient, state, metrics))


def course(settings: Config, batch: Any, count: int) -> list[Any]:
    """The sums of each of some steps on the same batch, on one device."""
    found = program(settings, 1)
    with jax.set_mesh(found.training.mesh):
        (state, batch), kept = found.begin(batch), []
        for _ in range(count):
            state, metrics, _ = found.step(state, batch)
            kept.append(metrics.sums)
        return jax.device_get(kept)


def assert_same(left: tuple[Any, State, Metrics], right: tuple[Any, State, Metrics]) -> None:
    """Gradients and metrics agree closely; parameters to a hundredth of an update, since Adafactor makes the smallest
    gradients as large as the others and with them their rounding. The gradient of a key's bias is nothing else: softmax
    does not see it."""
    for params in (left[1].params, right[1].params):
        for stack in (params[name] for name in ("encoder", "decoder") if name in params):
            stack["blocks"]["self"].pop("key_bias", None)
    assert_trees_close(left[0], right[0], rtol=1e-3, atol=2e-5)
    assert_trees_close(left[2], right[2], rtol=1e-4)
    assert_trees_close(left[1].params, right[1].params, rtol=1e-4, atol=3e-4)


SLOW = [("t5", "tensor"), ("gpt", "fsdp"), ("t5", "slices"), ("pairs", "tensor")]
"""Pairs are rows of a BERT with masked tokens, and labels beside them."""
CASES = [("gpt", "tensor"), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
DROPPING = {"model__dropout": 0.1, "train__batch": 16}


@functools.cache
def on_one_device(family: str) -> tuple[Any, State, Metrics]:
    single = small_config(family, mesh__fsdp=1, **DROPPING)
    return steps(single, 1, random_batch(single))


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_sharded_step_equals_one_on_a_single_device(family, name):
    """Dropout included: a mask depends on the step and not on the device that draws it."""
    sharded = small_config(family, **DROPPING, **{f"mesh__{k}": v for k, v in vars(MESHES[name]).items()})
    assert_same(on_one_device(family), steps(sharded, 8, random_batch(sharded)))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt", "t5", "pairs"])
def test_accumulated_parts_equal_the_large_batch(family):
    """Weights differ between the parts, so a mean of means would show; the gradient's norm is the same too."""
    batch = random_batch(small_config(family))
    weights = next(name for name in batch if name.endswith("_weights"))
    batch[weights] = batch[weights] * (jnp.arange(8) % 4 > 0)[:, None].astype(jnp.float32)
    whole, parts = (small_config(family, mesh__fsdp=1, train__accumulate=n) for n in (1, 4))
    assert_same(steps(whole, 1, batch), steps(parts, 1, batch))


@pytest.mark.slow
def test_accumulation_works_on_a_mesh():
    batch = random_batch(small_config("t5", train__batch=16))
    single = small_config("t5", mesh__fsdp=1, train__batch=16)
    sharded = small_config("t5", train__accumulate=2, train__batch=16, mesh__data=2, mesh__fsdp=2, mesh__tensor=2)
    assert_same(steps(single, 1, batch), steps(sharded, 8, batch))


@pytest.mark.slow
def test_the_loss_is_a_mean_over_real_targets():
    """Doubling the batch with targets of weight 0 changes neither the loss nor the update."""
    settings = small_config("t5", mesh__fsdp=1)
    batch = random_batch(settings)
    doubled = {name: jnp.concatenate([x, x if "weights" not in name else 0 * x]) for name, x in batch.items()}
    larger = small_config("t5", mesh__fsdp=1, train__batch=16)
    assert_same(steps(settings, 1, batch), steps(larger, 1, doubled))


@pytest.mark.slow
def test_the_first_loss_is_near_that_of_an_even_guess(one_device):
    settings = small_config("t5", mesh__fsdp=1)
    training, batch = make_training(settings, one_device), random_batch(settings)
    logits = jax.jit(training.network.net.apply)({"params": training.initial_state().params}, batch)
    sums = weighted_sums(logits, *targets_and_weights(batch), z_loss=0.0)
    assert float(sums["loss"].mean()) == pytest.approx(np.log(256), rel=0.25)


def test_an_update_that_is_not_finite_is_left_out_and_counted(one_device):
    """The next one has the rate of its step, which is the one that is logged: not that of the update's number."""
    settings = small_config("gpt", mesh__fsdp=1, optimizer__schedule="linear")
    batch = random_batch(settings)
    bad = batch | {"decoder_loss_weights": batch["decoder_loss_weights"].at[0, 0].set(jnp.inf)}
    found = program(settings, 1)
    before, bad = found.begin(bad)
    after, metrics, _ = found.step(before, bad)
    assert not metrics.verdict.finite and int(metrics.verdict.left_out) == 1
    assert int(after.step) == 1
    assert_trees_close(after.params, before.params, rtol=0)
    assert_trees_close(after.opt_state, before.opt_state, rtol=0)
    late, metrics, _ = found.step(after, batch)
    assert float(metrics.learning_rate) == pytest.approx(0.03 * 0.9)
    early, _, _ = found.step(before, batch)
    moved = [jax.tree.map(lambda new, old: new - old, x.params, before.params) for x in (late, early)]
    assert_trees_close(moved[0], jax.tree.map(lambda x: 0.9 * x, moved[1]), rtol=1e-3, atol=1e-6)


def test_optimizer_moments_live_with_their_parameters(mesh):
    training = make_training(small_config("t5", optimizer__name="adamw"), mesh)
    moments = training.shardings.opt_state[1][0].mu
    assert jax.tree.leaves(moments) == jax.tree.leaves(training.shardings.params)


@pytest.mark.slow
def test_steps_on_one_batch_lower_its_loss():
    settings = small_config("gpt", mesh__fsdp=1, optimizer__learning_rate=0.1)
    batch = random_batch(settings)
    first, *_, last = course(settings, batch, 20)
    assert last["loss"].total < 0.5 * first["loss"].total


@pytest.mark.slow
def test_steps_on_one_batch_learn_its_labels_along_with_its_tokens():
    settings = small_config("pairs", mesh__fsdp=1, optimizer__learning_rate=0.05)
    batch = random_batch(settings)
    batch["labels"] = (batch["encoder_token_types"][:, 5] + jnp.arange(8, dtype=jnp.int32)) % 2
    first, *_, last = course(settings, batch, 60)
    assert last["label_accuracy"] == (8, 8) and last["loss"].total < 0.7 * first["loss"].total


def test_a_token_type_and_the_segment_of_a_pair_change_what_is_predicted(one_device):
    settings = small_config("pairs", mesh__fsdp=1)
    batch = random_batch(settings)
    net = make_training(settings, one_device).network.net
    params = random_params(net, batch)
    scores = jax.jit(functools.partial(net.apply, method=Transformer.scores))
    tokens, labels = scores({"params": params}, batch)
    other = batch | {"encoder_token_types": 1 - batch["encoder_token_types"]}
    changed_tokens, changed_labels = scores({"params": params}, other)
    assert jnp.abs(tokens - changed_tokens).max() > 0.01 and jnp.abs(labels - changed_labels).max() > 0.01
