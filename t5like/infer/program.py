"""Generation as a program: lowered from shapes alone, for a plan."""

import jax
import jax.numpy as jnp

from t5like.config.sampling import Sampling
from t5like.infer.decode import Prompts
from t5like.infer.sample import make_sampler
from t5like.infer.search import Asked, Limits, generate
from t5like.model.network import Network, abstract_batch


def lower_generation(network: Network, prompts: int, tokens: int) -> jax.stages.Lowered:
    """Answers of `tokens` tokens to `prompts` prompts, each as long as a row of the run; call it under
    `jax.set_mesh(network.mesh)`."""
    config = network.config
    encoder, length = None, config.data.lengths["decoder"]
    if config.model.family == "encoder-decoder":
        given = abstract_batch(config, prompts).items()
        encoder, length = {name: shape for name, shape in given if name.startswith("encoder_")}, 1

    def arguments() -> tuple[Prompts, Limits]:
        lengths, token = jnp.zeros(prompts, jnp.int32), jnp.zeros((), jnp.int32)
        mask = jnp.zeros(config.model.vocab, bool)
        features = None if encoder is None else {name: jnp.zeros(x.shape, x.dtype) for name, x in encoder.items()}
        return Prompts(jnp.zeros((prompts, length), jnp.int32), lengths, features), Limits(mask, mask, token, token)

    asked, limits = jax.eval_shape(arguments)
    sampler = jax.eval_shape(lambda: make_sampler(Sampling(), range(prompts)))
    return generate.lower(network.params, asked, Asked(sampler, limits), net=network.inference_net, most=tokens)
