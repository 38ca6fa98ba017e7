"""`t5like export --adapter`: the adapters of a run alone, as PEFT keeps them, to be loaded onto the exported base.

PEFT has adapters for whole tensors of transformers. GPT-2 holds queries, keys and values in one, whose adapter is made
of ours: A is the A of each above each other, and B has the B of each as a block of its own. The product is the same.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import safetensors
import safetensors.numpy

from t5like.config import Lora, Model
from t5like.convert.exporting import cast_tensor
from t5like.convert.families import FAMILIES
from t5like.convert.kept_fields import kept_kind
from t5like.convert.kinds import kind_of
from t5like.convert.layout import TensorMapping, TensorMappings, leaves_of, names_of, to_theirs
from t5like.convert.options import ExportOptions
from t5like.convert.partial import whole_folder
from t5like.errors import UserError
from t5like.json_files import write_json
from t5like.model.adapters import LENGTH, A, B, is_adapter
from t5like.optim.groups import group_of, is_own
from t5like.runs.base import base_of
from t5like.runs.opened import Restored
from t5like.storage import Path

WEIGHTS, CONFIG, PREFIX = "adapter_model.safetensors", "adapter_config.json", "base_model.model."
TASKS = {"sequence": "SEQ_CLS", "token": "TOKEN_CLS", "span": "QUESTION_ANS", "none": "FEATURE_EXTRACTION"}
LANGUAGE = {"encoder-decoder": "SEQ_2_SEQ_LM", "decoder": "CAUSAL_LM", "encoder": None}
"""PEFT's task types, of heads and of families that predict tokens."""
SAVED = ("head", "pooler", "norm", "relative")
"""Parts that PEFT can save beside adapters: modules of their own, not tied to others, without adapters in them."""


def export_adapter(restored: Restored, target: Path, options: ExportOptions) -> str:
    """Writes the folder `target` and returns the class of transformers that the adapters are for.

    Raises:
      UserError: the run has no adapters or parts beside them that PEFT cannot save, the target is there already or
        cannot be written, or transformers has no such model.
    """
    model = restored.config.model
    if not model.lora.rank:
        raise UserError(f"{restored.run.path} has no adapters: leave out --adapter, or train with model.lora.rank=8.")
    if target.exists():
        raise UserError(f"{target} is there already: name a new folder, or move that away.")
    plain = dataclasses.replace(model, lora=Lora())
    kind = kind_of(plain, options.type, kept_kind(restored.run))
    mappings, leaves = FAMILIES[kind].tensor_mappings(plain), leaves_of(restored.params)
    saved = dict(_saved(leaves, mappings, model.lora))
    tensors = dict(_adapters(leaves, mappings, model.lora)) | saved
    name = FAMILIES[kind].CLASSES[kind][model.head]
    kept = {f"{PREFIX}{key}": cast_tensor(each, options.dtype, key) for key, each in tensors.items()}
    with whole_folder(target) as partial:
        try:
            safetensors.numpy.save_file(kept, partial / WEIGHTS, {"format": "pt"})
        except safetensors.SafetensorError as error:
            raise UserError(f"{partial / WEIGHTS} cannot be written: {error}.") from None
        modules = sorted({key.rpartition(".")[0] for key in saved})
        write_json(partial / CONFIG, adapter_config(model, mappings, leaves, modules))
        (partial / "README.md").write_text(_card(restored, name, target.name), "utf-8")
    return name


def adapter_config(
    model: Model, mappings: TensorMappings, leaves: Mapping[str, jax.Array], saved: Sequence[str]
) -> dict[str, Any]:
    """The content of adapter_config.json; `saved` are the modules that are kept whole beside the adapters."""
    lora, fused = model.lora, _fused(mappings, leaves)
    counts = {name: sum(f"{path}{A}" in leaves for path in paths) for name, paths in fused.items()}
    names = {name: _modules(mappings[paths[0]], leaves[paths[0]]) for name, paths in fused.items()}
    adapted = {module for name, count in counts.items() if count for module in names[name]}
    others = {module for each in names.values() for module in each} - adapted
    several = {name.removesuffix(".weight").rpartition(".")[2]: count for name, count in counts.items() if count > 1}
    return {
        "peft_type": "LORA",
        "task_type": TASKS.get(model.head, LANGUAGE[model.family]) if model.head != "next_sentence" else None,
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "use_dora": lora.dora,
        "bias": "none",
        "fan_in_fan_out": not any(mappings[paths[0]].transposed for name, paths in fused.items() if counts[name]),
        "target_modules": shortest_ends(adapted, others),
        "modules_to_save": list(saved) or None,
        "rank_pattern": {name: count * lora.rank for name, count in several.items()},
        "alpha_pattern": {name: count * lora.alpha for name, count in several.items()},
    }


def shortest_ends(modules: Collection[str], others: Collection[str]) -> list[str]:
    """The fewest last parts of dotted names that tell each of the modules from all others: `q` of a T5's, but
    `attention.output.dense` of a BERT's."""
    found = set()
    for module in modules:
        parts = module.split(".")
        ends = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        found.add(next(end for end in ends if not any(f".{other}".endswith(f".{end}") for other in others)))
    return sorted(found)


def _fused(mappings: TensorMappings, leaves: Mapping[str, jax.Array]) -> dict[str, list[str]]:
    """Name of each tensor -> the paths of the parameters that it holds, in the order of their parts."""
    found: dict[str, list[str]] = {}
    for path in leaves:
        if not is_adapter(path):
            found.setdefault(mappings[path].name, []).append(path)
    return {name: sorted(paths, key=lambda path: mappings[path].part) for name, paths in found.items()}


def _modules(mapping: TensorMapping, leaf: jax.Array) -> list[str]:
    return [name.rpartition(".")[0] for name in names_of(mapping, leaf.shape)]


def _adapters(
    leaves: Mapping[str, jax.Array], mappings: TensorMappings, lora: Lora
) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of all adapters by PEFT's names, without their prefix."""
    for paths in _fused(mappings, leaves).values():
        adapted = [path for path in paths if f"{path}{A}" in leaves]
        if not adapted:
            continue
        arrays = {name: np.asarray(jax.device_get(leaves[name])) for name in _names(paths, leaves)}
        for layer, module in enumerate(_modules(mappings[paths[0]], leaves[paths[0]])):
            of_layer = {name: array[layer] for name, array in arrays.items()}
            yield (
                f"{module}.lora_A.weight",
                np.concatenate([of_layer[f"{p}{A}"].reshape(-1, lora.rank).T for p in adapted]),
            )
            yield f"{module}.lora_B.weight", _blocks(paths, of_layer, lora.rank)
            if lora.dora:
                yield f"{module}.lora_magnitude_vector", np.concatenate([_length(path, of_layer) for path in paths])


def _names(paths: Sequence[str], leaves: Mapping[str, jax.Array]) -> list[str]:
    return [name for path in paths for name in (path, *(f"{path}{end}" for end in (A, B, LENGTH))) if name in leaves]


def _blocks(paths: Sequence[str], arrays: Mapping[str, np.ndarray], rank: int) -> np.ndarray:
    """[outputs of all paths, rank * number of adapters]: the B of each path's adapter, zero elsewhere."""
    rows, adapted = [], [path for path in paths if f"{path}{B}" in arrays]
    for path in paths:
        one = next(arrays[f"{other}{B}"] for other in adapted).reshape(rank, -1).T
        own = arrays[f"{path}{B}"].reshape(rank, -1).T if path in adapted else None
        rows.append(
            np.concatenate([own if own is not None and other == path else 0 * one for other in adapted], axis=1)
        )
    return np.concatenate(rows)


def _length(path: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The length that DoRA gives the weights of each output of a kernel, or that they have where it has no adapter."""
    adapted = arrays.get(f"{path}{LENGTH}")
    rows = arrays[path].shape[0] if adapted is None else arrays[path].size // adapted.size
    lengths = np.linalg.norm(arrays[path].reshape(rows, -1), axis=0)
    return lengths if adapted is None else lengths + adapted.reshape(-1)


def _saved(leaves: Mapping[str, jax.Array], mappings: TensorMappings, lora: Lora) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of all that was trained beside the adapters."""
    for path, leaf in leaves.items():
        if is_adapter(path) or not is_own(path, lora):
            continue
        if (part := group_of(path)) not in SAVED:
            raise UserError(
                f"model.lora.train has {part!r}, which PEFT does not save beside adapters: export the whole model "
                "without --adapter."
            )
        mapping, array = mappings[path], np.asarray(jax.device_get(leaf))
        for layer, name in enumerate(names_of(mapping, leaf.shape)):
            yield name, to_theirs([array[layer] if mapping.stacked else array], mapping)


def _card(restored: Restored, loaded_by: str, name: str) -> str:
    """A README.md that says how the adapters are loaded."""
    base = base_of(restored.run)
    return f"""---
library_name: peft
tags:
- t5like
---

# {name}

Adapters of step {restored.step:,} of a run of t5like, trained on step {base.step:,} of `{base.path}`.
Export that too, by `t5like export {base.path} BASE --step {base.step}`, and load both:

```python
from peft import PeftModel
from transformers import {loaded_by}

model = PeftModel.from_pretrained({loaded_by}.from_pretrained("BASE"), "{name}")
```
"""
