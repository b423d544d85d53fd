"""Figures of stored masks: which cases are shown, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.analysis.conftest import StudyBuilder, contents_of
from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.style import Picture
from xferlab.metrics.measuring import metrics_of
from xferlab.tasks.segmentation.config import COLOURS
from xferlab.tasks.segmentation.report import pictures as task_pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Picture]:
    folder = StudyBuilder(tmp_path_factory.mktemp("masks"), arms=("baseline",), repetitions=2).write()
    return {picture.name: picture for picture in task_pictures(Contents(load_study(folder, "covid_lung")))}


def test_typical_outputs_and_artefacts_are_shown_for_each_pair(pictures: dict[str, Picture]) -> None:
    assert list(pictures) == [
        "overlays_general_to_portable_baseline",
        "artefacts_general_to_portable_baseline",
    ]
    for picture in pictures.values():
        assert any("check the licences of its images" in sentence for sentence in picture.caption)


def test_overlays_show_the_case_with_the_median_dice(pictures: dict[str, Picture]) -> None:
    axes = pictures["overlays_general_to_portable_baseline"].figure.axes
    titles = [panel.get_title() for panel in axes[:4]]
    assert titles == ["(a) covid19", "(b) normal", "(c) pathological", "(d) covid19"]
    # Two cases per pathology are stored, images 0 to 5; the lower median is the smaller, Dice 0.91 + 0.001 i.
    assert [panel.get_xlabel() for panel in axes[8:11]] == ["Dice 0.910", "Dice 0.911", "Dice 0.912"]
    assert axes[0].images[0].get_array().dtype == np.uint8


def test_artefacts_show_the_worst_stored_cases(pictures: dict[str, Picture]) -> None:
    below = [axes.get_xlabel() for axes in pictures["artefacts_general_to_portable_baseline"].figure.axes]
    # Both counts are (image + repetition) % 3 before, bridges only of even images; 0 after.
    assert below[4] == "2 bridges, 2 islands"
    assert below[8] == "0 bridges, 0 islands"


def test_several_structures_have_a_colour_each_and_the_targets_of_all(tmp_path: Path) -> None:
    names = ("heart", "left_lung")
    folder = StudyBuilder(
        tmp_path, arms=("baseline",), repetitions=2, structures=names, metrics=metrics_of(names)
    ).write()
    overlays, artefacts = task_pictures(Contents(load_study(folder, "covid_lung")))
    (legend,) = overlays.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*names, "target"]
    colours = [
        tuple(round(255 * part) for part in patch.get_facecolor()[:3]) for patch in legend.get_patches()
    ]
    assert colours == [line for _, line in COLOURS[:2]]
    assert "filled in a colour for each of heart, left_lung" in " ".join(overlays.caption)
    assert overlays.figure.axes[8].get_xlabel() == "mean Dice 0.910"
    drawn = overlays.figure.axes[4].collections
    assert len(drawn) == 6  # of both: a fill, its line, and the target's
    # The counts of both structures are added; in this study each has a fraction less than the mean.
    assert artefacts.figure.axes[4].get_xlabel() == "3 bridges, 3 islands"


def test_without_pixels_there_are_no_overlays(tmp_path: Path) -> None:
    assert list(task_pictures(contents_of(tmp_path, repetitions=1, arms=("baseline",), images=3))) == []
