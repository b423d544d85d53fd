"""Trials as a plan hands them over, without planning a study."""

from __future__ import annotations

from typing import Any

from xferlab.plan.spec import TrialSpec
from xferlab.tasks.config import Execution
from xferlab.tasks.segmentation.config import Identity, Learning, Network


def identity(*, device: str = "cpu", seed: int = 1, **training: Any) -> Identity:
    """Returns an identity of a small network; `training` changes fields of its training."""
    execution: dict[str, Any] = {"device": device, "precision": "float32", "compile": False, "threads": 1}
    return Identity(
        task="segmentation",
        version=1,
        model=Network(init_features=2, image_size=32),
        training=Learning(**training),
        execution=Execution(**execution),
        selection="2" * 64,
        seed=seed,
    )


def spec(trial_id: str = "0" * 16, **changes: Any) -> TrialSpec:
    """Returns a trial under an id; `changes` are fields of it."""
    fields = {
        "trial_id": trial_id,
        "name": f"baseline/{trial_id}/r01",
        "arms": ("baseline",),
        "stage": trial_id,
        "repetition": 1,
        "identity": identity(),
        "section": "cxr",
        "selection": "2" * 64,
        **changes,
    }
    return TrialSpec(**{"max_epochs": fields["identity"].training.max_epochs, **fields})
