"""Compares a golden folder with a freshly made one and prints one line of a table for it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

TOLERANCE = 1e-5  # of outputs; relative to the largest value of a tensor where that is above one


def compare(kept: Path, made: Path) -> bool:
    """True if the folders differ; prints the largest difference of outputs, and what drifted."""
    if not kept.is_dir():
        print(f"{kept.name:18} missing: make it with --only {kept.name}")
        return True
    largest, drifts = outputs_drift(load_file(kept / "golden.safetensors"), load_file(made / "golden.safetensors"))
    drifts += weights_drift(kept, made)
    for name in ("config.json", "generation_config.json", "tokens.json"):
        if described(kept / name) != described(made / name):
            drifts.append(name)
    names = [{path.name for path in folder.iterdir()} for folder in (kept, made)]
    drifts += [f"the file {name} is on one side only" for name in sorted(names[0] ^ names[1])]
    print(f"{kept.name:18} {largest:9.2e}  {'; '.join(drifts) or 'same'}", flush=True)
    return bool(drifts)


def outputs_drift(kept: dict[str, np.ndarray], made: dict[str, np.ndarray]) -> tuple[float, list[str]]:
    largest, drifts = 0.0, [f"{name} is on one side only" for name in sorted(kept.keys() ^ made.keys())]
    for name in sorted(kept.keys() & made.keys()):
        old, new = kept[name], made[name]
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            drifts.append(f"{name} was {old.dtype}{old.shape}, is {new.dtype}{new.shape}")
            continue
        difference = float(np.abs(old.astype(float) - new).max())
        largest = max(largest, difference)
        allowed = TOLERANCE * max(1.0, float(np.abs(old).max())) if old.dtype == np.float32 else 0.0
        if not difference <= allowed:  # NaN drifts too
            drifts.append(f"{name} differs by {difference:.1e}")
    return largest, drifts


def weights_drift(kept: Path, made: Path) -> list[str]:
    old, new = weights(kept), weights(made)
    drifts = [f"the weight {name} is on one side only" for name in sorted(old.keys() ^ new.keys())]
    return drifts + [f"the weight {name}" for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]


def weights(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Shape, type and bytes of each tensor of the model."""
    from safetensors import safe_open

    found = {}
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:  # numpy has no bfloat16
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(name)
                found[name] = (path.name, tensor.dtype, tensor.shape, bytes(tensor.flatten().untyped_storage()))
    return found


def described(path: Path) -> Any:
    if not path.exists():
        return None
    return {name: value for name, value in json.loads(path.read_text()).items() if name != "transformers_version"}
