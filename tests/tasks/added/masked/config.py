"""Masked: which class an image has, as `labelled`, seen through the masks that another stage predicts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from xferlab.tasks.images.sections import Masks
from xferlab.tasks.labelled.config import TASK as LABELLED

from xferlab.tasks.task import Finding, StageView


def check(stage: StageView) -> Iterator[Finding]:
    """Yields that a stage takes no masks."""
    if stage.masks is None:
        path = ("stages", stage.name, "masks")
        yield Finding(
            path, f"stage {stage.name!r} sees images through masks only; set masks: {{from: STAGE}}"
        )


TASK = replace(
    LABELLED, name="masked", masks=Masks, check=check, learner="xferlab.tasks.masked.learner:MaskedLearner"
)
