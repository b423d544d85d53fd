"""Procedural brain MRI and chest X-rays: data that is always available and shows no real person.

A phantom is a pure function of its arguments. It is drawn in normalised coordinates, so that it is the same
picture at every size.
"""

from xferlab.phantoms.brain import SLICES_PER_PATIENT, brain_mri, brain_patient
from xferlab.phantoms.chest import PATHOLOGIES, chest_xray
from xferlab.phantoms.phantom import (
    BRAIN_LABELS,
    CHEST_LABELS,
    PHANTOMS_VERSION,
    Phantom,
    chest_mask,
)

__all__ = [
    "BRAIN_LABELS",
    "CHEST_LABELS",
    "PATHOLOGIES",
    "PHANTOMS_VERSION",
    "SLICES_PER_PATIENT",
    "Phantom",
    "brain_mri",
    "brain_patient",
    "chest_mask",
    "chest_xray",
]
