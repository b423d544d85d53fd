import hashlib

import numpy as np
import pytest
from scipy import ndimage

from xferlab.phantoms import CHEST_LABELS, PATHOLOGIES, chest_mask, chest_xray

INDICES = range(4)


def lungs_of(labels):
    return chest_mask(labels, "right_lung"), chest_mask(labels, "left_lung")


def dice(first, second):
    return 2 * np.sum(first & second) / (first.sum() + second.sum())


@pytest.mark.parametrize("pathology", PATHOLOGIES)
def test_same_arguments_give_the_same_bytes(pathology):
    first = chest_xray(seed=1, index=2, pathology=pathology, size_px=64)
    second = chest_xray(seed=1, index=2, pathology=pathology, size_px=64)
    assert first.image.tobytes() == second.image.tobytes()
    assert first.labels.tobytes() == second.labels.tobytes()


def test_order_of_drawing_does_not_matter():
    alone = chest_xray(seed=1, index=5, pathology="covid19", size_px=32).image
    for index in (3, 4):
        chest_xray(seed=1, index=index, pathology="normal", size_px=32)
    np.testing.assert_array_equal(chest_xray(seed=1, index=5, pathology="covid19", size_px=32).image, alone)


def test_every_index_seed_and_pathology_is_another_picture():
    pictures = [
        chest_xray(seed=seed, index=index, pathology=pathology, size_px=32).image.tobytes()
        for seed in (0, 1)
        for index in range(2)
        for pathology in PATHOLOGIES
    ]
    assert len({hashlib.sha256(picture).digest() for picture in pictures}) == len(pictures)


@pytest.mark.parametrize("size_px", [16, 50, 64, 96])
def test_shapes_and_dtypes(size_px):
    phantom = chest_xray(seed=0, index=0, pathology="normal", size_px=size_px)
    assert phantom.image.shape == phantom.labels.shape == (size_px, size_px)
    assert phantom.image.dtype == phantom.labels.dtype == np.uint8
    assert phantom.labels.max() <= sum(CHEST_LABELS.values())


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


@pytest.mark.parametrize("index", INDICES)
def test_the_picture_is_the_same_at_every_size(index):
    large = chest_xray(seed=4, index=index, pathology="covid19", size_px=256)
    small = chest_xray(seed=4, index=index, pathology="covid19", size_px=64)
    shrunk = chest_mask(large.labels).reshape(64, 4, 64, 4).mean((1, 3)) > 0.5
    assert dice(shrunk, chest_mask(small.labels)) > 0.95
    averaged = large.image.reshape(64, 4, 64, 4).mean((1, 3))
    assert np.corrcoef(averaged.ravel(), small.image.ravel())[0, 1] > 0.95


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
