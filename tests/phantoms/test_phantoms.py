"""What phantoms promise: pure functions of their arguments, and plausible anatomy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from xferlab.phantoms import (
    BRAIN_LABELS,
    CHEST_LABELS,
    PATHOLOGIES,
    SLICES_PER_PATIENT,
    Phantom,
    brain_mri,
    brain_patient,
    chest_mask,
    chest_xray,
)

Draw = Callable[..., Phantom]


def chest(pathology: str) -> Draw:
    return lambda **arguments: chest_xray(pathology=pathology, **arguments)


KINDS: dict[str, Draw] = {"brain": brain_mri, **{pathology: chest(pathology) for pathology in PATHOLOGIES}}


@pytest.fixture(params=KINDS)
def draw(request: pytest.FixtureRequest) -> Draw:
    return KINDS[request.param]


def test_the_order_of_drawing_does_not_matter(draw: Draw) -> None:
    first = draw(seed=1, index=5, size_px=64)
    draw(seed=1, index=3, size_px=64)
    second = draw(seed=1, index=5, size_px=64)
    assert first.image.tobytes() == second.image.tobytes()
    assert first.labels.tobytes() == second.labels.tobytes()


def test_every_index_seed_and_pathology_is_another_picture() -> None:
    pictures = [
        draw(seed=seed, index=index, size_px=32).image.tobytes()
        for draw in KINDS.values()
        for seed in (0, 1)
        for index in range(4)
    ]
    assert len(set(pictures)) == len(pictures)


@pytest.mark.parametrize("size_px", [16, 50, 64, 96])
@pytest.mark.parametrize(("kind", "channels"), [("brain", (3,)), ("normal", ())])
def test_shapes_dtypes_and_values(kind: str, channels: tuple[int, ...], size_px: int) -> None:
    phantom = KINDS[kind](seed=0, index=1, size_px=size_px)
    assert phantom.image.shape == (size_px, size_px, *channels)
    assert phantom.labels.shape == (size_px, size_px)
    assert phantom.image.dtype == phantom.labels.dtype == np.uint8
    accepted = BRAIN_LABELS.values() if kind == "brain" else range(sum(CHEST_LABELS.values()) + 1)
    assert set(np.unique(phantom.labels).tolist()) <= set(accepted)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("kind", ["brain", "covid19"])
def test_the_picture_is_the_same_at_every_size(kind: str, index: int) -> None:
    large, small = (KINDS[kind](seed=4, index=index, size_px=size_px) for size_px in (256, 64))
    averaged = large.image.reshape(64, 4, 64, 4, -1).mean((1, 3))
    assert np.corrcoef(averaged.ravel(), small.image.ravel())[0, 1] > 0.95
    shrunk = (large.labels > 0).reshape(64, 4, 64, 4).mean((1, 3)) > 0.5
    common = np.sum(shrunk & (small.labels > 0))
    assert 2 * common >= 0.95 * (shrunk.sum() + np.sum(small.labels > 0))


FLAIR = 1


def slices_with_lesion(count, *, size_px=64):
    slices = (brain_mri(seed=2, index=index, size_px=size_px) for index in range(count))
    return [phantom for phantom in slices if phantom.labels.any()]


def test_some_slices_have_a_lesion_and_some_have_none():
    found = len(slices_with_lesion(16, size_px=32))
    assert 3 <= found <= 14


def test_a_lesion_is_one_component_within_the_head():
    for phantom in slices_with_lesion(8):
        lesion = phantom.labels > 0
        head = ndimage.binary_fill_holes(phantom.image[..., 0] > 25)
        assert ndimage.label(lesion)[1] == 1
        assert np.mean(head[lesion]) == 1
        assert lesion.mean() < 0.2


def test_a_lesion_is_bright_on_flair():
    for phantom in slices_with_lesion(8):
        flair, lesion = phantom.image[..., FLAIR].astype(float), phantom.labels > 0
        around = ndimage.binary_dilation(lesion, iterations=6) & ~ndimage.binary_dilation(
            lesion, iterations=2
        )
        assert flair[lesion].mean() > 1.3 * np.median(flair[around])


def test_the_lesion_is_not_the_only_bright_thing():
    for phantom in slices_with_lesion(8):
        flair, lesion = phantom.image[..., FLAIR], phantom.labels > 0
        bright = flair > np.median(flair[lesion])
        assert np.mean(lesion[bright]) < 0.9


def test_slices_of_a_patient_share_the_head():
    def height(index):
        rows = np.flatnonzero((brain_mri(seed=7, index=index, size_px=64).image[..., 0] > 40).any(1))
        return rows.max() - rows.min()

    assert [brain_patient(index) for index in range(9)] == [0] * 4 + [1] * 4 + [2]
    lowest = [height(patient * SLICES_PER_PATIENT) for patient in range(3)]
    highest = [height((patient + 1) * SLICES_PER_PATIENT - 1) for patient in range(3)]
    assert all(top < base for top, base in zip(highest, lowest, strict=True))


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
