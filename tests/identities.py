"""Identities and specs of trials that are never trained."""

from __future__ import annotations

from typing import Any

from xferlab.plan.spec import TrialSpec
from xferlab.tasks import registry
from xferlab.tasks.config import TrialIdentity


def identity(
    seed: int = 1, *, device: str = "cpu", parent: dict[str, Any] | None = None, **training: Any
) -> TrialIdentity:
    """Returns an identity of the default task; `training` holds fields of its training."""
    return registry.identity_of(
        {
            "task": registry.DEFAULT,
            "version": 1,
            "model": {"name": "unet", "image_size": 32},
            "training": training,
            "execution": {"device": device, "precision": "float32", "compile": False},
            "selection": "2" * 64,
            "seed": seed,
            "parent": parent,
        }
    )


def trial_spec(trial_id: str, **fields: Any) -> TrialSpec:
    """Returns a spec of an arm `baseline` with one stage, other fields as given."""
    known = {
        "name": "baseline/general/r01",
        "arms": ("baseline",),
        "stage": "general",
        "repetition": 1,
        "max_epochs": 200,
        "identity": identity(),
        "section": "cxr",
        "selection": "2" * 64,
    }
    return TrialSpec(trial_id=trial_id, **{**known, **fields})
