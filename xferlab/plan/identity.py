"""Identities: SHA-256 of canonical JSON of all that can change a result, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any

ID_LENGTH = 16
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)


def canonical_json(value: Any) -> str:
    """Returns the one JSON text of a value: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: The value holds NaN or infinity.
    """
    return _CANONICAL.encode(value)


def sha256_of(value: Any) -> str:
    """Returns the SHA-256 of the canonical JSON of a value, hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def short_id(value: Any) -> str:
    """Returns the first 16 hex digits of `sha256_of(value)`: a trial's or an evaluation's id."""
    return sha256_of(value)[:ID_LENGTH]


def encoded(fields: Mapping[str, Any]) -> dict[str, str]:
    """Returns the canonical JSON of each of some fields, with its name."""
    return {name: f"{canonical_json(name)}:{canonical_json(value)}" for name, value in fields.items()}


def joined(fields: Mapping[str, str]) -> bytes:
    """Returns `canonical_json(value)`, given `encoded(value)`: fields that texts share are encoded once."""
    return f"{{{','.join([fields[name] for name in sorted(fields)])}}}".encode()


def id_of_encoded(fields: Mapping[str, str]) -> str:
    """Returns `short_id(value)`, given `encoded(value)`."""
    return hashlib.sha256(joined(fields)).hexdigest()[:ID_LENGTH]


def joint_digest(digests: Mapping[str, str]) -> str | None:
    """Returns the digest of several things by name: of a single one its own, of none null."""
    return sha256_of(dict(digests)) if len(digests) > 1 else next(iter(digests.values()), None)


@cache
def seed_for(study_seed: int, **coordinates: str | int) -> int:
    """Returns a 63-bit seed that is a pure function of the study's seed and named coordinates.

    Example:
        >>> seed_for(2021, stage="general", repetition=1) == seed_for(2021, repetition=1, stage="general")
        True
    """
    return int(sha256_of({"study_seed": study_seed, **coordinates})[:16], 16) >> 1


def json_with_checksum(body: Mapping[str, Any]) -> bytes:
    """Returns the canonical JSON of the body with `sha256`, the digest of that of the body alone."""
    fields = encoded(body)
    return joined({**fields, **encoded({"sha256": hashlib.sha256(joined(fields)).hexdigest()})})


def flattened(value: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of nested mappings by dotted path."""
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    parts = (flattened(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in value.items())
    return {path: leaf for part in parts for path, leaf in part.items()}


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns the dotted paths in which two nested mappings differ."""
    old, new = flattened(before), flattened(now)
    return [path for path in {**old, **new} if old.get(path) != new.get(path)]
