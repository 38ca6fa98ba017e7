"""The error of each parameter's gradient in bfloat16, beside float32 on the same batch.

    python benchmarks/gradients.py [t5 bert gpt2 llama ...] [--devices 8] [--accumulate 2] [--json]

Each family is a published preset of two layers a stack, 128 wide, on 256 rows of 128 tokens drawn by Zipf's law. Every
target is the token that stands there, so that the gradients of a token's positions point the same way, as they do in
text: sums that stop growing show. Errors are |bfloat16 - float32| / |float32| of a whole parameter, all layers
together. Softmax does not see the bias of keys, whose gradient is rounding alone: it is held against that of queries.
The last line is JSON: the largest error of each family, its parameter, and the seconds and temporary MiB of both.
"""

import argparse
import dataclasses
import functools
import json
import os
import time
from typing import Any

import jax
import numpy as np

from t5like.config import CLS, MASK, SEP, Config, Mesh, Vocabulary, presets
from t5like.model.network import abstract_batch, path_name
from t5like.model.sharding import batch_sharding, make_mesh
from t5like.runs.checkpoints import State
from t5like.train.state import make_training
from t5like.train.step import accumulated_gradient
from t5like.xla import set_flags

FAMILIES = {
    "t5": "t5_1_1_base",
    "bert": "bert_base",
    "gpt2": "gpt2_small",
    "llama": "llama_1b",
    "transformer_2017": "transformer_2017_base",
}
PIECES, SENTINELS, ROWS = 4000, 64, 4096


def small(preset: str, **changes: Any) -> Config:
    """A preset of two layers a stack and few pieces; `changes` are fields of its model."""
    config = presets.load(f"configs/{preset}.py")
    sizes = {"embed": 128, "heads": 4, "kv": 32, "mlp": 256, "vocab": ROWS, "dropout": 0.0} | changes
    stacks = {name: 2 for name in ("encoder_layers", "decoder_layers") if getattr(config.model, name)}
    model = dataclasses.replace(config.model, **stacks, kv_heads=None, **sizes)
    vocabulary = Vocabulary(size=PIECES, sentinels=SENTINELS, extra=(MASK, CLS, SEP))
    return dataclasses.replace(
        config,
        model=model,
        data=dataclasses.replace(config.data, vocabulary=vocabulary, length=128),
        mesh=Mesh(),
    )


def zipf_batch(config: Config) -> dict[str, np.ndarray]:
    """Rows without padding of tokens by Zipf's law, whose targets are the tokens themselves."""
    rng, batch = np.random.default_rng(0), {}
    shares = 1 / np.arange(1, PIECES + 1)
    for name, feature in abstract_batch(config, config.train.batch).items():
        if name.endswith("_tokens"):
            values = rng.choice(PIECES, feature.shape, p=shares / shares.sum())
        elif name.endswith("_positions"):
            values = np.broadcast_to(np.arange(feature.shape[1]), feature.shape)
        elif name.endswith("_types") or name == "labels":
            values = rng.integers(0, 2, feature.shape)
        else:
            values = np.ones(feature.shape)
        batch[name] = values.astype(feature.dtype)
    stack = "decoder" if config.model.decoder_layers else "encoder"
    batch[f"{stack}_target_tokens"] = batch[f"{stack}_input_tokens"]
    return batch


def gradient(config: Config, devices: int, warm: bool = True) -> tuple[dict[str, np.ndarray], float, int]:
    """The gradient of each parameter by name, the seconds that it takes, and its temporary bytes on a device.

    `warm` runs the program once before its time is taken.
    Parameters that start at one value, as norms and biases, are moved a little.
    """
    mesh, rng = make_mesh(config.mesh, jax.devices()[:devices]), np.random.default_rng(1)
    move = lambda x: x + 0.05 * rng.normal(size=x.shape).astype(x.dtype) * (np.ptp(x) == 0)  # noqa: E731
    with jax.set_mesh(mesh):
        training = make_training(config, mesh)
        state = training.initial_state()
        params = jax.device_put(jax.tree.map(move, jax.device_get(state.params)), training.shardings.params)
        given = State(state.step, params, state.opt_state)
        batch = jax.device_put(zipf_batch(config), batch_sharding(config.rules, mesh))
        function = functools.partial(accumulated_gradient, config=config, net=training.network.net)
        compiled = jax.jit(function).lower(given, batch).compile()
        if warm:
            jax.block_until_ready(compiled(given, batch))
        started = time.monotonic()
        found = jax.block_until_ready(compiled(given, batch)[1])
        seconds = time.monotonic() - started
        leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(found))
    named = {path_name(path): leaf for path, leaf in leaves}
    return named, seconds, compiled.memory_analysis().temp_size_in_bytes


def errors(narrow: dict[str, np.ndarray], wide: dict[str, np.ndarray]) -> dict[str, float]:
    """The relative error of each parameter's gradient."""
    norm = {name: np.linalg.norm(wide[name.replace("key_bias", "query_bias")]) for name in wide}
    return {name: float(np.linalg.norm(narrow[name] - wide[name]) / norm[name]) for name in wide}


def measure(
    family: str, devices: int, accumulate: int, rows: int = 256, warm: bool = True, **changes: Any
) -> dict[str, Any]:
    """Errors of a family's parameters, and what both types cost."""
    found = {}
    for dtype in ("bfloat16", "float32"):
        config = small(FAMILIES[family], dtype=dtype, **changes)
        train = dataclasses.replace(config.train, batch=rows, accumulate=accumulate)
        found[dtype] = gradient(dataclasses.replace(config, train=train), devices, warm)
    each = errors(found["bfloat16"][0], found["float32"][0])
    worst = max(each, key=lambda name: each[name])
    costs = {dtype: {"seconds": seconds, "temporary_mib": size / 2**20} for dtype, (_, seconds, size) in found.items()}
    return {"family": family, "errors": each, "worst": worst, "largest": each[worst], **costs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", choices=[*FAMILIES, []], help="all by default")
    parser.add_argument("--devices", type=int, default=1, help="CPU devices")
    parser.add_argument("--accumulate", type=int, default=1, help="parts of the batch")
    parser.add_argument("--json", action="store_true", help="print the last line alone")
    asked = parser.parse_args()
    os.environ["JAX_NUM_CPU_DEVICES"], os.environ["JAX_PLATFORMS"] = str(asked.devices), "cpu"
    set_flags()
    kept = []
    for family in asked.families or FAMILIES:
        figures = measure(family, asked.devices, asked.accumulate)
        each = figures.pop("errors")
        kept.append(figures)
        if not asked.json:
            print(f"{family}: {len(each)} parameters, {asked.devices} device(s), {asked.accumulate} part(s)")
            print("".join(f"  {name:<40} {error:.4f}\n" for name, error in each.items()), end="", flush=True)
    print(json.dumps({"benchmark": "gradients", "devices": asked.devices, "families": kept}))


if __name__ == "__main__":
    main()
