"""Generation as a program: lowered from shapes alone, for a plan."""

import jax
import jax.numpy as jnp

from t5like.config.beams import BeamSearch
from t5like.config.sampling import Sampling
from t5like.infer.beams import divisors, rule_of
from t5like.infer.constraints import TokenConstraints, sequences_of
from t5like.infer.decode import Prompts
from t5like.infer.sample import make_sampler
from t5like.infer.search import Asked, Limits, Shape, generate
from t5like.model.network import Network, abstract_batch


def lower_generation(network: Network, prompts: int, tokens: int, beams: int) -> jax.stages.Lowered:
    """Answers of `tokens` tokens to `prompts` prompts, each as long as a row of the run; call it under
    `jax.set_mesh(network.mesh)`."""
    config, search = network.config, BeamSearch(num_beams=beams)
    encoder, length = None, config.data.lengths["decoder"]
    if config.model.family == "encoder-decoder":
        given = abstract_batch(config, prompts).items()
        encoder, length = {name: shape for name, shape in given if name.startswith("encoder_")}, 1

    def arguments() -> tuple[Prompts, Asked]:
        lengths, token = jnp.zeros(prompts, jnp.int32), jnp.zeros((), jnp.int32)
        mask, least = jnp.zeros(config.model.vocab, bool), jnp.zeros(prompts * beams, jnp.int32)
        limits = Limits(mask, mask, token, token, least, sequences_of(TokenConstraints(())))
        sampler = make_sampler(Sampling(), range(prompts), copies=beams)
        features = None if encoder is None else {name: jnp.zeros(x.shape, x.dtype) for name, x in encoder.items()}
        given = Prompts(jnp.zeros((prompts, length), jnp.int32), lengths, features)
        return given, Asked(sampler, limits, jnp.asarray(divisors(search, tokens)))

    asked = jax.eval_shape(arguments)
    shape = Shape(tokens, beams, rule_of(search) if search.searches else None)
    return generate.lower(network.params, *asked, net=network.inference_net, shape=shape)
