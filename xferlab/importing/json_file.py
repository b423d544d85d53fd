"""JSON files that describe a data set."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from xferlab.data.memo import Stamp, stamp_of
from xferlab.errors import DataError, pointer_hint


def read_json(path: Path) -> Any:
    """Returns what a JSON file holds; NaN and infinite numbers, which Python writes, are None.

    Raises:
        DataError: It cannot be read, or is no JSON.
    """
    try:
        return _parsed(path, stamp_of(path.stat()))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError.at(path, f"cannot be read: {getattr(error, 'strerror', None) or error}.") from error


@lru_cache(maxsize=1)  # a layout is recognised and read by one file, which may be large
def _parsed(path: Path, stamp: Stamp) -> Any:
    text = path.read_text(encoding="utf-8-sig")
    try:
        return json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as error:
        hint = pointer_hint(text[:64].encode())
        raise DataError.at(path, f"is no JSON: {error}.{hint}") from error


def json_in(path: Path) -> Any:
    """Returns what a file with the ending `.json` holds; None of anything else.

    Raises:
        DataError: It is called so, and cannot be read, or is no JSON.
    """
    return read_json(path) if path.suffix.lower() == ".json" and path.is_file() else None


def has_fields(content: object, *names: str) -> bool:
    """Returns whether what a file holds is an object with these fields."""
    return isinstance(content, dict) and all(name in content for name in names)
