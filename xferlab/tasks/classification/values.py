"""What is measured of one image: how its classes are told, where the network looks, and its markers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from xferlab.metrics.markers import markers, patch_markers
from xferlab.tasks.classification.config import COVERED, HEAT_INSIDE, TASK
from xferlab.tasks.classification.heat import share_inside
from xferlab.tasks.classification.measures import Measures
from xferlab.tasks.classification.prediction import Prediction
from xferlab.tasks.classification.regions import Region
from xferlab.training.examples import ImageExamples


def values_of(
    examples: ImageExamples,
    row: int,
    case: Prediction,
    *,
    measures: Measures,
    thresholds: npt.NDArray[np.floating[Any]],
    region: Region,
) -> Mapping[str, float]:
    """Returns the values that the task's metrics need, by name.

    Args:
        examples: The cases.
        row: Of the image.
        case: What is predicted of it.
        measures: How its classes are judged.
        thresholds: As of `Measures.of_case`.
        region: Where the network is to look.
    """
    (truth,) = measures.truth(examples.labels[row : row + 1], len(case.probability))
    values = {
        **measures.of_case(case.probability, truth, examples.classes, thresholds, voted=case.voted),
        HEAT_INSIDE: share_inside(case.heat, region.mask(examples, row)),
        COVERED: case.covered,
        **_markers(examples, row, region),
        **patch_markers(case.patches, int(truth.argmax())),
    }
    return {name: values[name] for name in _measured(examples.classes)}


@cache
def _measured(classes: tuple[str, ...]) -> tuple[str, ...]:
    return TASK.measured(classes)


def _markers(examples: ImageExamples, row: int, region: Region) -> Mapping[str, float]:
    """Markers at the size at which the masks were predicted: larger ones would have steps as outlines."""
    image = examples.case(row)[0][0]
    if examples.masks is None:
        return markers(image, {}, None)
    planes = examples.masks.of(row) > 0
    size = planes.shape[2], planes.shape[1]
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    inside = np.asarray(planes[region.places(examples)].any(axis=0))
    return markers(small, dict(zip(examples.masks.structures, planes, strict=True)), inside)
