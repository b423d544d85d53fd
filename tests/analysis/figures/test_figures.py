"""Figures: what is drawn is what was computed, for any part of a study; files are reproducible."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from tests.analysis.conftest import contents_of
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.before_after import before_after_pictures
from xferlab.analysis.figures.comparisons import arms_pictures
from xferlab.analysis.figures.files import DPI, png_of, save
from xferlab.analysis.figures.losses import loss_pictures
from xferlab.analysis.figures.style import PAGE_IN, Picture
from xferlab.analysis.report import pictures as all_pictures

pytestmark = pytest.mark.component
ARMS = ("baseline", "frozen", "third", "fourth", "fifth", "sixth")
COST = -0.05
MANY = {
    "variants": {"implant": COST, "cable": -0.01, "original": 0.0},
    "repetitions": 1,
    "images": 6,
    "epochs": 3,
}


@pytest.fixture(scope="module")
def pictures(contents: Contents) -> dict[str, Picture]:
    return {picture.name: picture for picture in map(contents.numbered, all_pictures(contents))}


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Picture]:
    """The figures of a study of many arms."""
    contents = contents_of(tmp_path_factory.mktemp("many"), arms=ARMS, **MANY)
    return {picture.name: picture for picture in all_pictures(contents)}


def loss(contents: Contents, stage: str) -> Picture:
    return next(picture for picture in loss_pictures(contents) if picture.name == f"loss_{stage}_baseline")


def names(axes: mpl.axes.Axes) -> list[str]:
    return [text.get_text() for text in axes.get_yticklabels()]


def test_the_papers_figures_are_all_there_and_others_apart(pictures: dict[str, Picture]) -> None:
    for number in (7, 8, 9, 10, 11, 12, 13):
        assert sum(name.startswith(f"fig{number}_") for name in pictures) == 2, number  # one per arm
    assert [name for name in pictures if name.startswith("figS")] == [
        "figS1_loss_donor_baseline",
        "figS2_overlays_donor_on_mri_test_baseline",
        "figS3_reliability_donor_on_mri_test",
        "figS4_reliability_general_on_portable_hold_out",
        "figS5_reliability_portable_on_portable_hold_out",
        "figS6_arms_general_on_portable_hold_out",
        "figS7_arms_portable_on_portable_hold_out",
    ]
    assert pictures["fig7_loss_general_frozen"].title.startswith("Figure 7: training and validation loss")


def test_loss_curves_are_means_over_the_repetitions_left(contents: Contents) -> None:
    picture = loss(contents, "portable")
    top, bottom = picture.figure.axes
    validation = {line.get_label(): line for line in top.lines}["Validation"]
    epochs, values = validation.get_data()
    assert list(epochs) == [1, 2, 3, 4, 5, 6]
    assert values[0] == pytest.approx(0.6 + 0.02 * 2)  # repetitions 1, 2, 3
    assert values[-1] == pytest.approx(0.6 / 6 + 0.02 * 2)  # repetition 2 alone
    assert list(bottom.patches[0].get_data().values) == [3, 3, 3, 3, 3, 1]
    assert "3 of 4 repetitions complete" in " ".join(picture.caption)


def test_a_single_repetition_has_a_line_and_no_deviation(contents: Contents) -> None:
    assert "One repetition: no deviation." in loss(contents, "donor").caption


def test_files_have_print_resolution_and_are_equal_from_run_to_run(
    contents: Contents, tmp_path: Path
) -> None:
    before = dict(mpl.rcParams)
    runs = [save(loss(contents, "general"), tmp_path / run) for run in ("one", "other")]
    for first, second in zip(*runs, strict=True):
        assert first.read_bytes() == second.read_bytes()
    with Image.open(runs[0][0]) as image:
        assert image.info["dpi"] == pytest.approx((DPI, DPI), abs=0.1)
        assert image.width == round(3.5 * DPI)
    assert png_of(loss(contents, "general")) == runs[0][0].read_bytes()
    assert dict(mpl.rcParams) == before


def test_before_after_limits_are_shared_by_all_pathologies(contents: Contents) -> None:
    limits = [
        picture.figure.axes[0].get_xlim()
        for picture in before_after_pictures(contents)
        if picture.name.endswith("_baseline")
    ]
    assert len(limits) == 3
    assert len(set(limits)) == 1


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """A study that compares itself to no paper."""
    return contents_of(tmp_path_factory.mktemp("plain"), compare_to=None, images=6)


def test_published_values_are_marked_where_there_is_a_paper(contents: Contents, plain: Contents) -> None:
    sentence = (
        "Diamonds: vidal2021, Tables 5 and 6, another cohort; dotted bars: ± SD (over what is not said)."
    )
    for shown, is_marked in ((contents, True), (plain, False)):
        picture = next(before_after_pictures(shown))
        markers = {line.get_marker() for line in picture.figure.axes[0].lines}
        assert (sentence in picture.caption) == ("D" in markers) == is_marked


def test_before_after_draws_metrics_of_each_unit_on_their_own_axis(plain: Contents) -> None:
    """Each value stands where its panel's axis says; metrics without any value have no line."""
    dimensionless, pixels = next(before_after_pictures(plain)).figure.axes
    assert names(dimensionless) == ["Dice", "Jaccard", "Sensitivity", "Specificity", "NSD at 2 px"]
    assert (dimensionless.get_xlabel(), pixels.get_xlabel()) == ("Value", "Value (px)")
    assert names(pixels) == ["HD95"]
    # Images 0 and 3, repetitions 1 to 4.
    points = [line.get_xdata()[0] for line in pixels.lines if line.get_marker() in "so"]
    assert points == pytest.approx([0.8 + 0.025 + 0.0015, 0.9 + 0.025 + 0.0015])


def test_a_papers_deviations_are_drawn_around_its_means(contents: Contents) -> None:
    axes = next(before_after_pictures(contents)).figure.axes[0]
    spans = [line.get_xdata() for line in axes.lines if line.get_linestyle() == ":"]
    # Table 5, covid19: ACC 0.957 ± 0.0293, AUC 0.9377 ± 0.0318.
    assert list(spans[0][:6]) == pytest.approx([0.9277, 0.9863, np.nan, 0.9059, 0.9695, np.nan], nan_ok=True)
    assert [len(ends) for ends in spans] == [27, 27]  # nine metrics of two stages
    assert axes.get_xlim()[1] > np.nanmax(spans)


def test_the_ends_of_a_narrow_deviation_reach_beyond_its_point(contents: Contents) -> None:
    picture = next(before_after_pictures(contents))
    lines = picture.figure.axes[0].lines
    ends = [line for line in lines if line.get_marker() == "|"]
    points = [line for line in lines if line.get_marker() in ("s", "o")]
    assert [len(line.get_xdata()) for line in points] == [9, 9]
    assert [len(line.get_xdata()) for line in ends] == [27, 27]  # two ends and a gap
    assert ends[0].get_markersize() > points[0].get_markersize() + 2
    low, high, _ = ends[0].get_xdata()[:3]
    # Repetitions 1 to 4 of `general`: each 0.01 above the one before.
    assert (high - low) / 2 == pytest.approx(np.std([0.01, 0.02, 0.03, 0.04], ddof=1))


def test_a_loss_that_falls_tenfold_has_a_logarithmic_axis_that_says_so(contents: Contents) -> None:
    epochs = contents.results.histories["epoch"]
    sentence = "Values that fall more than tenfold have a logarithmic axis."
    for losses, scale in ((2.0**-epochs, "log"), (1 - 0.05 * epochs, "linear")):
        picture = loss_of(contents, train_loss=losses, validation_loss=losses)
        axes = picture.figure.axes[0]
        low, high = axes.get_ylim()
        assert (axes.get_yscale(), sentence in picture.caption) == (scale, scale == "log")
        place = (lambda value: np.log(value)) if scale == "log" else (lambda value: value)
        span = place(losses.max()) - place(losses.min())
        assert span > 0.7 * (place(high) - place(low))  # the curve uses its panel


def test_small_panels_show_the_share_that_is_still_training(
    many: dict[str, Picture], plain: Contents
) -> None:
    (strip,) = many["losses_portable"].figure.axes[0].patches
    assert list(strip.get_data().values) == pytest.approx([0.8 * 0.16] * 2)  # a single repetition, two epochs
    assert "Grey strip at the foot: share of the repetitions" in " ".join(many["losses_portable"].caption)


def loss_of(contents: Contents, **values: object) -> Picture:
    """The figure of a stage whose epochs have other values."""
    histories = contents.results.histories.assign(**values)
    return loss(Contents(replace(contents.results, histories=histories)), "portable")


def test_a_score_that_is_not_the_loss_is_drawn_and_named(contents: Contents) -> None:
    mae = np.arange(len(contents.results.histories)) + 1.5
    picture = loss_of(contents, validation_mae=mae, score=mae)
    assert "training and validation loss, validation mae, stage portable" in picture.title
    curves, scores, _ = picture.figure.axes
    assert (curves.get_ylabel(), scores.get_ylabel()) == ("Loss", "Mae")
    assert [len(axes.lines) for axes in (curves, scores)] == [2, 2]  # the score's curve, and the ticks
    assert "epochs whose weights were kept, those of the best validation mae." in " ".join(picture.caption)


def test_the_title_names_what_the_history_holds(contents: Contents) -> None:
    picture = loss_of(contents, validation_loss=None, score=None)
    assert picture.title.startswith("training loss, stage portable")
    assert "epochs whose weights were kept, the last ones." in " ".join(picture.caption)
    assert [line.get_label() for line in picture.figure.axes[0].lines][:1] == ["Training"]
    other = loss_of(contents, train_loss=None, validation_loss=None, score=None, train_cycle=0.5)
    assert other.title.startswith("training cycle, stage portable")
    # Training and validation have no name in common.
    several = loss_of(contents, train_loss=None, train_cycle=0.5)
    assert several.title.startswith("validation loss, training cycle, stage portable")


def test_many_values_stand_side_by_side(contents: Contents) -> None:
    few, many = (
        loss_of(contents, train_loss=None, **{f"train_{letter}": 0.5 for letter in letters}).figure
        for letters in ("abc", "abcd")
    )
    labels = [[axes.get_ylabel() for axes in figure.axes if axes.get_visible()] for figure in (few, many)]
    assert labels[0] == ["Loss", "A", "B", "C", "Still\ntraining"]
    assert labels[1] == ["Loss", "A", "B", "C", "D", *["Still\ntraining"] * 2]
    assert (many.get_figwidth(), many.get_figheight() < few.get_figheight()) == (PAGE_IN, True)


def test_no_numbers_on_an_axis_touch_and_none_is_called_dimensionless(
    pictures: dict[str, Picture], many: dict[str, Picture]
) -> None:
    for picture in (*pictures.values(), *many.values()):
        picture.figure.draw_without_rendering()
        for axes in filter(lambda axes: axes.get_visible(), picture.figure.axes):
            assert "dimensionless" not in axes.get_xlabel() + axes.get_ylabel()
            for axis in (axes.xaxis, axes.yaxis):
                labels = [label for label in axis.get_ticklabels() if label.get_visible()]
                upright = [label for label in labels if label.get_text() and not label.get_rotation()]
                boxes = [label.get_window_extent() for label in upright]
                touching = [pair for pair in itertools.pairwise(boxes) if pair[0].overlaps(pair[1])]
                assert not touching, (picture.name, [label.get_text() for label in upright])


@pytest.mark.parametrize("stem", ["fig9_covid19", "figS7_arms"])
def test_a_legend_says_what_each_bar_is(pictures: dict[str, Picture], stem: str) -> None:
    (picture,) = (each for name, each in pictures.items() if name.startswith(stem) and "frozen" not in name)
    (box,) = picture.figure.legends
    texts = [text.get_text() for text in box.get_texts()]
    assert {"SD over repetitions", "SD over images"} <= set(texts)
    assert ("95 % CI, not adjusted" in texts) == ("arms" in stem)


# --- many arms ---------------------------------------------------------------------------------------------


def test_only_the_first_three_arms_have_figures_alone(many: dict[str, Picture]) -> None:
    assert {arm for arm in ARMS if any(name.endswith(f"_{arm}") for name in many)} == set(ARMS[:3])
    assert [name for name in many if "implant" in name or "cable" in name] == []


def test_more_arms_cost_no_more_figures(many: dict[str, Picture], tmp_path: Path) -> None:
    assert len(list(all_pictures(contents_of(tmp_path, arms=ARMS[:4], **MANY)))) == len(many)


def test_every_arm_has_a_panel_of_losses_and_a_line_of_differences(many: dict[str, Picture]) -> None:
    panels = [axes for axes in many["losses_portable"].figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == list(ARMS)
    assert names(many["arms_portable_on_portable_hold_out"].figure.axes[0]) == list(ARMS)


@pytest.mark.parametrize("name", ["objects_by_arm", "objects"])
def test_objects_are_drawn_by_pathology_and_by_arm(many: dict[str, Picture], name: str) -> None:
    axes = many[f"{name}_on_portable_hold_out"].figure.axes
    assert [panel.get_title(loc="left") for panel in axes] == ["cable", "implant"]
    lines = ARMS if name == "objects_by_arm" else ("all", "covid19", "normal", "pathological")
    assert names(axes[0]) == list(lines)
    dots = {round(line.get_xdata()[0], 6) for line in axes[1].lines if line.get_marker() != "None"}
    assert dots == {COST}


def arms_picture(contents: Contents) -> Picture:
    return next(p for p in arms_pictures(contents) if p.name == "arms_portable_on_portable_hold_out")


@pytest.mark.parametrize(("repetitions", "style"), [(5, "-"), (3, ":")])
def test_an_arm_has_one_interval_that_holds_its_difference(
    tmp_path: Path, repetitions: int, style: str
) -> None:
    changes = {"arms": ARMS[:2], "images": 10, "noise": 0.05, "epochs": 2}
    arms = arms_picture(contents_of(tmp_path, repetitions=repetitions, **changes))
    zero, bar, point = arms.figure.axes[1].lines
    assert list(zero.get_xdata()) == [0, 0]
    low, high = bar.get_xdata()
    assert low < point.get_xdata()[0] < high
    assert bar.get_linestyle() == style
    assert "95 % CI, not adjusted" in [text.get_text() for text in arms.figure.legends[0].get_texts()]
    caption = " ".join(arms.caption)
    assert "Bars: 95 % CI, dotted where there is no p; not adjusted for the number of arms." in caption
    assert "two-way t over repetitions and patients" in caption
    assert ("n < 5 repetitions: no p, since" in caption) == (repetitions < 5)


def test_an_arm_without_a_result_is_named_without_a_point(tmp_path: Path) -> None:
    lost = {f"third/{stage}/r{r:02d}" for stage in ("general", "portable") for r in (1, 2)}
    arms = arms_picture(contents_of(tmp_path, arms=ARMS[:3], repetitions=2, images=6, missing=lost))
    left, right = arms.figure.axes
    assert names(left) == ["baseline", "frozen", "third (failed)"]
    assert [(text.get_text(), text.get_position()[1]) for text in left.texts] == [("0 of 2", 2)]
    points = [
        [*line.get_ydata()] for axes in (left, right) for line in axes.lines if line.get_marker() == "o"
    ]
    assert points == [[0, 1], [1]]
    assert "0 of m: no repetition is complete." in arms.caption
