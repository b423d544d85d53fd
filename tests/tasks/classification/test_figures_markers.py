"""Figures of stored masks and patches: what is drawn is what the stored arrays hold."""

from __future__ import annotations

import numpy as np
import pytest

from tests.analysis.marked import CLASSES, KINDS, LABELS, marked_contents, outputs
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.style import Picture
from xferlab.metrics.markers import Line, cardiothoracic
from xferlab.tasks.classification.report import pictures

pytestmark = pytest.mark.component
STORED = 10


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    return marked_contents(tmp_path_factory.mktemp("marked"), repetitions=1, images=25, pixels=True)


@pytest.fixture(scope="module")
def drawn(contents: Contents) -> dict[str, Picture]:
    return {picture.subject["kind"]: picture for picture in pictures(contents)}


def lines_of(image: int) -> tuple[Line, Line] | None:
    arrays = outputs(image, 64)
    return cardiothoracic({n.removeprefix("mask_"): a > 0 for n, a in arrays.items() if "mask_" in n})


def test_the_lines_are_those_of_the_ratio(drawn: dict[str, Picture]) -> None:
    picture = drawn["outlines"]
    grid = np.array(picture.figure.axes).reshape(3, len(KINDS))
    assert [axes.get_title()[4:] for axes in grid[0]] == list(KINDS)
    for kind, (top, middle, bottom) in enumerate(grid.T):
        # Of the two stored images of a class, the one with the lower ratio.
        image = min((kind, kind + 5), key=lambda number: lines_of(number).ratio)
        lines, arrays = lines_of(image), outputs(image, 64)
        shown = [
            (line.get_ydata()[0], line.get_xdata()[0] + 0.5, line.get_xdata()[1] - 0.5)
            for line in middle.lines
        ]
        assert shown == [tuple(line) for line in lines]
        assert middle.get_xlabel() == f"CTR {lines.ratio:.3f}"
        np.testing.assert_array_equal(top.images[0].get_array(), arrays["whole"][0])
        np.testing.assert_array_equal(bottom.images[0].get_array(), arrays["image"])
    names = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert names == ["heart", "left_lung, right_lung"]


def test_maps_of_all_classes_have_one_scale(drawn: dict[str, Picture]) -> None:
    picture = drawn["class_heat"]
    assert picture.subject["arm"] == "baseline"
    images, *maps = np.array(picture.figure.axes[:-1]).reshape(1 + len(CLASSES), 4)
    assert [line[0].get_ylabel() for line in maps] == [f"map of {name}" for name in CLASSES]
    for top, *column in zip(images, *maps, strict=True):
        heats = outputs(KINDS.index(top.get_title()[4:]), 64)["heats"]
        for axes, heat in zip(column, heats, strict=True):
            np.testing.assert_array_equal(axes.images[1].get_array(), heat)
            assert axes.images[1].get_clim() == pytest.approx((0, 0.5))


def test_patches_are_those_that_are_told_right(drawn: dict[str, Picture]) -> None:
    picture = drawn["patches"]
    # Two parts store ten images each, of 15 patches that are told right.
    assert "300 patches of 20 images" in picture.caption[0]
    for axes, column in zip(picture.figure.axes, (2, 3), strict=True):
        dots = [line for line in axes.lines if line.get_alpha() == 0.55]
        stored = np.concatenate([outputs(number, 64)["patches"][:15, column] for number in (0, 5)])
        expected = np.sort(np.concatenate([stored, stored]))  # the test part has the same pictures
        np.testing.assert_allclose(dots[0].get_xdata(), expected)
        assert [len(line.get_xdata()) for line in dots] == [60] * len(LABELS)


def test_without_stored_masks_and_patches_there_are_no_such_figures(
    contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = type(contents.results).outputs
    monkeypatch.setattr(
        type(contents.results),
        "outputs",
        lambda self, trial_id, **where: whole(self, trial_id, **where).filter(
            regex="^(?!mask_|patches|heats)"
        ),
    )
    assert {picture.subject["kind"] for picture in pictures(contents)} == {"heat"}
