"""Metrics of single images that only classification has."""

from __future__ import annotations

from xferlab.metrics.metric import Metric

HEAT_INSIDE = "HEAT_INSIDE"
CASE_METRICS: tuple[Metric, ...] = (
    Metric(
        name=HEAT_INSIDE,
        label="Heat inside",
        better=None,
        source="Selvaraju et al. 2017 (Grad-CAM); the share is ours",
        definition=(
            "Share of the heat map of the most probable class that lies inside of the masks that the stage "
            "takes."
        ),
        undefined="NaN without masks, and where nothing speaks for the class.",
    ),
)
