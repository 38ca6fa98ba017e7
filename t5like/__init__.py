"""t5like: pretrain, fine-tune, evaluate and sample Transformer language models in JAX.

Importing this package imports neither JAX nor TensorFlow and touches no device; `load` does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from t5like.versions import VERSION

if TYPE_CHECKING:
    import t5like.library

__version__ = VERSION


def load(
    run: str | os.PathLike[str],
    *,
    step: int | Literal["best", "newest"] | None = None,
    config: Mapping[str, object] | None = None,
) -> t5like.library.Run:
    """Restore a run onto the devices that JAX sees, to predict, embed, score, generate and fill with it.

    Args:
      run: a run directory, or the preset that it was started from.
      step: the checkpoint, a step, "best" or "newest"; by default the best where the run has train.best, else the
        newest.
      config: fields of the run's config that take other values, by their dotted names as flags have them, such as
        {"model.dtype": "float32"}.

    Raises:
      UserError: no such run, checkpoint or field, or a field that would make it another model.
    """
    from t5like.loading import load

    return load(run, step=step, config=config)
