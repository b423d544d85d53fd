"""Trials that exist as a graph only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.specs import spec
from xferlab.plan.spec import TrialSpec


def trial(name: str, *, parents: Sequence[str] = (), settings: Mapping[str, Any] | None = None) -> TrialSpec:
    return spec(name, name=f"a/{name}/r01", arms=("a",), parents=tuple(parents), settings=settings or {})
