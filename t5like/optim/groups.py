"""The group that each parameter is in, by the names of its module and of itself, and what the config says of it.

A parameter that no name here claims is an error, so that a new one cannot be trained by a rule that nobody chose.
"""

import dataclasses
from collections.abc import Callable, Collection
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from t5like.config import Group, Groups, Lora, Optimizer
from t5like.errors import UserError
from t5like.model.adapters import is_adapter
from t5like.model.sharding import Params

KINDS = tuple(field.name for field in dataclasses.fields(Groups))
STACKS = ("encoder", "decoder")
LEAVES = {
    **dict.fromkeys(("embedding", "positions", "token_types"), "embedding"),
    **dict.fromkeys(("output", "output_bias"), "output"),
    **dict.fromkeys(("scale", "norm_bias"), "norm"),
    "relative": "relative",
}
"""Names of parameters that say the group, whatever module they are in."""
MODULES = {
    **dict.fromkeys(("self", "cross"), "attention"),
    **dict.fromkeys(("norm", "norm_self", "norm_cross", "norm_mlp", "embedding_norm"), "norm"),
    "transform": "output",
    "mlp": "mlp",
    "pooler": "pooler",
    "head": "head",
}
"""Names of modules that say the group of all other parameters in them."""


def group_of(path: str) -> str:
    """The field of `config.Groups` that a parameter belongs to.

    Raises:
      ValueError: a parameter of a name that no group claims.
    """
    module, _, leaf = path.rpartition("/")
    kind = LEAVES.get(leaf) or MODULES.get(module.rpartition("/")[2])
    if kind is None:
        raise ValueError(f"parameter {path!r} is in none of the groups {', '.join(KINDS)}: name it in optim/groups.py")
    return kind


def is_bias(path: str) -> bool:
    """True if a parameter is a bias that is added to activations; T5's relative position bias is none."""
    return path.endswith("bias")


def is_decayed(path: str, settings: Optimizer) -> bool:
    """True if `weight_decay` applies to a parameter."""
    return not is_bias(path) and _group(path, settings).decay


def is_own(path: str, lora: Lora) -> bool:
    """True if a parameter is the run's own: with adapters these and what is trained beside them, without them all."""
    return not lora.rank or is_adapter(path) or group_of(path) in lora.train


def is_frozen(path: str, settings: Optimizer, lora: Lora) -> bool:
    """True if a parameter keeps its value."""
    return not is_own(path, lora) or not {group_of(path), path.partition("/")[0]}.isdisjoint(settings.freeze)


def rate_of(path: str, settings: Optimizer) -> float:
    """The factor of a parameter's learning rate."""
    return _group(path, settings).rate


def parted(params: Params, choose: Callable[[str], bool]) -> tuple[Params, Params]:
    """The parameters whose paths are chosen, and the others, each in the same nested dicts."""
    flat: dict[str, Any] = flatten_dict(params, sep="/")
    one, other = ({path: flat[path] for path in flat if choose(path) == side} for side in (True, False))
    return unflatten_dict(one, sep="/"), unflatten_dict(other, sep="/")


def joined(one: Params, other: Params) -> Params:
    """The inverse of `parted`."""
    return unflatten_dict(flatten_dict(one, sep="/") | flatten_dict(other, sep="/"), sep="/")


def own_params(params: Params, lora: Lora) -> Params:
    """The parameters that are the run's own."""
    return parted(params, lambda path: is_own(path, lora))[0]


def frozen_and_trained(params: Params, settings: Optimizer, lora: Lora) -> tuple[Params, Params]:
    """The parameters that keep their values, and those that are trained."""
    return parted(params, lambda path: is_frozen(path, settings, lora))


def require_groups(settings: Optimizer, lora: Lora, paths: Collection[str]) -> None:
    """Check the groups of a config against the parameters of its model.

    Raises:
      UserError: a rule for parameters that the model does not have, or nothing is left to train.
      ValueError: a parameter that is in no group.
    """
    kinds = {group_of(path) for path in paths}
    stacks = {path.partition("/")[0] for path in paths}.intersection(STACKS)
    there = ", ".join(part for part in (*STACKS, *KINDS) if part in kinds | stacks)
    for part in settings.freeze:
        if part not in kinds | stacks:
            raise UserError(f"optimizer.freeze names {part!r}, but the model has {there}: leave it out.")
    for part in lora.train if lora.train != Lora().train else ():
        if part not in kinds:
            raise UserError(f"model.lora.train names {part!r}, but the model has {there}: leave it out.")
    for kind in KINDS:
        if kind not in kinds and getattr(settings.groups, kind) != getattr(Groups(), kind):
            raise UserError(f"optimizer.groups.{kind} is changed, but the model has {there}: leave it as it was.")
    if all(is_frozen(path, settings, lora) for path in paths):
        raise UserError(f"optimizer.freeze={settings.freeze} leaves nothing to train: take something out.")


def _group(path: str, settings: Optimizer) -> Group:
    return getattr(settings.groups, group_of(path))
