"""JSON objects in files, as folders of Hugging Face and run directories keep them."""

import json
from collections.abc import Mapping
from typing import Any

from t5like.errors import UserError
from t5like.storage import Path


def json_object(file: Path) -> dict[str, Any]:
    """A file's JSON object, empty where there is no file.

    Raises:
      UserError: it holds something else, or cannot be read.
    """
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{file} is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} must hold a JSON object.")
    return content


def write_json(file: Path, content: Mapping[str, Any], indent: int | None = 2) -> None:
    """Writes a JSON object."""
    file.write_text(json.dumps(content, indent=indent, ensure_ascii=False) + "\n", "utf-8")
