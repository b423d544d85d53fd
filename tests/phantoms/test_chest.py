import numpy as np
import pytest
from scipy import ndimage

from xferlab.phantoms import PATHOLOGIES, chest_mask, chest_xray

INDICES = range(4)


def lungs_of(labels):
    return chest_mask(labels, "right_lung"), chest_mask(labels, "left_lung")


@pytest.mark.parametrize("index", INDICES)
def test_lungs_are_disjoint_whole_and_of_plausible_area(index):
    labels = chest_xray(seed=3, index=index, pathology="pathological", size_px=96).labels
    right, left = lungs_of(labels)
    assert not np.any(right & left)
    for lung in (right, left):
        assert ndimage.label(lung)[1] == 1
        assert 0.06 < lung.mean() < 0.32


@pytest.mark.parametrize("index", INDICES)
def test_the_patients_right_is_on_the_left_of_the_picture(index):
    labels = chest_xray(seed=3, index=index, pathology="normal", size_px=64).labels
    right, left = lungs_of(labels)
    heart = chest_mask(labels, "heart")
    column = lambda mask: ndimage.center_of_mass(mask)[1]  # noqa: E731
    assert column(right) < column(heart) < column(left)
    assert np.sum(heart & left) > np.sum(heart & right), "the heart lies more over the left lung"


@pytest.mark.parametrize("index", INDICES)
def test_lungs_are_complete_behind_heart_and_clavicles(index):
    labels = chest_xray(seed=3, index=index, pathology="normal", size_px=96).labels
    lung = chest_mask(labels)
    for name in ("heart", "clavicles"):
        assert np.any(chest_mask(labels, name) & lung)
    np.testing.assert_array_equal(ndimage.binary_fill_holes(lung), lung)


@pytest.mark.parametrize("pathology", ["covid19", "pathological"])
def test_disease_brightens_the_lungs_and_leaves_the_outlines(pathology):
    for index in INDICES:
        clear = chest_xray(seed=5, index=index, pathology="normal", size_px=64)
        ill = chest_xray(seed=5, index=index, pathology=pathology, size_px=64)
        lung = chest_mask(clear.labels)
        assert ill.image[lung].mean() > clear.image[lung].mean() + 2
        np.testing.assert_array_equal(ill.labels, clear.labels)


def test_covid19_is_bilateral():
    for index in INDICES:
        clear = chest_xray(seed=6, index=index, pathology="normal", size_px=64)
        ill = chest_xray(seed=6, index=index, pathology="covid19", size_px=64)
        for lung in lungs_of(clear.labels):
            assert ill.image[lung].mean() > clear.image[lung].mean()


def test_no_threshold_finds_the_lungs():
    scores = np.zeros((6, 256))
    for index in range(6):
        phantom = chest_xray(seed=8, index=index, pathology=PATHOLOGIES[index % 3], size_px=64)
        lung = chest_mask(phantom.labels)
        darker = np.cumsum(np.bincount(phantom.image.ravel(), minlength=256))
        hits = np.cumsum(np.bincount(phantom.image[lung], minlength=256))
        scores[index] = 2 * hits / (darker + lung.sum())
    assert scores.mean(0).max() < 0.7
