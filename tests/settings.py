"""A valid config, what changes it, and what is said of a mistake in it."""

import dataclasses

import pytest

from t5like import config
from t5like.errors import UserError


def valid(**changes):
    """A complete config; `changes` replace whole groups."""
    groups = {
        "model": config.Model(decoder_layers=1, embed=8, heads=2, kv=4, mlp=16, vocab=512),
        "data": config.Data(
            store="store",
            objective=config.Objective(kind="causal"),
            vocabulary=config.Vocabulary(size=400),
            sources=(config.Source(kind="text", path="a.txt"), config.Source()),
        ),
        "train": config.Train(directory="run", steps=10, batch=8),
    }
    return config.Config(**{**groups, **changes})


def change(name, value):
    """The valid config with the field of a dotted name replaced."""

    def replaced(node, parts):
        inner = replaced(getattr(node, parts[0]), parts[1:]) if parts[1:] else value
        return dataclasses.replace(node, **{parts[0]: inner})

    return replaced(valid(), name.split("."))


def sentence(function, *arguments, **named):
    """What the user is told, in one line that ends as a sentence does."""
    with pytest.raises(UserError) as raised:
        function(*arguments, **named)
    text = str(raised.value)
    assert "\n" not in text
    assert text.endswith((".", "?")), text
    return text
