"""Small configs and batches that the tests share."""

import contextlib
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from t5like import config
from t5like.config.objective import SPECS, WITH_LABELS
from t5like.infer.decode import Prompts, advance, prefill
from t5like.model.network import abstract_batch
from t5like.model.stack import unrolled
from t5like.model.transformer import Transformer

BERT = dict(
    encoder_layers=2,
    positions="learned",
    max_positions=64,
    norm="layer",
    norm_position="post",
    embedding_norm=True,
    bias=True,
    gated=False,
    activation="gelu",
    tied=True,
)
FAMILIES = {
    "t5": (dict(encoder_layers=2, decoder_layers=3), "span_corruption"),
    "gpt": (dict(decoder_layers=2, positions="rotary", scale_attention=True, activation="silu"), "causal"),
    "bert": (BERT, "masked"),
    "pairs": (dict(**BERT, token_types=2, head="next_sentence", pooler=True), "next_sentence"),
}
SIZES = dict(embed=32, heads=4, kv=8, mlp=64, vocab=256, dtype="float32")


def small_config(family: str, **changes: Any) -> config.Config:
    """A config of a family; `changes` replace fields by names such as `model__dropout`."""
    model, objective = FAMILIES[family]
    grouped: dict[str, dict[str, Any]] = {"model": {}, "data": {}, "optimizer": {}, "mesh": {}, "train": {}, "eval": {}}
    for name, value in changes.items():
        group, _, field = name.partition("__")
        grouped[group][field] = value
    return config.Config(
        model=config.Model(**{**SIZES, **model, **grouped["model"]}),
        data=config.Data(
            **{
                "store": "unused",
                "length": 24,
                "objective": config.Objective(kind=objective),
                "vocabulary": config.Vocabulary(size=200, sentinels=20, extra=(config.MASK, config.CLS, config.SEP)),
                **grouped["data"],
            }
        ),
        optimizer=config.Optimizer(**{"learning_rate": 0.03, "schedule": "constant", **grouped["optimizer"]}),
        mesh=config.Mesh(**grouped["mesh"]),
        train=config.Train(**{"directory": "unused", "steps": 10, "batch": 8, **grouped["train"]}),
        eval=config.Eval(**{"batch": 8, **grouped["eval"]}),
    )


def task_of(kind: str) -> config.Task:
    """A task that an objective of labelled examples learns."""
    abc = ("a", "b", "c")
    return {
        "classification": config.Task(labels=abc),
        "multi_label_classification": config.Task(labels=abc, multi_label=True),
        "regression": config.Task(kind="regress"),
        "token_classification": config.Task(kind="tag", labels=abc),
        "span": config.Task(kind="span", context="context", unanswerable=True),
        "multiple_choice": config.Task(kind="choice", candidates=("candidates",)),
    }[kind]


def labelled_config(kind: str, stack: str = "encoder", **changes: Any) -> config.Config:
    """A config of a head on a BERT or a GPT that learns labelled examples of a kind."""
    spec, labels = SPECS[kind], 3 if kind in WITH_LABELS else 0
    pooling = "last" if stack == "decoder" and spec.head in ("sequence", "choice") else "first"
    fields = dict(head=spec.head, labels=labels, problem_type=spec.problem or None, pooling=pooling, tied=False)
    more = {"candidates": 4} if kind == "multiple_choice" else {}
    own = {
        **{f"model__{name}": value for name, value in fields.items()},
        **({"model__token_types": 2} if stack == "encoder" else {}),
        "data__objective": config.Objective(kind=kind, stack=stack, labels=labels, **more),
        "data__sources": (config.Source(kind="jsonl", path="unused", task=task_of(kind)),),
    }
    return small_config({"encoder": "bert", "decoder": "gpt"}[stack], **{**own, **changes})


def random_batch(settings: config.Config, seed: int = 0) -> dict[str, jax.Array]:
    """Random tokens in the features of a config's objective, with a few targets of weight 0."""
    rng = np.random.default_rng(seed)
    batch = {}
    for name, feature in abstract_batch(settings, settings.train.batch).items():
        if name.endswith("_tokens"):
            batch[name] = rng.integers(3, 200, feature.shape).astype(np.int32)
        elif name.endswith("_positions"):
            batch[name] = np.broadcast_to(np.arange(feature.shape[1], dtype=np.int32), feature.shape).copy()
        elif name.endswith("_types") or name == "labels":
            batch[name] = rng.integers(0, 2, feature.shape).astype(feature.dtype)
        elif name.endswith("_weights"):
            batch[name] = (rng.random(feature.shape) < 0.8).astype(np.float32)
        else:
            batch[name] = np.ones(feature.shape, np.int32)
    return jax.tree.map(jnp.asarray, batch)


def random_params(net: Transformer, batch: dict[str, jax.Array], seed: int = 0) -> Any:
    """Normal values in the shapes of a network's parameters: no two layers are alike, and nothing starts at 0 or 1."""
    rng = np.random.default_rng(seed)
    normal = lambda x: jnp.asarray(rng.normal(size=x.shape) * x.shape[-1] ** -0.5, jnp.float32)  # noqa: E731
    return jax.tree.map(normal, parameter_shapes(net, batch))


def parameter_shapes(net: Transformer, batch: dict[str, jax.Array]) -> Any:
    """The shapes of a network's parameters."""
    features = tuple((name, x.shape, jnp.dtype(x.dtype)) for name, x in batch.items())
    return _shapes(net, features, jax.sharding.get_abstract_mesh())


@functools.cache
def _shapes(net: Transformer, features: tuple[tuple[str, tuple[int, ...], Any], ...], _: Any) -> Any:
    """Traced once for features on a mesh."""
    batch = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape, dtype in features}
    init = functools.partial(net.init, method=Transformer.scores)
    return nn.unbox(jax.eval_shape(init, jax.random.key(0), batch))["params"]


def mesh_of(platform: str, devices: int = 1) -> contextlib.AbstractContextManager[Any]:
    """A mesh of devices of a platform that need not be here, for programs that are traced and not run."""
    axes = tuple(field.name for field in dataclasses.fields(config.Mesh))
    device = AbstractDevice(platform, 1, platform=platform)
    return jax.sharding.use_abstract_mesh(
        AbstractMesh((devices, *[1] * (len(axes) - 1)), axes, (AxisType.Auto,) * len(axes), abstract_device=device)
    )


def assert_trees_close(left: Any, right: Any, **tolerance: float) -> None:
    """Every leaf of one tree is close to the other's."""
    left, right = jax.device_get((left, right))
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, err_msg=jax.tree_util.keystr(path), **tolerance)


def replace(value: Any, **changes: Any) -> Any:
    return dataclasses.replace(value, **changes)


def assert_decoding_equals_the_full_forward(
    net: Any, params: Any, batch: dict[str, jax.Array], full: Any, tolerance: float = 2e-5
) -> None:
    """Prompts of different lengths are prefilled together, then every further token goes in alone.

    So it is too with three rows for each prompt, which share its keys and go on as other rows of the batch do.
    """
    tokens, lengths = np.asarray(batch["decoder_input_tokens"]), np.array([1, 2, 3, 4, 1, 2, 3, 4], np.int32)
    prompt = np.full((8, 4), 199, np.int32)
    for row, length in enumerate(lengths):
        prompt[row, -length:] = tokens[row, :length]
    encoder = {n: x for n, x in batch.items() if n.startswith("encoder")} if net.model.encoder_layers else None
    prompts, slots = Prompts(jnp.asarray(prompt), jnp.asarray(lengths), encoder), tokens.shape[1]
    step = jax.jit(functools.partial(advance, net))
    for copies in (1, 3):
        state = jax.jit(functools.partial(prefill, net, slots=slots, copies=copies))(params, prompts)
        layers, sources = unrolled(params, net.model), np.repeat(np.arange(8), copies)
        for number in range(slots - 4):
            place = lengths[sources] + number
            np.testing.assert_allclose(state.logits, np.asarray(full)[sources, place - 1], atol=tolerance)
            state = step(layers, state, jnp.asarray(tokens[sources, place]))
