"""Generators of small random models, that tests of decoding share."""

import dataclasses
from typing import Any

import jax
from small import random_batch, random_params, small_config

from t5like import config
from t5like.config.decoding import Decoding
from t5like.data.objectives import trained_frame
from t5like.data.vocabulary import Bytes, Vocabulary
from t5like.infer.generate import Generator
from t5like.model.network import make_network

VOCABULARY = Vocabulary(Bytes(), [config.MASK], 11)


def build(family: str, **changes: Any) -> tuple[Generator, Any]:
    settings = small_config(family, model__vocab=384, **changes)
    mesh: Any = jax.sharding.get_abstract_mesh()
    network = make_network(settings, mesh)
    frame = trained_frame(settings.data, VOCABULARY)
    return Generator(network, VOCABULARY, frame, Decoding(tokens=6)), random_params(network.net, random_batch(settings))


def with_options(generator: Generator, **changes: Any) -> Generator:
    return dataclasses.replace(generator, decoding=dataclasses.replace(generator.decoding, **changes))
