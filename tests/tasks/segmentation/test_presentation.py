"""What is drawn and written of a segmented image, and the figures of stored masks in a report."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from PIL import Image
from torch.nn import functional

from tests.analysis.conftest import STUDY, Marking, StudyBuilder, contents_of
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.style import Picture
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import first_stored
from xferlab.metrics.measuring import metrics_of
from xferlab.tasks.pictures import COLOURS, FILL_OPACITY, overlay
from xferlab.tasks.segmentation.config import files_of
from xferlab.tasks.segmentation.presentation import present
from xferlab.tasks.segmentation.report import pictures as task_pictures
from xferlab.training.structures import at_size

FILL = COLOURS[0][0]


def picture(seed: int, *, height: int = 45, width: int = 60) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def mask_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_the_size_is_antialiased_bilinear_as_in_pytorch() -> None:
    small = np.random.default_rng(0).random((32, 32), dtype=np.float32)
    for height, width in ((45, 60), (20, 100), (11, 7), (32, 32)):
        expected = functional.interpolate(
            torch.from_numpy(small)[None, None], (height, width), mode="bilinear", antialias=True
        )
        found = at_size(np.stack([small, small.T]), width=width, height=height)
        assert found.shape == (2, height, width)
        assert np.abs(found[0] - expected[0, 0].numpy()).max() < 1e-5


def test_components_touch_at_corners() -> None:
    mask = np.zeros((6, 6), bool)
    mask[[0, 1, 4], [0, 1, 4]] = True
    shown = present(np.zeros((6, 6), np.uint8), {"heart": mask})
    assert shown.columns == {
        "width": 6, "height": 6, "heart_pixels": 3, "heart_share": 0.083333, "components": 2,
    }  # fmt: skip
    assert (mask_of(shown.files["mask"]) == mask * 255).all()


def test_several_structures_have_a_mask_and_figures_each_and_one_overlay() -> None:
    image, heart, lung = picture(1, height=40, width=40), disc(40, 6), disc(40, 15)
    shown = present(image, {"heart": heart, "lung": lung})
    assert tuple(shown.files) == tuple(files_of(["heart", "lung"])) == ("mask_heart", "mask_lung", "overlay")
    assert (mask_of(shown.files["mask_heart"]) == heart * 255).all()
    assert (mask_of(shown.files["mask_lung"]) == lung * 255).all()
    assert (mask_of(shown.files["overlay"]) == overlay(image, [heart, lung])).all()
    assert shown.columns == {
        "width": 40, "height": 40,
        "heart_pixels": heart.sum(), "heart_share": round(heart.mean(), 6), "heart_components": 1,
        "lung_pixels": lung.sum(), "lung_share": round(lung.mean(), 6), "lung_components": 1,
    }  # fmt: skip


def disc(size_px: int, radius_px: float) -> np.ndarray:
    y, x = np.indices((size_px, size_px)) - (size_px - 1) / 2
    return np.asarray(x**2 + y**2 < radius_px**2)


def test_overlay_keeps_the_image_beyond_the_outline() -> None:
    image = picture(1, height=90, width=90)
    drawn = overlay(image, [disc(90, 20)])
    assert drawn.shape == (90, 90, 3)
    assert drawn.dtype == np.uint8
    outside = ~disc(90, 24)
    assert (drawn[outside] == image[outside][:, None]).all()


def test_overlay_is_translucent_inside() -> None:
    image = picture(1, height=90, width=90)
    inside = disc(90, 14)
    expected = image[inside][:, None] * (1 - FILL_OPACITY) + FILL_OPACITY * np.array(FILL)
    assert np.abs(overlay(image, [disc(90, 20)])[inside] - expected).max() <= 0.51


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_the_outline_stands_out_from_its_ground(grey: int) -> None:
    # Relative luminance, as in WCAG: the line or its casing differs from what is on either side.
    image, inside = np.full((700, 700), grey, np.uint8), disc(700, 200)
    row = overlay(image, [inside])[350].astype(np.float64) @ (0.2126, 0.7152, 0.0722)
    edge = row[145:157]
    assert np.ptp(edge) > 60


def test_overlay_of_nothing_and_of_everything() -> None:
    image = picture(1, height=40, width=50)
    empty = overlay(image, [np.zeros((40, 50), bool)])
    assert (empty == image[..., None]).all()
    full = overlay(image, [np.ones((40, 50), bool)])
    expected = image[..., None] * (1 - FILL_OPACITY) + FILL_OPACITY * np.array(FILL)
    assert np.abs(full - expected).max() <= 0.51


def test_overlays_of_several_structures_blend_where_they_meet() -> None:
    image = np.full((90, 90), 100, np.uint8)
    large, small = disc(90, 40), disc(90, 20)
    drawn = overlay(image, [large, small])
    ring = disc(90, 34) & ~disc(90, 26)
    one = 100 * (1 - FILL_OPACITY) + FILL_OPACITY * np.array(COLOURS[0][0])
    both = one * (1 - FILL_OPACITY) + FILL_OPACITY * np.array(COLOURS[1][0])
    assert np.abs(drawn[ring] - one).max() <= 0.51
    assert np.abs(drawn[disc(90, 14)] - both).max() <= 0.51
    assert (drawn[45] == COLOURS[1][1]).all(axis=-1).any(), "the outline of the small one lies on top"


def test_more_structures_than_colours_take_them_again() -> None:
    image, inside = np.full((60, 60), 100, np.uint8), disc(60, 20)
    nothing = [np.zeros_like(inside)] * len(COLOURS)
    assert (overlay(image, [*nothing, inside]) == overlay(image, [inside])).all()


def test_overlay_depends_on_neither_position_nor_crop() -> None:
    image, inside = np.full((80, 80), 100, np.uint8), np.zeros((80, 80), bool)
    inside[20:30, 15:40] = True
    moved = overlay(image, [np.roll(inside, (25, 30), (0, 1))])
    assert (np.roll(overlay(image, [inside]), (25, 30), (0, 1)) == moved).all()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Picture]:
    folder = StudyBuilder(tmp_path_factory.mktemp("masks"), arms=("baseline",), repetitions=2).write()
    return {picture.name: picture for picture in task_pictures(Contents(load_study(folder, "covid_lung")))}


def texts(axes: Axes) -> list[str]:
    """Returns the texts above or below the images of a line, and last the name of the line."""
    return [text.get_text() for text in axes.texts]


def test_a_stage_in_no_pair_is_shown_alone(pictures: dict[str, Picture]) -> None:
    picture = pictures["overlays_donor_on_mri_test_baseline"]
    assert picture.title == "outputs, donor on mri.test, arm baseline"
    images, outputs = map(texts, picture.figure.axes)
    assert (images.pop(), outputs.pop()) == ("Image", "donor")
    assert len(images) == len(outputs) > 0
    assert all(images)
    assert all(text.startswith("Dice 0.") for text in outputs)
    (legend,) = picture.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["donor", "target"]


def test_typical_outputs_and_artefacts_are_shown_for_each_pair(pictures: dict[str, Picture]) -> None:
    of_images = [name for name in pictures if not name.startswith("reliability_")]
    assert of_images == [
        "overlays_general_to_portable_baseline",
        "artefacts_general_to_portable_baseline",
        "overlays_donor_on_mri_test_baseline",  # in no pair
    ]
    for picture in map(pictures.__getitem__, of_images):
        assert any("check the licences of its images" in sentence for sentence in picture.caption)


def test_overlays_show_the_case_with_the_median_dice(pictures: dict[str, Picture]) -> None:
    axes = pictures["overlays_general_to_portable_baseline"].figure.axes
    assert texts(axes[0]) == ["(a) covid19", "(b) normal", "(c) pathological", "(d) covid19", "Image"]
    # Two cases per pathology are stored, images 0 to 5; the lower median is the smaller, Dice 0.91 + 0.001 i.
    assert texts(axes[2])[:3] == ["Dice 0.910", "Dice 0.911", "Dice 0.912"]
    assert axes[0].images[0].get_array().dtype == np.uint8


def test_artefacts_show_the_worst_stored_cases(pictures: dict[str, Picture]) -> None:
    _, before, after = map(texts, pictures["artefacts_general_to_portable_baseline"].figure.axes)
    # Both counts are (image + repetition) % 3 before, bridges only of even images; 0 after.
    assert before[0] == "2 bridges, 2 islands"
    assert after[0] == "0 bridges, 0 islands"


def test_a_repetition_that_is_not_measured_on_a_set_is_not_shown(tmp_path: Path) -> None:
    """As where a split leaves sites out, and the section lacks the first one."""

    class LeavesOut(StudyBuilder):
        def _trial(self, arms: list[str], stage: str, repetition: int, parent: str) -> dict[str, Any]:
            trial = super()._trial(arms, stage, repetition, parent)
            kept = [
                e
                for e in trial["evaluations"]
                if e["part"] == "test" or (stage, repetition) != ("portable", 1)
            ]
            return {**trial, "evaluations": kept}

    builder = LeavesOut(tmp_path, arms=("baseline",), repetitions=2, missing=set(), compare_to=None)
    results = load_study(builder.write(), STUDY)
    stored = first_stored(results, "baseline", EvaluationSet("portable", "portable", "hold_out"))
    assert stored is not None
    assert (stored.repetition, len(stored.rows)) == (2, 6)
    pictures = {each.name: each for each in task_pictures(Contents(results))}
    shown = pictures["overlays_general_to_portable_baseline"]
    assert any(sentence.startswith("Repetition 2;") for sentence in shown.caption)
    assert texts(shown.figure.axes[2])[0] == "Dice 0.920"
    (title, *_) = texts(pictures["artefacts_general_to_portable_baseline"].figure.axes[0])
    assert title.endswith("repetition 2")


def test_several_structures_have_a_colour_each_and_the_targets_of_all(tmp_path: Path) -> None:
    names = ("heart", "left_lung")
    folder = StudyBuilder(
        tmp_path, arms=("baseline",), repetitions=2, structures=names, metrics=metrics_of(names)
    ).write()
    overlays, artefacts, _ = task_pictures(Contents(load_study(folder, "covid_lung")))
    (legend,) = overlays.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*names, "target"]
    colours = [
        tuple(round(255 * part) for part in patch.get_facecolor()[:3]) for patch in legend.get_patches()
    ]
    assert colours == [line for _, line in COLOURS[:2]]
    assert "filled in a colour for each of heart, left_lung" in " ".join(overlays.caption)
    assert texts(overlays.figure.axes[2])[0] == "mean Dice 0.910"
    drawn = overlays.figure.axes[1].collections
    assert len(drawn) == 6  # of both: a fill, its line, and the target's
    # The counts of both structures are added; in this study each has a fraction less than the mean.
    assert texts(artefacts.figure.axes[1])[0] == "3 bridges, 3 islands"


def test_a_set_that_marks_both_sides_as_one_has_their_outline_and_all_masks(tmp_path: Path) -> None:
    folder = Marking(tmp_path, arms=("baseline",), repetitions=2).write()
    results = load_study(folder, "covid_lung")
    for trial in results.plan["trials"]:
        trial["evaluations"] = [each for each in trial["evaluations"] if trial["stage"] == "portable"]
    (shown,) = task_pictures(Contents(results))
    assert shown.name == "overlays_portable_on_portable_hold_out_baseline"
    assert "portable marks lungs (left and right as one) alone: there, values are of this." in shown.caption
    assert len(shown.figure.axes[1].collections) == 3 * 2 + 1  # fill and line of each, and one target
    assert texts(shown.figure.axes[1])[0] == "mean Dice 0.910"


def test_without_pixels_there_are_no_overlays(tmp_path: Path) -> None:
    assert list(task_pictures(contents_of(tmp_path, repetitions=1, arms=("baseline",), images=3))) == []
