"""Figures of markers: a dot an image, means where they are, nothing that touches."""

from __future__ import annotations

import itertools
from copy import copy
from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.marked import KINDS, marked_contents
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures import markers as figures
from xferlab.analysis.figures.markers import markers_pictures
from xferlab.analysis.figures.style import Picture
from xferlab.metrics.markers import LUNG_MEAN, LUNG_SD, MARKERS

pytestmark = pytest.mark.component


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    return marked_contents(tmp_path_factory.mktemp("marked"), repetitions=1)


@pytest.fixture(scope="module")
def drawn(contents: Contents) -> list[Picture]:
    return list(markers_pictures(contents))


def test_each_image_is_a_dot_and_each_class_has_its_mean(contents: Contents, drawn: list[Picture]) -> None:
    picture, marked = drawn[0], contents.marked[0]
    assert picture.subject == {"kind": "markers", "stage": "portable", "section": "portable"}
    panels = [axes for axes in picture.figure.axes if axes.get_visible()]
    assert len(panels) == len(MARKERS)
    for axes, marker in zip(panels, MARKERS, strict=True):
        dots = [line for line in axes.lines if line.get_alpha() == 0.55]
        assert sum(len(line.get_xdata()) for line in dots) == marked.cases[marker.name].notna().sum()
        for y, of in enumerate(KINDS):
            values = marked.values(marker.name, of)
            near = [line for line in axes.lines if abs(line.get_ydata()[0] - y) < 0.5]
            points = [line.get_xdata()[0] for line in near if line.get_markersize() == 2.8]
            assert points == pytest.approx([values.mean()])
            (bar,) = (line for line in near if line.get_marker() == "None")
            spread = values.std(ddof=1)
            assert list(bar.get_xdata()) == pytest.approx([values.mean() - spread, values.mean() + spread])


def test_before_and_after_are_the_same_images_of_markers_of_grey_levels(drawn: list[Picture]) -> None:
    _, picture = drawn
    assert picture.title.startswith("grey levels before and after preprocessing")
    assert "The same 60 images of 54 patients without (section portable_original)" in picture.caption[0]
    assert any("is in (portable_original: hold_out; portable: hold_out)" in line for line in picture.caption)
    panels = [axes for axes in picture.figure.axes if axes.get_visible()]
    assert [axes.get_xlabel().partition("\n")[2] for axes in panels] == ["(of white)"] * 5
    dots = [line for line in panels[0].lines if line.get_alpha() == 0.55]
    assert [len(line.get_xdata()) for line in dots] == [12] * 10
    assert len({line.get_color() for line in dots}) == 2
    legend = [text.get_text() for text in picture.figure.legends[0].get_texts()]
    assert legend == ["without equalise, gamma 0.5", "with equalise, gamma 0.5", "mean ± SD"]


def test_few_patients_have_no_deviation_and_many_values_few_dots(
    contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MAX_DOTS", 4)
    values = np.linspace(0, 1, 17)
    panel = figures.Dots(
        "x", {"many": [values], "few": [values[:2]], "none": [values[:0]]}, frozenset({("few", 0)})
    )
    (axes,) = figures.draw_dots([panel], {"image": None}).axes
    dots = [line for line in axes.lines if line.get_alpha() == 0.55]
    assert [len(line.get_xdata()) for line in dots] == [4, 2, 0]
    assert len([line for line in axes.lines if line.get_marker() == "|"]) == 1
    assert [line.get_xdata()[0] for line in axes.lines if line.get_markersize() == 2.8] == pytest.approx(
        [0.5, values[:2].mean()]
    )


def test_each_side_of_a_pair_has_a_deviation_by_its_own_patients(contents: Contents) -> None:
    (pair,), metric = contents.processed, LUNG_MEAN
    patients = pair.before.of_class("viral")["patient"].unique()
    is_lost = pair.before.cases["patient"].isin(patients[4:]) & (pair.before.cases["of"] == "viral")
    few = replace(pair.before, cases=pair.before.cases[~is_lost])
    for sides, number in (((few, pair.after), 0), ((pair.after, few), 1)):
        panel = figures.Dots.of(metric, sides)
        assert panel.few == {("viral", number)}
        (axes,) = figures.draw_dots([panel], {"one": ("red", "o"), "other": ("blue", "s")}).axes
        assert len([line for line in axes.lines if line.get_marker() == "|"]) == 2 * len(KINDS) - 1


def test_a_pair_says_of_how_many_images_a_marker_is(contents: Contents) -> None:
    (pair,) = contents.processed
    lacking = pair.before.cases.assign(LUNG_SD=pair.before.cases["LUNG_SD"].where(lambda v: v.index % 6 > 0))
    before = replace(pair.before, cases=lacking)
    changed = copy(contents)
    changed.__dict__["processed"] = (pair._replace(before=before, after=pair.after.common(before)),)
    *_, picture = markers_pictures(changed)
    assert [line for line in picture.caption if "lack one" in line] == [
        f"Images with a value on both sides, where some lack one: {LUNG_SD.label} 50."
    ]


def test_no_words_touch(drawn: list[Picture]) -> None:
    for picture in drawn:
        picture.figure.draw_without_rendering()
        panels = [axes for axes in picture.figure.axes if axes.get_visible()]
        texts = [label for axes in panels for label in (axes.xaxis.label, *axes.get_yticklabels())]
        for axes in panels:
            low, high = axes.get_xlim()  # a tick beyond the axis is not drawn
            texts += [label for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
        shown = [text for text in texts if text.get_text() and text.get_visible()]
        boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
        assert [pair for pair in itertools.combinations(boxes, 2) if pair[0][1].overlaps(pair[1][1])] == []
