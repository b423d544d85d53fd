"""Markers of images by class: a dot an image, mean and deviation; before and after preprocessing."""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.style import (
    AFTER,
    BEFORE,
    LOOKS,
    PAGE_IN,
    Picture,
    drawing,
    legend,
    style_lines,
    value_label,
)
from xferlab.analysis.markers import Floats, Marked, Processed
from xferlab.analysis.tables.markers import markers_caption, markers_notes
from xferlab.analysis.tables.model import file_name
from xferlab.analysis.tables.notes import data_notes
from xferlab.metrics.metric import OF_WHITE, Metric

MAX_DOTS = 300
"""Dots of a line and colour; of more values every k-th in order is drawn, so that files stay small."""
_IN_ROW = 4
_SPREAD, _BESIDE = 0.4, 0.27
"""Height of the dots of a line, and how far below their middle the mean stands, in lines."""
_BAR: Mapping[str, Any] = {"color": "black", "linewidth": 1.1, "solid_capstyle": "butt"}
_ENDS: Mapping[str, Any] = {"color": "black", "marker": "|", "markersize": 5, "linestyle": ""}


@dataclass(frozen=True, eq=False)
class Dots:
    """A panel: what is drawn along one axis.

    Attributes:
        label: Of the axis.
        values: Of each class and series: `values[class][number]`, sorted.
        few: Class and number of each series of too few patients for a deviation.
    """

    label: str
    values: Mapping[str, Sequence[Floats]]
    few: frozenset[tuple[str, int]]

    @staticmethod
    def of(metric: Metric, sides: Sequence[Marked]) -> Dots:
        """Returns those of a marker, a series for each side."""
        name = metric.name
        values = {of: [side.values(name, of) for side in sides] for of in sides[0].classes}
        few = [
            (str(row["of"]), number)
            for number, side in enumerate(sides)
            for row in side.described.to_dict("records")
            if row["metric"] == name and row["num_patients"] < MIN_PATIENTS
        ]
        return Dots(value_label(metric.label, metric.unit), values, frozenset(few))


def markers_pictures(contents: Contents) -> Iterator[Picture]:
    """Yields the markers of each section that a stage is measured on, then before and after preprocessing."""
    for marked in contents.marked_figures:
        yield _picture(contents, marked)
    for pair in contents.processed:
        values = pair.after.cases
        metrics = [m for m in pair.after.metrics if m.unit == OF_WHITE and values[m.name].notna().any()]
        if metrics:
            yield _pair_picture(contents, pair, metrics)


def dots_caption() -> tuple[str, ...]:
    """Returns what is drawn of each class."""
    return (
        "Below the dots: their mean, with ends at ± one sample SD (none of fewer than "
        f"{MIN_PATIENTS} patients). Of more than {MAX_DOTS} values of a class, evenly chosen ones are drawn.",
    )


def _picture(contents: Contents, marked: Marked) -> Picture:
    return Picture(
        name=f"markers_{marked.stage}_on_{file_name(marked.section)}",
        title=f"markers by class, stage {marked.stage} on {marked.section}",
        caption=(
            f"A dot for each of {len(marked.cases)} images of {marked.cases['patient'].nunique()} patients.",
            *dots_caption(),
            *markers_caption(marked),
            *markers_notes(contents, marked),
        ),
        figure=draw_dots([Dots.of(metric, [marked]) for metric in marked.metrics], {"image": None}),
        subject={"kind": "markers", **marked.subject},
    )


def _pair_picture(contents: Contents, pair: Processed, metrics: Sequence[Metric]) -> Picture:
    before, after, steps = pair
    words = ", ".join(name if value is True else f"{name} {value}" for name, value in steps.items())
    return Picture(
        name=f"preprocessing_{after.stage}_on_{file_name(after.section)}_and_{file_name(before.section)}",
        title=f"grey levels before and after preprocessing, stage {after.stage} on {after.section}",
        caption=(
            f"The same {len(after.cases)} images of {after.cases['patient'].nunique()} patients without "
            f"(section {before.section}) and with {words} (section {after.section}); the masks are predicted "
            "on each of both.",
            *_with_values(after, metrics),
            *dots_caption(),
            *markers_caption(before, after),
            *markers_notes(contents, after),
            *data_notes(contents.results, (), [before.section]),
        ),
        figure=draw_dots(
            [Dots.of(metric, (before, after)) for metric in metrics],
            {f"without {words}": (BEFORE, "o"), f"with {words}": (AFTER, "s")},
        ),
        subject={"kind": "preprocessing", **after.subject},
    )


def _with_values(marked: Marked, metrics: Sequence[Metric]) -> Iterator[str]:
    """Says how many of the images of a pair have a marker, which each has on both sides or on none."""
    counts = {metric.label: int(marked.cases[metric.name].count()) for metric in metrics}
    fewer = [f"{label} {n}" for label, n in counts.items() if n < len(marked.cases)]
    if fewer:
        yield f"Images with a value on both sides, where some lack one: {', '.join(fewer)}."


@drawing()
def draw_dots(panels: Sequence[Dots], series: Mapping[str, tuple[str, str] | None]) -> Figure:
    """Returns a figure with a panel for each marker and a line for each class.

    Args:
        panels: All of the same classes.
        series: Colour and marker of each series by name; None where each class has its own.
    """
    classes = list(panels[0].values)
    rows = math.ceil(len(panels) / _IN_ROW)
    columns = math.ceil(len(panels) / rows)
    width = PAGE_IN if columns > 2 else PAGE_IN * 0.7
    height = 0.25 + rows * (0.6 + 0.19 * len(classes) * (1 + len(series)))
    figure = Figure(figsize=(width, height), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.ravel()[len(panels) :]:
        axes.set_visible(False)
    for axes, panel in zip(grid.ravel(), panels, strict=False):
        for y, of in enumerate(classes):
            looks = [look or LOOKS[y % len(LOOKS)] for look in series.values()]
            few = [n for n in range(len(looks)) if (of, n) in panel.few]
            _draw_class(axes, panel.values[of], y, looks, few=few)
        style_lines(axes, classes, grid="x", num_ticks=5)
        axes.set_xlabel(panel.label.replace(" (", "\n("))
    named = {name: look or ("#333333", "o") for name, look in series.items()}
    mean = (Line2D([], [], markersize=3.5, **{**_BAR, "marker": "o"}), Line2D([], [], **_ENDS))
    legend(figure, named, more=[(mean, "mean ± SD")])
    return figure


def _draw_class(
    axes: Any, values: Sequence[Floats], y: int, looks: Sequence[tuple[str, str]], *, few: Container[int]
) -> None:
    """Draws the series of a class, one below the other, within a line of height 1."""
    share = 0.9 / len(values)
    for number, (series, (colour, marker)) in enumerate(zip(values, looks, strict=True)):
        middle = y + (number - (len(values) - 1) / 2) * share - 0.12 * share
        drawn = series[:: math.ceil(len(series) / MAX_DOTS) or 1]
        # The golden ratio spreads neighbours: the same for the same values.
        heights = middle + share * _SPREAD * (np.arange(len(drawn)) * 0.618034 % 1 - 0.5)
        look = {"color": colour, "markersize": 2.2, "alpha": 0.55, "markeredgewidth": 0}
        axes.plot(drawn, heights, marker, **look)
        if len(series):
            _draw_mean(axes, series, middle + share * _BESIDE / 0.7, has_deviation=number not in few)


def _draw_mean(axes: Any, values: Floats, y: float, *, has_deviation: bool) -> None:
    mean = float(values.mean())
    if has_deviation:
        deviation = float(values.std(ddof=1))
        ends = [mean - deviation, mean + deviation]
        axes.plot(ends, [y, y], **_BAR)
        axes.plot(ends, [y, y], **_ENDS)
    axes.plot([mean], [y], "o", color="black", markersize=2.8)
