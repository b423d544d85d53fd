"""Two stages on the same hold-out, metric by metric, for one pathology."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.contents import HEADLINE, Contents
from xferlab.analysis.figures.style import (
    AFTER,
    BEFORE,
    COLUMN_IN,
    GREY,
    Picture,
    draw_deviations,
    drawing,
    style_lines,
)
from xferlab.analysis.results import Metrics
from xferlab.analysis.selection import ALL, ChainPair, detailed_arms, ordered_pathologies
from xferlab.analysis.tables.model import file_name
from xferlab.analysis.tables.notes import data_notes

_LOOKS = ((BEFORE, "s", -0.17), (AFTER, "o", 0.17))
"""Colour, marker and vertical shift of each stage."""


def detailed_pairs(contents: Contents) -> Iterator[tuple[str, ChainPair]]:
    """Yields pairs of stages on whole hold-outs, of the arms that are shown alone."""
    shown = detailed_arms(contents.results)
    yield from ((arm, pair) for arm, pair in contents.pairs() if arm in shown and "@" not in pair.part)


def before_after_pictures(contents: Contents) -> Iterator[Picture]:
    """Yields the dimensionless headline metrics of both stages of each pair, a figure for each pathology."""
    for arm, pair in detailed_pairs(contents):
        rows = contents.aggregated[contents.aggregated["arm"] == arm]
        metrics = contents.of_family(rows["metric"].unique(), HEADLINE)
        names = [metric.name for metric in metrics if not metric.unit]
        frames = [evaluated.rows(rows[rows["metric"].isin(names)]) for evaluated in pair.sets]
        published = [contents.published(evaluated) for evaluated in pair.sets]
        limits = _limits([*frames, *(frame.assign(num_patients=0) for frame in published)])
        for pathology in ordered_pathologies(frames[1]["pathology"]):
            before, after, *marks = (
                frame[frame["pathology"] == pathology].set_index("metric") for frame in (*frames, *published)
            )
            if pathology != ALL and len(before):
                yield _picture(contents, arm, pair, pathology, _Sides(before, after, tuple(marks), limits))


class _Sides(NamedTuple):
    """Both stages by metric, their published values, and the range of values to draw."""

    before: pd.DataFrame
    after: pd.DataFrame
    published: tuple[pd.DataFrame, ...]
    limits: tuple[float, float]

    @property
    def few(self) -> bool:
        """Whether patients are too few for deviations."""
        return bool(self.after["num_patients"].iloc[0] < MIN_PATIENTS)

    @property
    def marked(self) -> bool:
        """Whether published values are drawn beside."""
        return any(len(frame) for frame in self.published)


def _limits(frames: Sequence[pd.DataFrame]) -> tuple[float, float]:
    """Returns the range of all pathologies, so that an arm's figures compare."""
    rows = pd.concat(frames)
    few = rows["num_patients"] < MIN_PATIENTS
    spread = rows[["sd_images", "sd_repetitions"]].max(axis=1).mask(few, 0).fillna(0)
    values = pd.concat([rows["mean"] - spread, rows["mean"] + spread])
    margin = 0.03 * max(values.max() - values.min(), 1e-3)
    return float(values.min() - margin), float(values.max() + margin)


def _picture(contents: Contents, arm: str, pair: ChainPair, pathology: str, sides: _Sides) -> Picture:
    first, marks = sides.after.iloc[0], []
    done = "; ".join(
        f"{stage}: {frame['num_repetitions'].iloc[0]} of {frame['num_planned'].iloc[0]} repetitions"
        for stage, frame in ((pair.before, sides.before), (pair.after, sides.after))
    )
    if contents.paper and sides.marked:
        tables = sorted({table for frame in sides.published for table in frame["table"]})
        marks = [f"Diamonds: {contents.paper.name}, Tables {' and '.join(tables)}, another cohort."]
    return Picture(
        name=f"{file_name(pathology)}_{pair.before}_to_{pair.after}_{arm}",
        title=f"stages {pair.before} and {pair.after} on {pair.sets[1].name}, {pathology}, arm {arm}",
        caption=(
            f"{first['num_images']} images of {first['num_patients']} patients; {done}.",
            f"n < {MIN_PATIENTS} patients: no deviations are drawn."
            if sides.few
            else "Thick bars: ± sample SD over repetitions; thin bars: ± sample SD over images "
            "(of an image's mean over repetitions).",
            *marks,
            *data_notes(contents.results, [pair.before, pair.after], [pair.section]),
        ),
        figure=_draw(contents.results.metrics, pair, pathology, sides),
        subject={"kind": "before_after", **vars(pair), "pathology": pathology},
    )


@drawing()
def _draw(known: Metrics, pair: ChainPair, pathology: str, sides: _Sides) -> Figure:
    metrics = known.ordered(sides.before.index.intersection(sides.after.index))
    figure = Figure(figsize=(COLUMN_IN, 0.62 + 0.29 * len(metrics)), layout="constrained")
    axes = figure.subplots()
    for frame, (colour, marker, shift) in zip((sides.before, sides.after), _LOOKS, strict=True):
        thin, thick = {"color": colour, "linewidth": 0.9}, {"color": colour, "linewidth": 3.2, "alpha": 0.45}
        point: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 3.6}
        rows = frame.to_dict("index")
        for y, metric in enumerate(metrics):
            draw_deviations(axes, rows[metric.name], y + shift, (thin, thick))
            mean = [float(rows[metric.name]["mean"])]
            axes.plot(mean, [y + shift], markeredgecolor="white", markeredgewidth=0.4, **point)
    for frame, (colour, _, shift) in zip(sides.published, _LOOKS, strict=True):
        for y, metric in enumerate(metrics):
            if metric.name in frame.index:
                axes.add_line(_diamond(colour, [frame["mean"][metric.name]], [y + shift]))
    style_lines(axes, [metric.label for metric in metrics], grid="x")
    axes.set(xlim=sides.limits, xlabel="Value (dimensionless)")
    axes.set_title(pathology, loc="left", fontweight="bold")
    if sides.few:
        axes.set_title(f"n < {MIN_PATIENTS} patients", loc="right", color=GREY)
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=4, linestyle="", label=stage)
        for stage, (colour, marker, _) in zip((pair.before, pair.after), _LOOKS, strict=True)
    ]
    handles += [_diamond(GREY, [], [], label="paper")] if sides.marked else []
    num = len(handles)
    figure.legend(handles=handles, loc="outside upper right", ncols=num, handletextpad=0.2, columnspacing=1)
    return figure


def _diamond(colour: str, x: Sequence[float], y: Sequence[float], *, label: str = "") -> Line2D:
    look: dict[str, Any] = {"marker": "D", "markersize": 3, "markerfacecolor": "white", "linestyle": ""}
    return Line2D(x, y, color=colour, markeredgewidth=0.8, label=label, **look)
