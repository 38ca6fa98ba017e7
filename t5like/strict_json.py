"""JSON as the standard has it: what is no number is null, where Python alone would write NaN and Infinity."""

import json
import math
from typing import Any


def dumps(value: Any, **options: Any) -> str:
    """The JSON of a value, with null for floats that are not finite; `options` are those of `json.dumps`."""
    return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, list | tuple) else value
