"""Values of masks: which are labels of several structures, and which one structure with smooth edges."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from tests.importing.layouts import image, imported, is_accepted
from xferlab.importing.mask_values import values_of

ROWS, COLUMNS = np.mgrid[:128, :128]
DISTANCES = np.hypot(ROWS - 64, COLUMNS - 64)
DISC = np.where(DISTANCES < 40, 255, 0).astype(np.uint8)
CLASSES = np.kron(np.arange(1, 17, dtype=np.uint8).reshape(4, 4), np.ones((32, 32), np.uint8))
"""16 classes in areas."""


def levels(number: int) -> np.ndarray:
    """An antialiased disc with so many levels beside 0."""
    return (np.clip(np.round((40.5 - DISTANCES) * number), 0, number) * 255 / number).astype(np.uint8)


def with_void(classes: np.ndarray) -> np.ndarray:
    marked = classes.copy()
    marked[:4] = 255
    return marked


def as_jpeg(quality: int) -> np.ndarray:
    """What is left of a disc after JPEG, in a file without loss."""
    file = io.BytesIO()
    Image.fromarray(DISC).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(levels(4), id="antialiased"),
        pytest.param(np.asarray(Image.fromarray(DISC).resize((90, 90))), id="smaller"),
        pytest.param(np.asarray(Image.fromarray(DISC).resize((200, 200))), id="larger"),
        pytest.param(gaussian_filter(DISC.astype(float), 8).round().astype(np.uint8), id="blurred"),
        *(pytest.param(as_jpeg(quality), id=f"jpeg {quality}") for quality in (30, 75, 98)),
    ],
)
def test_smooth_edges_mark_one_structure(tmp_path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(tmp_path / "mask.png")
    assert values_of([tmp_path / "mask.png"]).threshold == values.max() // 2


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(DISC, id="one"),
        pytest.param(levels(2), id="one and another"),  # 127 may as well be what hides the structure
        pytest.param(with_void(CLASSES), id="classes and void"),
        pytest.param(with_void(CLASSES * 15), id="classes of all greys"),
        pytest.param(np.digitize(DISTANCES, [20, 40, 50]).astype(np.uint8) * 85, id="rings"),
    ],
)
def test_areas_of_several_values_mark_several_structures(tmp_path: Path, values: np.ndarray) -> None:
    Image.fromarray(values).save(tmp_path / "mask.png")
    assert values_of([tmp_path / "mask.png"]).threshold is None


def test_a_palette_has_no_smooth_edges(tmp_path: Path) -> None:
    Image.fromarray(levels(8), "L").convert("P").save(tmp_path / "mask.png")
    assert len(values_of([tmp_path / "mask.png"]).values) == 8
    assert values_of([tmp_path / "mask.png"]).threshold is None


Save = Callable[[Path], None]


def save_palette(path: Path) -> None:
    shown = Image.fromarray(with_void(CLASSES), "P")
    shown.putpalette([value for index in range(256) for value in (index, index * 7 % 256, 9)])
    shown.save(path.with_suffix(".png"))


def save_two(path: Path) -> None:
    Image.fromarray(np.where(ROWS < 9, 127, DISC).astype(np.uint8)).save(path.with_suffix(".png"))


def save_jpeg(path: Path) -> None:
    Image.fromarray(DISC).save(path.with_suffix(".jpg"), quality=98)


def save_one(path: Path) -> None:
    Image.fromarray(DISC).save(path.with_suffix(".png"))


@pytest.mark.parametrize(
    ("save", "name", "labels", "note"),
    [
        (
            save_palette,
            "",
            {f"structure_{value}": [value] for value in (*range(1, 17), 255)},
            "note: masks have several values, and each is a structure now: structure_1, structure_2, ",
        ),
        (
            save_two,
            "lung=",
            {"lung": [127, 255]},
            "note: the masks of lung have the values 127, 255, and all of them count as lung.",
        ),
        (
            save_jpeg,
            "",
            {"structure": {"above": 127}},
            "note: the masks of structure have smooth edges or are JPEG files, so all values above 127 count",
        ),
        (
            save_jpeg,
            "lung=",
            {"lung": {"above": 127}},
            "note: the masks of lung have smooth edges or are JPEG files, so all values above 127 count",
        ),
        (save_one, "lung=", {"lung": [255]}, ""),
    ],
)
def test_the_section_has_the_values_and_a_note_says_what_is_a_guess(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    save: Save,
    name: str,
    labels: dict[str, object],
    note: str,
) -> None:
    (tmp_path / "masks").mkdir()
    for number in range(6):
        image(tmp_path / "images" / f"{number}.png", number, size=128)
        save(tmp_path / "masks" / str(number))
    said, section = imported(capsys, tmp_path / "images", f"{name}{tmp_path / 'masks'}")
    assert section["labels"] == labels
    assert ("note: " in said) == bool(note)
    assert note in said
    assert is_accepted(section, tmp_path)
