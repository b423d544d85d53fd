"""NIfTI: real files written by nibabel, shown as radiologists see them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.refusals import problems_of
from xferlab.data.decode import read_image, read_labels
from xferlab.data.nifti import check_slice
from xferlab.errors import DataError

SIGNS = {"R": 1, "L": -1, "A": 1, "P": -1, "S": 1, "I": -1}


def affine(axes: str, steps: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    """Returns the affine of a file whose axes lead to these sides."""
    matrix = np.eye(4)
    matrix[:3, :3] = 0
    for column, (side, step) in enumerate(zip(axes, steps, strict=True)):
        matrix["RLAPSI".index(side) // 2, column] = SIGNS[side] * step
    return matrix


def write(path: Path, values: np.ndarray, axes: str = "LPS", **more: Any) -> Path:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(values.dtype)
    header.set_xyzt_units(more.get("unit", "mm"))
    kind = more.get("kind", nibabel.Nifti1Image)
    image = kind(
        values, affine(axes, more.get("steps", (1, 1, 1))), header if kind is nibabel.Nifti1Image else None
    )
    if "slope" in more:
        image.header.set_slope_inter(more["slope"], more["intercept"])
    nibabel.save(image, path)
    return path


def body(axes: str) -> np.ndarray:
    """A body of 4 x 5 x 6 voxels (left to right, back to front, foot to head) as a file of these axes has it.

    A voxel is 100 x + 10 y + z: x counts towards the right, y towards the front, z towards the head.
    """
    x, y, z = np.meshgrid(range(4), range(5), range(6), indexing="ij")
    world = nibabel.Nifti1Image((100 * x + 10 * y + z).astype(np.int16), np.eye(4))
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(world.affine), nibabel.orientations.axcodes2ornt(tuple(axes))
    )
    return np.asarray(world.as_reoriented(turn).dataobj)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "ASR", "SPL", "PIR", "RSA"])
@pytest.mark.parametrize(
    ("side", "expected"),
    [
        # The first row and the first column, in hundreds of x, tens of y and ones of z.
        ("IS", ([342, 242, 142, 42], [342, 332, 322, 312, 302])),  # right to left, front to back
        ("PA", ([325, 225, 125, 25], [325, 324, 323, 322, 321, 320])),  # right to left, head to foot
        ("LR", ([145, 135, 125, 115, 105], [145, 144, 143, 142, 141, 140])),  # front to back, head to foot
    ],
)
def test_every_file_of_a_slice_is_shown_alike(
    tmp_path: Path, axes: str, side: str, expected: tuple[list[int], list[int]]
) -> None:
    through = next(number for number, letter in enumerate(axes) if letter in side)
    middle = {"IS": 2, "PA": 2, "LR": 1}[side]
    whole = body(axes)
    number = middle if axes[through] in "RAS" else whole.shape[through] - 1 - middle
    values = whole.take([number], axis=through)
    labels = read_labels(write(tmp_path / "a.nii.gz", values, axes))
    assert (labels.values[0].tolist(), labels.values[:, 0].tolist()) == expected
    assert labels.axes == axes


def test_two_dimensions_and_the_second_version_are_read(tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.uint8).reshape(4, 3)  # 4 columns of 3 rows
    flat = write(tmp_path / "a.nii", values)
    second = write(tmp_path / "b.nii", values[..., None], kind=nibabel.Nifti2Image)
    for path in (flat, second):
        assert read_image(path).pixels.tolist() == values.T.tolist()


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1.0), ("micron", 0.001), ("meter", 1000.0)])
def test_spacing_is_that_of_rows_and_columns(tmp_path: Path, unit: str, mm: float) -> None:
    path = write(tmp_path / "a.nii", np.zeros((4, 3, 1), np.uint8), "PRS", steps=(0.5, 2, 9), unit=unit)
    picture = read_image(path)
    assert picture.pixels.shape == (4, 3)  # rows lead to posterior, which is the first axis of the file
    assert picture.spacing_mm == pytest.approx((0.5 * mm, 2 * mm))


def test_spacing_is_that_of_the_affine(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 3, 1), np.uint8), np.eye(4))
    image.header.set_sform(np.diag([-0.5, -0.7, 3, 1]), code=1)
    image.header.set_qform(None, code=0)
    image.header["pixdim"][1:4], image.header["vox_offset"] = 1, 352
    path = tmp_path / "a.nii"
    path.write_bytes(image.header.binaryblock + bytes(4 + 12))
    assert nibabel.load(path).header.get_zooms() == (1, 1, 1)
    assert read_image(path).spacing_mm == pytest.approx((0.7, 0.5))


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32])
def test_labels_that_nibabel_scaled_are_read_as_labels(tmp_path: Path, kind: type) -> None:
    mask = np.array([[0, 1, 2], [2, 0, 3]], float)[..., None]
    image = nibabel.Nifti1Image(np.zeros(mask.shape, kind), np.diag([-1, -1, 1, 1]))
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(mask, image.affine, image.header), path)
    assert nibabel.load(path).dataobj.slope != 1
    assert (read_labels(path).values == mask[..., 0].T).all()
    probabilities = np.linspace(0, 1, 6).reshape(2, 3, 1)
    nibabel.save(nibabel.Nifti1Image(probabilities, image.affine, image.header), path)
    problems_of(DataError, read_labels, path, match="no whole numbers.*with a slope of .*integer type")


def test_grey_levels_are_scaled_and_stretched(tmp_path: Path) -> None:
    values = np.linspace(-1000, 1000, 400).reshape(20, 20, 1)
    whole = read_image(write(tmp_path / "a.nii", values.astype(np.float32)), own_depth=True)
    assert (whole.pixels.min(), whole.pixels.max()) == (0, 255)
    assert whole.levels is not None
    assert np.allclose(whole.levels.values, values[..., 0].T, atol=1e-3)
    scaled = write(tmp_path / "b.nii", np.full((2, 2, 1), 7, np.int16), slope=2.0, intercept=-1.0)
    assert (read_labels(scaled).values == 13).all()


def test_labels_may_be_stored_as_floating_point_numbers(tmp_path: Path) -> None:
    values = np.array([[0, 1], [2, 300]], np.float32)[..., None]
    assert read_labels(write(tmp_path / "a.nii", values)).values.tolist() == [[0, 2], [1, 300]]
    path = write(tmp_path / "b.nii", values / 3)
    problems_of(DataError, read_labels, path, match="has values that are no whole numbers")


def test_a_header_without_orientation_is_remarked_on(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 3, 1), np.uint8), None)
    nibabel.save(image, tmp_path / "a.nii")
    (remark,) = read_image(tmp_path / "a.nii").remarks
    assert remark.startswith("its header gives no orientation")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((4, 3, 2), np.uint8), "is a volume of 4x3x2; a case is one slice"),
        (np.zeros((4, 3, 1, 5), np.uint8), "holds 5 images; a case is one slice"),
        (np.full((4, 3), np.nan, np.float32), "has values that are no numbers"),
        (np.zeros((4, 3), np.complex64), "has values of type complex64"),
    ],
)
def test_what_is_no_grey_slice_is_refused(tmp_path: Path, values: np.ndarray, message: str) -> None:
    problems_of(DataError, read_image, write(tmp_path / "a.nii.gz", values), match=message)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_damaged_files_are_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, np.random.default_rng(0).integers(0, 255, (40, 30, 1)).astype(np.uint8))
    whole = path.read_bytes()
    for length in (0, 1, 100, 400, len(whole) - 9):
        path.write_bytes(whole[:length])
        problems_of(DataError, read_image, path)


def test_headers_alone_tell_slices_from_volumes(tmp_path: Path) -> None:
    check_slice(write(tmp_path / "a.nii.gz", np.zeros((4, 3, 1), np.uint8)))
    path = write(tmp_path / "b.nii.gz", np.zeros((4, 3, 2), np.uint8))
    problems_of(DataError, check_slice, path, match="is a volume of 4x3x2")


def test_without_nibabel_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.nii", np.zeros((4, 3), np.uint8))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    problems_of(DataError, read_image, path, match=r"`pip install 'xferlab\[nifti\]'` can read")
