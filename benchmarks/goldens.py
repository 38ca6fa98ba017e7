"""The largest difference between ours and the original's outputs, for each folder of tests/golden/; a JSON line each.

    python benchmarks/goldens.py [NAME ...]

`scores` are logits of tokens (or hidden states, or a head's scores), `rows` those of rows; float32, one CPU device.
"""

import contextlib
import dataclasses
import io
import json
import pathlib
import sys
import tempfile

import jax
import numpy as np

from t5like.config import Mesh
from t5like.convert.cases import outcome_of
from t5like.convert.importing import import_run
from t5like.convert.options import ImportOptions
from t5like.convert.original import StoredOutputs
from t5like.runs.directory import RunDirectory
from t5like.runs.opened import open_run

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden"


def differences(folder: pathlib.Path, run: pathlib.Path) -> dict[str, float]:
    """The largest absolute difference of each kind of output, and the largest score."""
    with contextlib.redirect_stdout(io.StringIO()):
        import_run(folder, run, ImportOptions(mesh=Mesh(fsdp=1)))
    config = RunDirectory(run).config()
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype="float32"))
    with open_run(config) as restored:
        net = restored.network.inference_net
        case, theirs = StoredOutputs(folder, net.model).case()
        ours = outcome_of(restored.params, net, case, parts=1)
    found = {}
    for kind, name in (("tokens", "scores"), ("rows", "rows")):
        pairs = [(a, b) for a, b in zip(getattr(ours, kind), getattr(theirs, kind), strict=True) if a is not None]
        if pairs:
            found[name] = float(max(np.abs(a - b).max() for a, b in pairs))
            found["largest"] = float(max(np.abs(b).max() for _, b in pairs))
    if ours.loss is not None and theirs.loss is not None:
        found["loss"] = abs(ours.loss - theirs.loss)
    return found


def main(names: list[str]) -> None:
    jax.config.update("jax_default_matmul_precision", "highest")
    with tempfile.TemporaryDirectory() as scratch:
        for folder in sorted(file.parent for file in GOLDEN.glob("*/golden.safetensors")):
            if not names or folder.name in names:
                found = differences(folder, pathlib.Path(scratch) / folder.name)
                line = {name: float(f"{value:.3g}") for name, value in found.items()}
                print(json.dumps({"folder": folder.name, **line}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
