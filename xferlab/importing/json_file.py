"""JSON files that describe a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from xferlab.errors import DataError, pointer_hint


def read_json(path: Path) -> Any:
    """Returns what a JSON file holds.

    Raises:
        DataError: It cannot be read, or is no JSON.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError.at(path, f"cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = pointer_hint(text[:64].encode())
        raise DataError.at(path, f"is no JSON: {error}.{hint}") from error


def has_fields(content: object, *names: str) -> bool:
    """Returns whether what a file holds is an object with these fields."""
    return isinstance(content, dict) and all(name in content for name in names)
