"""What mask values mean: the same in every file, and a remedy that works for values of no label."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.ndimage import binary_dilation

from tests.refusals import problems_of
from xferlab.data.decode import Labels, read_labels
from xferlab.data.sources.manifest.config import ManifestData
from xferlab.data.sources.manifest.labels import LabelMap
from xferlab.errors import DataError

BLACK_WHITE_RED = [0, 0, 0, 255, 255, 255, 255, 0, 0]


def disk(size: int = 40) -> np.ndarray:
    """A disk of ones on zeros."""
    rows, columns = np.mgrid[:size, :size] - size / 2
    return (rows**2 + columns**2 < (size / 4) ** 2).astype(np.uint8)


def target_of(labels: dict[str, Any], mask: Labels) -> np.ndarray:
    """The target of the structure that a section's labels name."""
    return label_map(labels).targets(mask, where="m.png")["lung"]


def label_map(labels: dict[str, Any]) -> LabelMap:
    (column,) = ManifestData(source="manifest", root="r", labels=labels).columns
    return LabelMap(column)


def refusal(structure: int, mask: Labels) -> str:
    """What is said of a mask whose structure has another value."""
    (problem,) = problems_of(DataError, target_of, {"lung": [structure]}, mask)
    assert problem.where == "m.png"
    return problem.what


def few_levels() -> np.ndarray:
    """A disk with smooth edges of four levels, as a mask of few bits."""
    doubled = np.asarray(Image.fromarray(disk() * 255).resize((80, 80), Image.Resampling.BILINEAR))
    levels = np.array([0, 64, 128, 255], np.uint8)[doubled // 64]
    assert set(np.unique(levels)) == {0, 64, 128, 255}
    return levels


def two_structures() -> np.ndarray:
    values = 255 * disk()
    values[15:25, 15:25], values[:8] = 127, 64  # inside, and elsewhere
    return values


def edge(width_px: int) -> np.ndarray:
    """Background and structure, with an edge of another value between them."""
    values = np.repeat(np.array([[0, 255]], np.uint8), 20, axis=1).repeat(40, axis=0)
    values[:, 20 : 20 + width_px] = 64
    return values


NAME_THEM = "Name them under `labels:`, as a structure's or as `ignore`."
EXAMPLE = "For example: `labels: {lung:"
SMOOTH = (
    "They look like JPEG compression or smooth resizing: export the mask again as PNG. Or take all values"
    " above a threshold: `labels: {lung: {above: 127}}`."
)
RANGE = "Labels are values from 1 to 65535: save the mask with 8 or 16 bits, unsigned."


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        (
            disk().astype(np.uint16) * 65_535,
            f"65535 (305 px) are in no label (accepted: 0, 255). {NAME_THEM} {EXAMPLE} [65535]}}`.",
        ),
        *[(disk().astype(np.int32) * value, RANGE) for value in (-1, 65_536, 2**31 - 1)],
        (few_levels(), SMOOTH),
        (disk(), f"{NAME_THEM} {EXAMPLE} [1]}}`."),
        (two_structures(), NAME_THEM),
        (edge(4), SMOOTH),
        (edge(5), NAME_THEM),
    ],
)
def test_values_of_no_label_have_a_remedy_that_fits(values: np.ndarray, remedy: str) -> None:
    assert refusal(255, Labels(values)).endswith(remedy)


@pytest.mark.parametrize("colours", [[0, 0, 0, 255, 255, 255], BLACK_WHITE_RED, [9, 9, 9, 0, 80, 0]])
def test_palette_masks_are_read_by_index_whatever_their_colours(tmp_path: Path, colours: list[int]) -> None:
    image = Image.fromarray(disk())
    image.putpalette(colours)
    image.save(tmp_path / "m.png")
    mask = read_labels(tmp_path / "m.png")
    assert mask.indexed
    assert (mask.values == disk()).all()
    assert (target_of({"lung": [1]}, mask) == 255 * disk()).all()
    what = refusal(255, mask)
    assert (
        "mask values 1 (305 px) are in no label (accepted: 0, 255). The mask has a palette: its val" in what
    )
    assert "indices" in what


def test_sixteen_bit_labels() -> None:
    mask = Labels(disk().astype(np.uint16) * 65_535)
    assert (target_of({"lung": [65_535]}, mask) == 255 * disk()).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_threshold_is_strict_and_leaves_no_value_unnamed(dtype: type) -> None:
    values = np.array([[0, 1, 126, 127, 128, 254, 255]], dtype)
    target = target_of({"lung": {"above": 127}}, Labels(values))
    assert target.tolist() == [[0, 0, 0, 0, 255, 255, 255]]
    target = target_of({"lung": {"above": 127}, "ignore": [126]}, Labels(values))
    assert target.tolist() == [[0, 0, 127, 0, 255, 255, 255]]


def test_threshold_of_values_beyond_all_labels() -> None:
    values = np.array([[-7, 0, 65_536, 2**31 - 1]], np.int32)
    assert target_of({"lung": {"above": 0}}, Labels(values)).tolist() == [[0, 0, 255, 255]]


@pytest.mark.parametrize("scale", [1, 257])
@pytest.mark.parametrize("smoothing", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
def test_smooth_edges_are_recognised_and_the_remedy_works(smoothing: Image.Resampling, scale: int) -> None:
    smooth = Image.fromarray(disk() * 255).resize((57, 57), smoothing)
    mask = Labels(np.asarray(smooth).astype(np.uint16) * scale if scale > 1 else np.asarray(smooth))
    what = refusal(255 * scale, mask)
    assert "They look like JPEG compression or smooth resizing: export the mask again as PNG." in what
    labels = yaml.safe_load(re.findall(r"`labels: (.*?)`", what)[0])
    assert labels == {"lung": {"above": 255 * scale // 2}}
    target = target_of(labels, mask)
    expected = np.asarray(Image.fromarray(disk() * 255).resize((57, 57), Image.Resampling.NEAREST))
    assert (target != expected).mean() < 0.03


def test_a_large_mask_is_refused_sooner_than_it_is_dilated() -> None:
    values = np.full((1600, 1600), 127, np.uint8)
    values[:10], values[10:20], values[20:30] = 0, 255, 64
    start_s = time.process_time()
    for value in (0, 255):
        binary_dilation(values == value, np.ones((9, 9), bool))
    dilated_s = time.process_time()
    with pytest.raises(DataError):
        target_of({"lung": [255], "ignore": [127]}, Labels(values))
    assert time.process_time() - dilated_s < 0.8 * (dilated_s - start_s)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_listed_values_that_occur(dtype: type) -> None:
    labels = label_map({"lung": [255, 3], "ignore": [127]})
    occurring = labels.occurring(Labels(np.array([[0, 3, 127, 127]], dtype)))
    assert occurring == {("lung", 3), ("ignore", 127)}


def test_lists_keep_their_recipe() -> None:
    for labels, ignored, structure in (
        ({"lung": [255, 1], "ignore": [127]}, [127], [1, 255]),
        ({"lung": [255]}, [], [255]),
        ({"lung": {"above": 9}}, [], {"above": 9}),
    ):
        assert label_map(labels).recipe("lung") == {"ignore": ignored, "structure": structure}
