"""Where every parameter lives: its shape, the names of its dimensions, the mesh axes that split them, and its bytes."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
from flax import linen as nn

from t5like.config import Config
from t5like.model.transformer import Transformer
from t5like.plan.placed import mesh_of, plan_on
from t5like.plan.topology import Topology
from t5like.train.compile import shard_bytes
from t5like.train.groups import path_name
from t5like.train.state import Plan, abstract_batch


def rows(config: Config, topology: Topology) -> list[dict[str, Any]]:
    """One object for each parameter and for each array of the optimizer state, with bytes on each device."""
    plan = plan_on(config, topology)
    axes = axes_of(plan)
    found = []
    for part, tree in (("params", plan.abstract.params), ("optimizer", plan.abstract.opt_state)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            name = path_name(path)
            found.append(
                {
                    "part": part,
                    "name": name,
                    "shape": list(leaf.shape),
                    "type": leaf.dtype.name,
                    "axes": list(axes.get(name, ())) if part == "params" else [],
                    "mesh_axes": _mesh_axes(leaf, plan),
                    "bytes": shard_bytes(leaf),
                }
            )
    return found


def axes_of(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Path of each parameter -> the names of its dimensions."""
    batch = abstract_batch(plan.config, plan.config.train.batch)
    init = functools.partial(plan.net.init, jax.random.key(0), method=Transformer.scores)
    is_box = lambda leaf: isinstance(leaf, nn.LogicallyPartitioned)  # noqa: E731
    with mesh_of(plan):
        boxed = jax.eval_shape(init, batch)["params"]
    return {path_name(path): box.names for path, box in jax.tree_util.tree_leaves_with_path(boxed, is_leaf=is_box)}


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


def _mesh_axes(leaf: Any, plan: Plan) -> list[list[str]]:
    """The mesh axes of more than one device that split each dimension."""
    spec = [*leaf.sharding.spec, *[None] * len(leaf.shape)][: len(leaf.shape)]
    named = [() if entry is None else (entry,) if isinstance(entry, str) else tuple(entry) for entry in spec]
    return [[axis for axis in axes if plan.mesh.shape[axis] > 1] for axes in named]
