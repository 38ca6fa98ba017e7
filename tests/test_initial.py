"""The initial parameters: deviations as the papers have them, whatever the shape."""

import jax
import numpy as np
import pytest
from small import replace, small_config

from t5like.model.network import make_network
from t5like.model.projection import fan_in


@pytest.mark.parametrize(("shape", "axes"), [((256, 1024), (0,)), ((8, 32, 256), (0, 1)), ((256, 8, 32), (0,))])
def test_a_kernel_has_the_variance_of_the_fan_of_its_inputs(shape, axes):
    inputs = np.prod([shape[axis] for axis in axes])
    drawn = fan_in(*axes)(jax.random.key(0), shape)
    np.testing.assert_allclose(float(drawn.std()), inputs**-0.5, rtol=0.02)


@pytest.mark.parametrize("factor", [1.0, 0.1])
def test_layers_start_with_the_deviations_of_t5(one_device, factor):
    """The Mesh TensorFlow T5: 1 / sqrt(inputs), and queries smaller by sqrt(kv), for scores are not divided by it."""
    sizes = dict(model__embed=64, model__heads=8, model__kv=16, model__mlp=96, model__initializer_factor=factor)
    settings = small_config("t5", **sizes)
    params = make_network(settings, one_device).initial_params()["decoder"]["blocks"]
    for name, inputs in {"query": 64 * 16, "key": 64, "value": 64, "out": 8 * 16}.items():
        np.testing.assert_allclose(float(params["self"][name].std()), factor * inputs**-0.5, rtol=0.03)
    for name, inputs in {"up": 64, "gate": 64, "down": 96}.items():
        np.testing.assert_allclose(float(params["mlp"][name].std()), factor * inputs**-0.5, rtol=0.03)
    scaled = make_network(replace(settings, model=replace(settings.model, scale_attention=True)), one_device)
    query = scaled.initial_params()["decoder"]["blocks"]["self"]["query"]
    np.testing.assert_allclose(float(query.std()), factor * 64**-0.5, rtol=0.03)
