"""The maps of an ensemble of segmentations: their scale, and where they are empty."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from xferlab.tasks.segmentation.agreement import with_agreement
from xferlab.training.learner import Presented


def map_of(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize(("is_exclusive", "even"), [(True, 1 / 3), (False, 0.5)])
def test_maps_go_to_the_largest_value_and_end_where_the_networks_saw_nothing(
    is_exclusive: bool, even: float
) -> None:
    """Two networks of two structures: sure of the first column, without an idea of the second, at odds."""
    sure, idea = np.zeros((2, 2)), np.full((2, 2), even)
    left, right = np.array([[1.0, 1.0], [0.0, 0.0]]), np.array([[0.0, 0.0], [1.0, 1.0]])
    of_each = [np.stack([sure, idea, opinion], axis=-1) for opinion in (left, right)]
    predictions = np.stack(of_each).astype(np.float32)
    mask = np.zeros((3, 3), bool)
    mask[:2, 1] = True
    shown = with_agreement(
        Presented({"mask": b"x"}, {"width": 3}),
        {"heart": mask, "lung": np.zeros((3, 3), bool)},
        predictions,
        height=2,
        is_exclusive=is_exclusive,
    )
    entropy, disagreement = (map_of(shown.files[name]) for name in ("entropy_map", "disagreement_map"))
    assert entropy.dtype == disagreement.dtype == np.uint16
    assert entropy[:2, :2].tolist() == [[0, 65535]] * 2
    assert disagreement[:2].tolist() == [[0, 0, 65535]] * 2
    assert not entropy[2].any()
    assert not disagreement[2].any()
    assert shown.columns["heart_probability"] == pytest.approx(even, abs=1e-6)
    assert shown.columns["heart_entropy"] == pytest.approx(np.log(3 if is_exclusive else 4), abs=1e-6)
    assert (shown.columns["lung_entropy"], shown.columns["width"], shown.files["mask"]) == ("", 3, b"x")
