"""Matrix products of a traced function: an exact count to hold the formulas and the compilers' counts against."""

import math
from typing import Any

import jax
from jax.extend.core import jaxprs_in_params


def count_products(function: Any, *arguments: Any) -> int:
    """FLOPs of all `dot_general`s that a call does: two for each multiplication and addition, in loops every time."""
    return _of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
        times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
        if equation.primitive.name == "shard_map":
            times = equation.params["mesh"].size
        total += times * sum(map(_of, jaxprs_in_params(equation.params)))
    return total
