"""Metrics of one segmented image.

To add a metric, write one function of a `ScoredImage` in the module it belongs to and one entry of
`catalogue.CATALOGUE` that names it. Nothing else lists metrics.
"""

from xferlab.metrics.catalogue import CATALOGUE, METRICS_VERSION, Metric
from xferlab.metrics.measuring import measure

__all__ = ["CATALOGUE", "METRICS_VERSION", "Metric", "measure"]
