"""T5X's decoding for benchmarks/decode.py, from a checkout of its sources alone: it cannot be installed any more."""

import functools
import pathlib
import types
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from decoders import EOS, MODELS, Case, Decoder, network_of, params_of
from flax.traverse_util import flatten_dict, unflatten_dict
from t5x_sources import open_t5x
from turns import LeftOutError

from t5like.config import Model
from t5like.convert.layout import leaves_of, names_of, to_theirs
from t5like.convert.t5x import t5x_mappings
from t5like.model.sharding import Params

KEY = {"params": jax.random.key(0)}


def t5x(case: Case, folder: pathlib.Path, checkout: str) -> Decoder:
    """T5X's network and decoding, as its model's predict_batch calls them, from a checkout of its sources alone."""
    if MODELS[case.model].family != "encoder-decoder":
        raise LeftOutError("it is asked for T5 alone")
    open_t5x(checkout)
    from t5x import decoding  # pyright: ignore[reportMissingImports]
    from t5x.examples.t5 import network  # pyright: ignore[reportMissingImports]

    model = MODELS[case.model]
    module = network.Transformer(
        network.T5Config(
            vocab_size=model.vocab,
            emb_dim=model.embed,
            num_heads=model.heads,
            num_encoder_layers=model.encoder_layers,
            num_decoder_layers=model.decoder_layers,
            head_dim=model.kv,
            mlp_dim=model.mlp,
            mlp_activations=("gelu", "linear"),
            dropout_rate=0.0,
        )
    )
    inputs = jnp.asarray(case.prompts(), jnp.int32)

    def start(variables: Any, tokens: int) -> Any:
        """All of the network once, which makes an empty cache."""
        targets, plain = jnp.ones((case.rows, tokens), jnp.int32), dict(decode=True, enable_dropout=False)
        return module.apply(variables, inputs, targets, targets, mutable=["cache", "params"], rngs=KEY, **plain)[1]

    @functools.partial(jax.jit, static_argnames="tokens")
    def predict(params: Any, tokens: int) -> Any:
        net = functools.partial(module.apply, enable_dropout=False)
        encoded = net({"params": params}, inputs, method=module.encode)
        wide = [decoding.flat_batch_beam_expand(array, case.beams) for array in (encoded, inputs)]

        def scores(state: Any) -> Any:
            found, new = net(
                {"params": params, "cache": state.cache},
                *(*wide, state.cur_token, state.cur_token),
                decode=True,
                max_decode_length=tokens,
                mutable=["cache"],
                method=module.decode,
            )
            return found[:, 0], new["cache"]

        greedy = functools.partial(decoding.temperature_sample, temperature=0.0, topk=0)
        search = decoding.beam_search if case.beams > 1 else greedy
        given = dict(inputs=jnp.zeros((case.rows, tokens), jnp.int32), tokens_to_logits=scores, num_decodes=case.beams)
        return search(cache=start({"params": params}, tokens)["cache"], eos_id=EOS, **given)[0][:, -1]

    names = flatten_dict(jax.eval_shape(lambda: start({}, 1))["params"], sep="/").keys()
    params = _t5x_params(params_of(network_of(case.model), folder), model, names)
    return lambda tokens: np.asarray(predict(params, tokens))


def _t5x_params(params: Params, model: Model, names: Iterable[str]) -> Any:
    """Our parameters as T5X's network has them."""
    there: Any = types.SimpleNamespace(names=lambda: names, folder="T5X's network")
    mappings, found = t5x_mappings(model, there), {}
    for path, leaf in leaves_of(params).items():
        mapping, whole = mappings[path], np.asarray(leaf)
        layers = whole if mapping.stacked else whole[None]
        for name, layer in zip(names_of(mapping, whole.shape), layers, strict=True):
            found[name] = jnp.asarray(to_theirs([layer], mapping))
    return unflatten_dict(found, sep="/")
