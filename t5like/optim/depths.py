"""The height of each parameter in the network, for learning rates that fall from layer to layer.

Heads and outputs lie at the top. Below them come the decoder's layers, then the encoder's, and at the bottom the
embeddings: of a T5 of two encoder and three decoder layers the decoder's last layer is 1 below the top, the encoder's
first 5, and the embeddings 6. A stack's last norm lies with its last layer, its shared relative bias with its first.
"""

import numpy as np
from jaxtyping import Float

from t5like.config import Model
from t5like.model.stack import scans
from t5like.optim.matrices import Axes

Depths = dict[str, np.ndarray]
"""Path of each parameter -> its distance from the top, int: a number, or one for each of its layers."""
BOTTOM = ("embedding", "positions", "token_types", "embedding_norm")
"""First names of the parameters below all layers."""


def depths(model: Model, axes: Axes) -> Depths:
    """The distance of every parameter from the top."""
    return {path: np.array(_depth(path, model)) for path in axes}


def _depth(path: str, model: Model) -> list[int] | int:
    stack, *rest = path.split("/")
    total = model.encoder_layers + model.decoder_layers
    if stack in BOTTOM:
        return total + 1
    if stack not in ("encoder", "decoder"):
        return 0
    layers, lowest = (model.encoder_layers, total) if stack == "encoder" else (model.decoder_layers,) * 2
    first = 0
    for name, periods, windows in scans(model, layers):
        if rest[0] == name:
            within = int(rest[1].removeprefix("layer_")) if len(windows) > 1 else 0
            return [lowest - first - period * len(windows) - within for period in range(periods)]
        first += periods * len(windows)
    return lowest if rest[0] == "relative" else lowest - layers + 1


def factors(distances: np.ndarray, decay: float, dimensions: int) -> Float[np.ndarray, "..."]:
    """The factors decay^distance of a rate (Clark et al. 2020), of one shape with a parameter of so many dimensions:
    [layers, 1, 1], or [1, 1] where it is in no layer."""
    found = np.float32(decay) ** distances.astype(np.float32)
    return found.reshape(*found.shape, *[1] * (dimensions - found.ndim))
