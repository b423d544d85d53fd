"""Trials that exist as a graph only."""

from __future__ import annotations

from collections.abc import Sequence

from tests.identities import identity, trial_spec
from xferlab.plan.spec import Input, Settings, TrialSpec


def trial(
    name: str,
    *,
    parents: Sequence[str] = (),
    settings: Settings | None = None,
    device: str = "cpu",
) -> TrialSpec:
    return trial_spec(
        name,
        name=f"a/{name}/r01",
        arms=("a",),
        stage=name,
        max_epochs=20,
        identity=identity(device=device),
        inputs=(Input("starts_from", tuple(parents)),) if parents else (),
        settings=settings or Settings(),
    )
