"""Figures: what is drawn is what was computed, for any part of a study; files are reproducible."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from xferlab.analysis import load_study
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.gallery import pictures as gallery
from xferlab.analysis.figures.losses import loss_picture
from xferlab.analysis.figures.style import DPI, Picture, save

pytestmark = pytest.mark.component


@pytest.fixture(scope="module")
def pictures(results) -> dict[str, Picture]:
    return {picture.name: picture for picture in gallery(Contents(results))}


def test_the_papers_figures_are_all_there(pictures) -> None:
    found = list(pictures)
    for number in (7, 8, 9, 10, 11, 12, 13):
        assert sum(name.startswith(f"fig{number}_") for name in found) == 2, number  # one per arm
    assert [name for name in found if name.startswith("figS")] == [
        "figS1_loss_donor_baseline",
        "figS2_arms_general_on_portable_hold_out",
        "figS3_arms_portable_on_portable_hold_out",
    ]


def test_loss_curves_are_means_over_the_repetitions_left(results) -> None:
    picture = loss_picture(results, "portable", ["baseline"], label="8")
    assert picture is not None
    top, bottom = picture.figure.axes
    validation = {line.get_label(): line for line in top.lines}["Validation"]
    epochs, values = validation.get_data()
    assert list(epochs) == [1, 2, 3, 4, 5, 6]
    assert values[0] == pytest.approx(0.6 + 0.02 * 2)  # repetitions 1, 2, 3
    assert values[-1] == pytest.approx(0.6 / 6 + 0.02 * 2)  # repetition 2 alone
    assert list(bottom.patches[0].get_data().values) == [3, 3, 3, 3, 3, 1]
    assert "3 of 4 repetitions complete" in " ".join(picture.caption)


def test_a_single_repetition_has_a_line_and_no_deviation(results) -> None:
    picture = loss_picture(results, "donor", ["baseline", "frozen"], label="S1")
    assert picture is not None
    assert "One repetition: no deviation." in picture.caption


def test_files_have_print_resolution_and_are_equal_from_run_to_run(results, tmp_path) -> None:
    before = dict(mpl.rcParams)
    written = []
    for run in ("one", "other"):
        picture = loss_picture(results, "general", ["baseline"], label="7")
        assert picture is not None
        written.append([path.read_bytes() for path in save(picture, tmp_path / run)])
    assert written[0] == written[1]
    with Image.open(tmp_path / "one" / "fig7_loss_general_baseline.png") as image:
        assert image.info["dpi"] == pytest.approx((DPI, DPI), abs=0.1)
        assert image.width == round(3.5 * DPI)
    assert dict(mpl.rcParams) == before


def test_before_after_limits_are_shared_by_all_pathologies(pictures) -> None:
    limits = [p.figure.axes[0].get_xlim() for name, p in pictures.items() if _is_before_after(name)]
    assert len(limits) == 3
    assert len(set(limits)) == 1


def _is_before_after(name: str) -> bool:
    return name.startswith(("fig9", "fig10", "fig11")) and name.endswith("_baseline")


def test_artefacts_show_the_worst_stored_cases(pictures) -> None:
    picture = pictures["fig13_artefacts_general_to_portable_baseline"]
    below = [axes.get_xlabel() for axes in picture.figure.axes]
    # Both counts are (image + repetition) % 3 before, bridges only of even images; 0 after.
    assert below[4] == "2 bridges, 2 islands"
    assert below[8] == "0 bridges, 0 islands"


def test_without_pixels_there_are_no_overlays(builder) -> None:
    builder.pixels, builder.repetitions, builder.arms = False, 1, ("baseline",)
    contents = Contents(load_study(builder.write(), "covid_lung"))
    found = [picture.name for picture in gallery(contents)]
    assert not any(name.startswith(("fig12", "fig13")) for name in found)
    assert any(name.startswith("fig9") for name in found)


def test_overlays_show_the_case_with_the_median_dice(pictures) -> None:
    picture = pictures["fig12_overlays_general_to_portable_baseline"]
    titles = [axes.get_title() for axes in picture.figure.axes[:4]]
    assert titles == ["(a) covid19", "(b) normal", "(c) pathological", "(d) covid19"]
    # Two cases per pathology are stored, images 0 to 5; the lower median is the smaller, Dice 0.91 + 0.001 i.
    assert [axes.get_xlabel() for axes in picture.figure.axes[8:11]] == [
        "Dice 0.910",
        "Dice 0.911",
        "Dice 0.912",
    ]
    image = picture.figure.axes[0].images[0].get_array()
    assert image.dtype == np.uint8
