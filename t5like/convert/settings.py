"""A Hugging Face config.json, read strictly: what is needed must be there, and what we cannot do must be off.

transformers keeps defaults out of the file or in it as it pleases, so every `get` names its own. An option that would
change the numbers and that our models lack is refused by name, never passed over.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from t5like.errors import UserError

ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
}
ACTIVATIONS |= {"swish": "silu", "gelu_fast": "gelu_tanh"}
"""transformers' names of activations -> ours."""
THEIR_ACTIVATION = {"relu": "relu", "gelu": "gelu", "gelu_tanh": "gelu_new", "silu": "silu"}


class Settings:
    """The fields of a config.json."""

    def __init__(self, fields: Mapping[str, Any], file: str):
        self.fields, self.file = dict(fields), file

    def get(self, name: str, default: Any) -> Any:
        """A field's value, or the default where it is missing or null; of the default's type.

        Raises:
          UserError: a value of another type.
        """
        value = self.fields.get(name)
        if value is None:
            return default
        wanted = (int, float) if isinstance(default, float) else type(default)
        if default is not None and (
            not isinstance(value, wanted) or isinstance(value, bool) != isinstance(default, bool)
        ):
            raise UserError(f"{self.file}: {name}={value!r} must be of type {type(default).__name__}.")
        return value

    def size(self, name: str, default: int | None = None) -> int:
        """A whole number above zero.

        Raises:
          UserError: it is missing and has no default, or is no such number.
        """
        value = self.fields.get(name)
        value = default if value is None else value
        if value is None:
            raise UserError(f"{self.file} has no {name!r}, which says how large the model is.")
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise UserError(f"{self.file}: {name}={value!r} must be a whole number above 0.")
        return value

    def require(self, name: str, *allowed: Any) -> None:
        """Raises `UserError` if the field is there with another value than the allowed, which are all we can do."""
        value = self.fields.get(name)
        if value is not None and value not in allowed:
            raise UserError(
                f"{self.file}: {name}={value!r} is not supported, only {' or '.join(map(repr, allowed))}: "
                "the numbers would not be the original's."
            )

    def activation(self, name: str, default: str) -> Any:
        """Our name of the activation that a field names.

        Raises:
          UserError: one that we do not have.
        """
        self.require(name, *ACTIVATIONS)
        return ACTIVATIONS[self.get(name, default)]

    @property
    def dtype(self) -> Any:
        """The type to compute in: float32 for what was saved so, or else bfloat16."""
        saved = self.fields.get("dtype") or self.fields.get("torch_dtype") or "float32"
        return "float32" if saved == "float32" else "bfloat16"

    @property
    def architecture(self) -> str:
        """The first class that the folder was saved from, or nothing."""
        named = self.fields.get("architectures") or [""]
        return str(named[0])

    @property
    def labels(self) -> int:
        """The number of labels, as `num_labels` or `id2label` say it; transformers' default is 2."""
        names = self.fields.get("id2label")
        return len(names) if isinstance(names, dict) and names else self.size("num_labels", 2)


def read_settings(folder: pathlib.Path) -> Settings:
    """The config.json of a folder.

    Raises:
      UserError: there is none, or it is not a JSON object.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise UserError(f"{folder} has no config.json: a Hugging Face folder has one beside its weights.")
    try:
        fields = json.loads(file.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{file} is not valid JSON: {error}.") from None
    if not isinstance(fields, dict):
        raise UserError(f"{file} must hold a JSON object.")
    return Settings(fields, str(file))
