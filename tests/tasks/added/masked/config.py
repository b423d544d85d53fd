"""Masked: which class an image has, as `labelled`, seen through the masks that another stage predicts."""

from __future__ import annotations

from dataclasses import replace

from xferlab.tasks.images.sections import Masks
from xferlab.tasks.labelled.config import TASK as LABELLED

TASK = replace(LABELLED, name="masked", masks=Masks, learner="xferlab.tasks.masked.learner:MaskedLearner")
