"""Trials that exist as a graph only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xferlab.plan.spec import TrialSpec


def trial(name: str, *, parents: Sequence[str] = (), settings: Mapping[str, Any] | None = None) -> TrialSpec:
    return TrialSpec(
        trial_id=name,
        name=f"a/{name}/r01",
        arms=("a",),
        stage=name,
        repetition=1,
        max_epochs=20,
        identity={},
        section="s",
        selection="d",
        parents=tuple(parents),
        settings=settings or {},
    )
