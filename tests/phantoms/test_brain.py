import numpy as np
from scipy import ndimage

from xferlab.phantoms import SLICES_PER_PATIENT, brain_mri, brain_patient

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
