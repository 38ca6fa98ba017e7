"""Generation as a program: lowered from shapes alone, for a plan."""

from typing import Any

import jax
import jax.numpy as jnp

from t5like.infer.decode import Filters, Limits, Prompts, Strength, generate
from t5like.infer.generate import inference_net
from t5like.model.network import Network, abstract_batch


def lower_generation(network: Network, prompts: int, tokens: int) -> jax.stages.Lowered:
    """Greedy answers of `tokens` tokens to `prompts` prompts, each as long as a row of the run; call it under
    `jax.set_mesh(network.mesh)`."""
    config = network.config

    def integer(*shape: int) -> Any:
        return jax.ShapeDtypeStruct(shape, jnp.int32)

    number: Any = jax.ShapeDtypeStruct((), jnp.float32)
    mask: Any = jax.ShapeDtypeStruct((config.model.vocab,), jnp.bool_)
    features: Any = None
    length = config.data.lengths["decoder"]
    if config.model.family == "encoder-decoder":
        given = abstract_batch(config, prompts).items()
        features, length = {name: shape for name, shape in given if name.startswith("encoder_")}, 1
    return generate.lower(
        network.params,
        Prompts(integer(prompts, length), integer(prompts), integer(prompts), features),
        integer(),
        Limits(mask, mask, integer(), integer()),
        Strength(number, number),
        net=inference_net(config),
        filters=Filters(greedy=True, top_k=0, nucleus=False),
        most=tokens,
    )
