"""Rates that fall from layer to layer, beside an optimizer for each layer."""

from typing import Any

import jax
import numpy as np
import optax
from flax.traverse_util import flatten_dict
from small import random_batch, random_params, small_config

from t5like.config import Lora
from t5like.model.network import make_network
from t5like.optim.average import averaging
from t5like.optim.depths import depths
from t5like.optim.optimizer import make_optimizer

DECAY = 0.5


def found_depths(family: str, one_device: Any, **changes: Any) -> dict[str, list[int] | int]:
    network = make_network(small_config(family, **changes), one_device)
    return {path: value.tolist() for path, value in depths(network.config.model, network.axes).items()}


def test_embeddings_lie_below_the_encoder_and_that_below_the_decoder(one_device):
    """Two encoder and three decoder layers."""
    found = found_depths("t5", one_device)
    assert found["embedding"] == 6
    assert found["encoder/relative"] == 5
    assert found["encoder/blocks/self/query"] == [5, 4]
    assert found["encoder/norm/scale"] == 4
    assert found["decoder/relative"] == 3
    assert found["decoder/blocks/cross/query"] == [3, 2, 1]
    assert found["decoder/norm/scale"] == 1
    assert found["output"] == 0


def test_heads_learn_at_the_whole_rate(one_device):
    found = found_depths("pairs", one_device)
    for path in ("embedding", "positions", "token_types", "embedding_norm/scale"):
        assert found[path] == 3
    assert found["encoder/blocks/mlp/up"] == [2, 1]
    assert found["pooler/kernel"] == found["head/kernel"] == 0


def test_layers_of_different_windows_lie_in_their_order(one_device):
    found = found_depths("gpt", one_device, model__decoder_layers=5, model__windows=(8, None))
    assert found["decoder/blocks/layer_0/mlp/up"] == [5, 3]
    assert found["decoder/blocks/layer_1/mlp/up"] == [4, 2]
    assert found["decoder/rest/mlp/up" if "decoder/rest/mlp/up" in found else "decoder/rest/layer_0/mlp/up"] == [1]


def test_each_layer_learns_as_with_an_optimizer_of_its_own(one_device):
    """Updates and decay; with frozen parts, groups and an average beside it."""
    changes = dict(optimizer__name="adamw", optimizer__weight_decay=0.1, optimizer__freeze=("norm",))
    settings = small_config("gpt", optimizer__layer_decay=DECAY, **changes)
    network, batch = make_network(settings, one_device), random_batch(settings)
    params, gradients = (random_params(network.net, batch, seed) for seed in (0, 1))
    heights = depths(settings.model, network.axes)
    optimizer = averaging(
        make_optimizer(settings.optimizer, 10, network.axes, depths=heights), 0.9, settings.optimizer, Lora()
    )

    def moved(optimizer: optax.GradientTransformation) -> dict[str, Any]:
        update = jax.jit(lambda g, p: optimizer.update(g, optimizer.init(p), p)[0])
        return flatten_dict(update(gradients, params), sep="/")

    scaled = moved(optimizer)
    rates = {height: moved(_optimizer(settings, network.axes, DECAY**height, changes)) for height in range(4)}
    for path, update in scaled.items():
        each = heights[path].tolist()
        if isinstance(each, int):
            np.testing.assert_allclose(update, rates[each][path], rtol=1e-5, atol=1e-9, err_msg=path)
            continue
        for layer, height in enumerate(each):
            np.testing.assert_allclose(update[layer], rates[height][path][layer], rtol=1e-5, atol=1e-9, err_msg=path)


def _optimizer(settings: Any, axes: Any, factor: float, changes: dict[str, Any]) -> optax.GradientTransformation:
    rate = settings.optimizer.learning_rate * factor
    plain = small_config("gpt", optimizer__learning_rate=rate, **changes)
    return make_optimizer(plain.optimizer, 10, axes)
