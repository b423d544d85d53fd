"""Trials that exist as a graph only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.plan.studies import HERE, STUDY, phantom_cases
from xferlab.plan.expand import expand
from xferlab.plan.spec import TrialSpec
from xferlab.study.load import load


@cache
def planned() -> TrialSpec:
    """A trial of a real plan, whose identity the others have."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "study.yaml"
        path.write_text(STUDY)
        return expand(load(path, environ={}), phantom_cases, HERE).trials[0]


def trial(
    name: str,
    *,
    parents: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> TrialSpec:
    identity = planned().identity
    return TrialSpec(
        trial_id=name,
        name=f"a/{name}/r01",
        arms=("a",),
        stage=name,
        repetition=1,
        max_epochs=9,
        identity=identity.model_copy(
            update={"execution": identity.execution.model_copy(update={"device": device})}
        ),
        section="s",
        selection="d",
        parents=tuple(parents),
        settings=settings or {},
    )
