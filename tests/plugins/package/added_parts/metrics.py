"""A metric of one image."""

from functools import partial

from xferlab.metrics.image import ScoredImage
from xferlab.metrics.metric import ImageMetric


@partial(
    ImageMetric,
    name="EXTENT",
    label="Extent",
    better=None,
    source="-",
    prominence="headline",
    definition="Share of the pixels that are predicted.",
)
def extent(image: ScoredImage) -> float:
    """Returns the share of the pixels that are predicted."""
    return float(image.prediction.mean())
