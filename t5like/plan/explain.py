"""The sharding of every parameter: its shape, the names of its dimensions, the mesh axes that split them, its bytes."""

from collections.abc import Iterator
from typing import Any

import jax

from t5like.config import Config
from t5like.model.network import path_name
from t5like.plan.placed import training_on
from t5like.plan.topology import Topology
from t5like.train.compile import shard_bytes
from t5like.train.state import Training


def rows(config: Config, topology: Topology) -> list[dict[str, Any]]:
    """One object for each parameter and for each array of the optimizer state, with bytes on each device."""
    training = training_on(config, topology)
    axes = training.network.axes
    found = []
    for part, tree in (("params", training.abstract.params), ("optimizer", training.abstract.opt_state)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            name = path_name(path)
            found.append(
                {
                    "part": part,
                    "name": name,
                    "shape": list(leaf.shape),
                    "type": leaf.dtype.name,
                    "axes": list(axes.get(name, ())) if part == "params" else [],
                    "mesh_axes": _mesh_axes(leaf, training),
                    "bytes": shard_bytes(leaf),
                }
            )
    return found


def as_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The table, parameters first, with the sum of each part."""
    for part, label in (("params", "Parameter"), ("optimizer", "Optimizer state")):
        of_part = [row for row in rows if row["part"] == part]
        width = max((len(row["name"]) for row in of_part), default=0)
        yield f"{label:<{width}}  {'bytes on each device':>20}  shape, split over mesh axes"
        for row in of_part:
            yield f"{row['name']:<{width}}  {row['bytes']:>20,}  {_dimensions(row)}"
        yield f"{'in all':<{width}}  {sum(row['bytes'] for row in of_part):>20,}"
        if part == "params":
            yield ""


def _dimensions(row: dict[str, Any]) -> str:
    """`[layers=24, embed=512 over fsdp]`; without names where a dimension has none."""
    names = row["axes"] or [""] * len(row["shape"])
    parts = []
    for name, size, mesh_axes in zip(names, row["shape"], row["mesh_axes"], strict=True):
        named = f"{name}={size}" if name else str(size)
        parts.append(f"{named} over {'+'.join(mesh_axes)}" if mesh_axes else named)
    return f"{row['type']}[{', '.join(parts)}]"


def _mesh_axes(leaf: jax.ShapeDtypeStruct, training: Training) -> list[list[str]]:
    """The mesh axes of more than one device that split each dimension."""
    spec = [*leaf.sharding.spec, *[None] * len(leaf.shape)][: len(leaf.shape)]
    named = [() if entry is None else (entry,) if isinstance(entry, str) else tuple(entry) for entry in spec]
    return [[axis for axis in axes if training.mesh.shape[axis] > 1] for axes in named]
