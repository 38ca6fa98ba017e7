"""Programs that train, for benchmarks/train.py: ours, transformers with torch, and T5X, on rows of the same sizes."""

import functools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from step import random_batch
from t5x_sources import open_t5x
from turns import LeftOutError, require_package

from t5like.config import MASK, Config, Data, Eval, Model, Objective, Optimizer, Train, Vocabulary
from t5like.model.architectures import architecture
from t5like.model.sharding import make_mesh
from t5like.train.compile import lower_step
from t5like.train.state import make_training
from t5like.xla import set_flags

THREADS = 2
SENTINELS = 100
SIX = dict(embed=512, heads=8, kv=64, mlp=2048, max_positions=512, dtype="float32")
MODELS = {
    "t5_small": architecture("t5_1_1_small", dtype="float32"),
    "t5_tiny": Model(
        encoder_layers=2, decoder_layers=2, embed=128, heads=4, kv=32, mlp=256, vocab=4096, dtype="float32"
    ),
    "gpt": architecture("gpt2_small", decoder_layers=6, **SIX),
    "bert": architecture("bert_base", encoder_layers=6, **SIX),
}


class Case(NamedTuple):
    """Steps of a model on `rows` rows of `length` tokens (T5: with `targets` more), by Adafactor or AdamW."""

    model: str
    rows: int
    length: int
    targets: int = 0

    @property
    def name(self) -> str:
        """As `t5_small 8x512+114 adafactor`."""
        return f"{self.model} {self.rows}x{self.length}{f'+{self.targets}' * bool(self.targets)} {self.optimizer}"

    @property
    def optimizer(self) -> str:
        """The optimizer that the family is trained by."""
        return "adafactor" if self.targets else "adamw"


Trainer = Callable[[int], float]
"""A number of steps to the last one's loss."""


def config_of(case: Case) -> Config:
    """The config of a run of ours; what it says of data has no effect here."""
    model, sentinels = MODELS[case.model], SENTINELS if case.targets else 0
    extra = (MASK,) if model.family == "encoder" else ()
    kind = {"encoder": "masked", "decoder": "causal", "encoder-decoder": "span_corruption"}[model.family]
    size = model.vocab - sentinels - 128
    vocabulary = Vocabulary(size=size, sentinels=sentinels, extra=extra, train_characters=1)
    return Config(
        model=model,
        data=Data(store="none", vocabulary=vocabulary, objective=Objective(kind=kind), length=case.length),
        optimizer=Optimizer(name=case.optimizer, learning_rate=1e-3, schedule="constant"),
        train=Train(directory="none", steps=1000, batch=case.rows),
        eval=Eval(batch=case.rows),
    )


def ours(case: Case, checkout: str) -> Trainer:
    """Ours."""
    set_flags()
    config = config_of(case)
    mesh = make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        training = make_training(config, mesh)
        compiled, state, batch = lower_step(training).compile(), training.initial_state(), random_batch(training, 0)
    _require_lengths(case, config.data.lengths)

    def train(steps: int) -> float:
        nonlocal state
        with jax.set_mesh(mesh):
            for _ in range(steps):
                state, metrics = compiled(state, batch)
            jax.block_until_ready(state)
        return float(metrics.sums["loss"].mean())

    return train


def _require_lengths(case: Case, lengths: dict[str, int]) -> None:
    wanted = [case.length, case.targets] if case.targets else [case.length]
    if list(lengths.values()) != wanted:
        sys.exit(f"{case.name}: ours has rows of {lengths}.")


def transformers(case: Case, checkout: str) -> Trainer:
    """A model of transformers, with torch's AdamW or transformers' Adafactor."""
    require_package("torch")
    require_package("transformers")
    import torch  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    model = _original(transformers, case).train()
    if case.targets:
        from transformers.optimization import Adafactor  # pyright: ignore[reportMissingImports]

        optimizer = Adafactor(model.parameters(), lr=1e-3, relative_step=False, scale_parameter=True)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    draw, most = np.random.default_rng(0), MODELS[case.model].vocab - SENTINELS
    tokens = torch.from_numpy(draw.integers(3, most, (case.rows, case.length)))
    labels = torch.from_numpy(draw.integers(3, most, (case.rows, case.targets))) if case.targets else tokens

    def train(steps: int) -> float:
        for _ in range(steps):
            loss = model(input_ids=tokens, labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    return train


def _original(transformers: Any, case: Case) -> Any:
    """The model of transformers of the same sizes; its T5s share embedding and output, as it has them all do."""
    m = MODELS[case.model]
    if m.family == "encoder-decoder":
        sizes = dict(vocab_size=m.vocab, d_model=m.embed, d_kv=m.kv, d_ff=m.mlp, num_heads=m.heads)
        depth = dict(num_layers=m.encoder_layers, num_decoder_layers=m.decoder_layers)
        ids = dict(decoder_start_token_id=0, pad_token_id=0)
        config = transformers.T5Config(
            **sizes, **depth, **ids, feed_forward_proj="gated-gelu", dropout_rate=0.0, use_cache=False
        )
        return transformers.T5ForConditionalGeneration(config)
    if m.family == "decoder":
        sizes = dict(vocab_size=m.vocab, n_positions=case.length, n_embd=m.embed, n_layer=m.decoder_layers)
        none = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False)
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **none, n_head=m.heads, n_inner=m.mlp))
    sizes = dict(vocab_size=m.vocab, hidden_size=m.embed, num_hidden_layers=m.encoder_layers, intermediate_size=m.mlp)
    none = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return transformers.BertForMaskedLM(transformers.BertConfig(**sizes, **none, num_attention_heads=m.heads))


def t5x(case: Case, checkout: str) -> Trainer:
    """T5X's network, loss and Adafactor, as its trainer calls them, from a checkout of its sources."""
    if not case.targets:
        raise LeftOutError("it is asked for T5 alone")
    open_t5x(checkout)
    from t5x import adafactor, losses  # pyright: ignore[reportMissingImports]
    from t5x.examples.t5 import network  # pyright: ignore[reportMissingImports]

    m = MODELS[case.model]
    sizes = dict(vocab_size=m.vocab, emb_dim=m.embed, num_heads=m.heads, head_dim=m.kv, mlp_dim=m.mlp)
    depth = dict(num_encoder_layers=m.encoder_layers, num_decoder_layers=m.decoder_layers)
    activations = dict(mlp_activations=("gelu", "linear"), dropout_rate=0.0)
    module = network.Transformer(network.T5Config(**sizes, **depth, **activations))
    draw, most = np.random.default_rng(0), m.vocab - SENTINELS
    inputs = jnp.asarray(draw.integers(3, most, (case.rows, case.length)), jnp.int32)
    targets = jnp.asarray(draw.integers(3, most, (case.rows, case.targets)), jnp.int32)
    before = jnp.pad(targets, ((0, 0), (1, 0)))[:, :-1]
    init = module.init(jax.random.key(0), inputs, before, targets, enable_dropout=False)
    optimizer, params = adafactor.Adafactor(1e-3), init["params"]

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: Any) -> tuple[Any, Any, Any]:
        def loss_of(params: Any) -> Any:
            logits = module.apply({"params": params}, inputs, before, targets, enable_dropout=False)
            loss, _, _ = losses.compute_weighted_cross_entropy(
                logits, targets, weights=jnp.ones_like(targets), z_loss=1e-4, loss_normalizing_factor=targets.size
            )
            return loss

        loss, gradient = jax.value_and_grad(loss_of)(params)
        params, state = optimizer.apply_gradient(optimizer.hyper_params, params, state, gradient)
        return params, state, loss

    state = optimizer.init_state(params)

    def train(steps: int) -> float:
        nonlocal params, state
        for _ in range(steps):
            params, state, loss = step(params, state)
        return float(loss)

    return train
