"""The average of the parameters, by hand; it lives in the optimizer's state, and frozen parameters have none."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict
from settings import change, sentence
from small import small_config

from t5like.config import Eval, Lora, Optimizer
from t5like.optim.average import averaging, with_average
from t5like.runs.checkpoints import Checkpoints, State
from t5like.train.state import make_training

DECAY = 0.3


def test_an_average_by_hand():
    """(1 + n) / (10 + n) of 2/11, 3/12 and 4/13, of which the last is above the decay."""
    optimizer = averaging(optax.sgd(1.0), DECAY, Optimizer(freeze=("norm",)), Lora())
    params = {"embedding": jnp.array([1.0, -2.0]), "encoder": {"norm": {"scale": jnp.ones(2)}}}
    state, expected = optimizer.init(params), np.array([1.0, -2.0])
    gradients = {"embedding": jnp.array([0.5, -1.0]), "encoder": {"norm": {"scale": jnp.zeros(2)}}}
    for decay in (2 / 11, 3 / 12, DECAY):
        updates, state = optimizer.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        expected = decay * expected + (1 - decay) * np.asarray(params["embedding"])
    np.testing.assert_allclose(state.average["embedding"], expected, rtol=1e-6)
    assert list(flatten_dict(state.average)) == [("embedding",)]
    merged = with_average(params, state)
    assert merged["embedding"] is state.average["embedding"]
    assert merged["encoder"]["norm"]["scale"] is params["encoder"]["norm"]["scale"]


def test_an_average_is_split_as_the_parameters_and_other_state_stays_as_it_was(mesh):
    plain = make_training(small_config("t5", optimizer__freeze=("embedding",)), mesh)
    with_it = make_training(small_config("t5", optimizer__freeze=("embedding",), train__ema=0.9), mesh)
    average, params = (flatten_dict(tree) for tree in (with_it.abstract.opt_state.average, with_it.abstract.params))
    assert params.keys() - average.keys() == {("embedding",)}
    assert all(leaf.sharding == params[path].sharding for path, leaf in average.items())
    assert jax.tree.structure(with_it.abstract.opt_state.inner) == jax.tree.structure(plain.abstract.opt_state)


def test_evaluation_of_averages_needs_some(tmp_path, one_device):
    said = sentence(change, "eval", Eval(ema=True))
    assert said == "eval.ema=True asks for averaged parameters, which only runs with train.ema keep: leave it out."
    assert "train.ema=1.0 must lie in (0, 1), or be None." in sentence(change, "train.ema", 1.0)
    with Checkpoints(tmp_path / "checkpoints", 1) as checkpoints:
        checkpoints.save(State(jnp.int32(3), {"output": jnp.ones(2)}, {"count": jnp.ones(2)}), 3)
        checkpoints.wait()
        output = {"output": jax.ShapeDtypeStruct((2,), "float32")}
        said = sentence(checkpoints.restore_averaged, output, Optimizer(), Lora())
        assert said.endswith("checkpoints/3 holds no averaged parameters, which train.ema keeps: leave eval.ema out.")
