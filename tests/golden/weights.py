"""Random weights for the originals, drawn by numpy so that they do not depend on torch's version.

Every parameter is drawn, norms and biases too, and differently in each layer: what is left at one or zero proves
nothing. The deviations keep activations of order one, so attention is neither uniform nor a single key.
"""

from typing import Any

import numpy as np


def build(model: str, config: dict[str, Any], untied: bool, seed: int) -> Any:
    """The model of class `model` with random weights, in float32, on the CPU, in evaluation mode."""
    import transformers

    kind = getattr(transformers, model)
    made = kind(kind.config_class(**config)).eval()
    if untied:
        untie(made)
    randomise(made, np.random.default_rng(seed))
    return made


def untie(model: Any) -> None:
    """Gives the output head its own parameter, which the T5 configurations of transformers 5.24 cannot ask for."""
    import torch

    model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    # save_pretrained drops the tensors that are listed as tied.
    model.all_tied_weights_keys.pop("lm_head.weight", None)


def randomise(model: Any, generator: np.random.Generator) -> None:
    """Draws every parameter, and Marian's final bias, in the order of the modules."""
    import torch

    done = set()
    with torch.no_grad():
        for path, module in model.named_modules():
            for name, weight in module.named_parameters(recurse=False):
                # Marian's positions are sinusoids, which are computed and not saved.
                if id(weight) in done or path.endswith("embed_positions"):
                    continue
                done.add(id(weight))
                weight.copy_(torch.from_numpy(draw(model.config, path, module, name, weight, generator)))
        if model.config.model_type == "marian":
            bias = model.final_logits_bias
            bias.copy_(torch.from_numpy(0.5 * generator.standard_normal(bias.shape)))


def draw(config: Any, path: str, module: Any, name: str, weight: Any, generator: np.random.Generator) -> np.ndarray:
    """The values of one parameter."""
    normal = generator.standard_normal(weight.shape)
    if weight.ndim > 1:
        return deviation(config, path, module, weight) * normal
    if name == "bias":
        return 0.2 * normal
    # Scales of either sign: otherwise a tied head mostly finds the token that it was given.
    return (1 + 0.25 * normal) * generator.choice([-1.0, 1.0], weight.shape)


def deviation(config: Any, path: str, module: Any, weight: Any) -> float:
    """The deviation of a table or of a kernel, by the number of its inputs."""
    import torch

    if path.endswith("relative_attention_bias"):
        return 1.0
    if isinstance(module, torch.nn.Embedding):
        return embedding_deviation(config.model_type)
    root = (weight.shape[0] if type(module).__name__ == "Conv1D" else weight.shape[1]) ** -0.5
    if path == "lm_head":
        return 2 * root
    if path.endswith(".q"):  # T5 divides by nothing at run time
        return 1.5 * root * config.d_kv**-0.5
    if config.model_type in ("bert", "marian"):
        return post_norm_gain(path) * root
    return 1.2 * root


def post_norm_gain(path: str) -> float:
    """Without a residual path around the norms, what all positions share wins unless attention is sharp and mild."""
    if path.endswith(("query", "key", "q_proj", "k_proj")):
        return 1.8
    return 0.6 if path.endswith(("output.dense", "out_proj", "fc2")) else 1.2


def embedding_deviation(family: str) -> float:
    """T5 normalises after its embeddings and scales its tied logits; Marian multiplies by the root of the width."""
    if family.endswith("t5"):
        return 1.5
    return 0.35 if family == "marian" else 0.6
