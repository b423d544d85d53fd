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
    deviation_handles,
    draw_deviations,
    drawing,
    spans,
    style_lines,
    value_label,
)
from xferlab.analysis.published.paper import Paper
from xferlab.analysis.selection import ALL, ChainPair, detailed_arms, of_metrics, ordered_pathologies
from xferlab.analysis.tables.model import Record, file_name
from xferlab.analysis.tables.notes import data_notes
from xferlab.metrics.metric import Metric

_LOOKS = ((BEFORE, "s", -0.2), (AFTER, "o", 0.2))
"""Colour, marker and vertical shift of each stage."""
_BESIDE = 0.1
"""How far a stage and what a paper says of it are shifted apart, up and down."""
_NOTHING = pd.DataFrame(columns=["stage", "metric", "mean", "sd"])
"""What no paper says."""
_DIAMOND: dict[str, Any] = {
    "marker": "D", "markersize": 3, "markerfacecolor": "white", "markeredgewidth": 0.8, "linestyle": "",
}  # fmt: skip


def detailed_pairs(contents: Contents) -> Iterator[tuple[str, ChainPair]]:
    """Yields pairs of stages on whole hold-outs, of the arms that are shown alone."""
    shown = detailed_arms(contents.results)
    yield from ((arm, pair) for arm, pair in contents.pairs() if arm in shown and "@" not in pair.part)


class _Panel(NamedTuple):
    """Metrics of one unit, and the range of their values over all pathologies, so that figures compare."""

    unit: str
    metrics: Sequence[Metric]
    limits: tuple[float, float]


class _Values(NamedTuple):
    """What both stages reach, and what a paper says of them."""

    measured: pd.DataFrame
    published: pd.DataFrame

    @property
    def few(self) -> bool:
        """Whether patients are too few for deviations."""
        return bool(self.measured["num_patients"].iloc[-1] < MIN_PATIENTS)


def before_after_pictures(contents: Contents) -> Iterator[Picture]:
    """Yields the headline metrics of both stages of each pair, a figure for each pathology."""
    for arm, pair in detailed_pairs(contents):
        rows = contents.aggregated[contents.aggregated["arm"] == arm].dropna(subset="mean")
        metrics = contents.of_family(rows["metric"].unique(), HEADLINE)
        sides = [evaluated.rows(of_metrics(rows, metrics)) for evaluated in pair.sets]
        published = [
            contents.published(evaluated, arm=arm).assign(stage=evaluated.stage) for evaluated in pair.sets
        ]
        values = _Values(pd.concat(sides), pd.concat(published))
        panels = list(panels_of(metrics, *values))
        for pathology in ordered_pathologies(set(sides[0]["pathology"]) & set(sides[1]["pathology"])):
            if pathology != ALL:
                shown = (frame[frame["pathology"] == pathology] for frame in values)
                yield _picture(contents, (arm, pair, pathology), panels, _Values(*shown))


def panels_of(
    metrics: Sequence[Metric], measured: pd.DataFrame, published: pd.DataFrame | None = None
) -> Iterator[_Panel]:
    """Yields the metrics of each unit, with the range of all their values and deviations."""
    others = _NOTHING if published is None else published
    rows = pd.concat([measured, others.assign(num_patients=MIN_PATIENTS)])
    few = rows["num_patients"] < MIN_PATIENTS
    spread = rows[["sd_images", "sd_repetitions", "sd"]].max(axis=1).mask(few, 0).fillna(0)
    ends = pd.DataFrame({"low": rows["mean"] - spread, "high": rows["mean"] + spread})
    for unit in dict.fromkeys(metric.unit for metric in metrics):
        of_unit = [metric for metric in metrics if metric.unit == unit]
        own = ends[rows["metric"].isin([metric.name for metric in of_unit])]
        low, high = float(own["low"].min()), float(own["high"].max())
        margin = 0.03 * max(high - low, 1e-3)
        if len(own):
            yield _Panel(unit, of_unit, (low - margin, high + margin))


def _picture(
    contents: Contents, shown: tuple[str, ChainPair, str], panels: Sequence[_Panel], values: _Values
) -> Picture:
    (arm, pair, pathology), marks = shown, []
    by_stage = values.measured.drop_duplicates("stage").set_index("stage")
    first = by_stage.loc[pair.after]
    done = "; ".join(
        f"{stage}: {by_stage['num_repetitions'][stage]} of {by_stage['num_planned'][stage]} repetitions"
        for stage in (pair.before, pair.after)
    )
    if contents.paper and len(values.published):
        marks = [_mark(contents.paper, values.published)]
    return Picture(
        name=f"{file_name(pathology)}_{pair.before}_to_{pair.after}_{arm}",
        title=f"stages {pair.before} and {pair.after} on {pair.sets[1].name}, {pathology}, arm {arm}",
        caption=(
            f"{first['num_images']} images of {first['num_patients']} patients; {done}.",
            f"n < {MIN_PATIENTS} patients: no deviations are drawn."
            if values.few
            else "Thick bars with ends: ± sample SD over repetitions; thin bars: ± sample SD over images "
            "(of an image's mean over repetitions).",
            *marks,
            *data_notes(contents.results, [pair.before, pair.after], [pair.section]),
        ),
        figure=draw_stages((pair.before, pair.after), pathology, panels, *values),
        subject={"kind": "before_after", **vars(pair), "pathology": pathology},
    )


def _mark(paper: Paper, published: pd.DataFrame) -> str:
    """Returns what the marks of a paper are, and what it calls its deviations."""
    numbers = sorted(published["table"].unique())
    deviations = dict.fromkeys(paper.tables[number].deviation for number in numbers if number in paper.tables)
    bars = " and ".join(f"± {name}" for name in deviations if name)
    sentence = f"Diamonds: {paper.name}, Tables {' and '.join(numbers)}, another cohort"
    return f"{sentence}; dotted bars: {bars}." if bars and published["sd"].notna().any() else f"{sentence}."


@drawing()
def draw_stages(
    stages: tuple[str, str],
    title: str,
    panels: Sequence[_Panel],
    measured: pd.DataFrame,
    published: pd.DataFrame | None = None,
) -> Figure:
    """Returns what two stages reach, and what a paper says of them, where there is one."""
    values = _Values(measured, _NOTHING if published is None else published)
    heights = [len(panel.metrics) for panel in panels]
    line = 0.4 if len(values.published) else 0.29
    size = (COLUMN_IN, 0.4 + line * sum(heights) + 0.42 * len(panels))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(grid, panels, strict=True):
        for stage, (colour, marker, shift) in zip(stages, _LOOKS, strict=True):
            beside = _BESIDE if len(values.published) else 0
            measured, published = (frame[frame["stage"] == stage] for frame in values)
            _draw_stage(axes, panel, measured, (colour, marker, shift - beside))
            _draw_published(axes, panel, published, (colour, shift + beside))
        style_lines(axes, [metric.label for metric in panel.metrics], grid="x", num_ticks=7)
        axes.set(xlim=panel.limits, xlabel=value_label("Value", panel.unit))
    grid[0].set_title(title, loc="left", fontweight="bold")
    if values.few:
        grid[0].set_title(f"n < {MIN_PATIENTS} patients", loc="right", color=GREY)
    handles: list[tuple[Any, str]] = [
        (Line2D([], [], color=colour, marker=marker, markersize=4, linestyle=""), stage)
        for stage, (colour, marker, _) in zip(stages, _LOOKS, strict=True)
    ]
    if len(values.published):
        spread = {"linestyle": ":", "linewidth": 0.9} if values.published["sd"].notna().any() else {}
        handles.append((Line2D([], [], color=GREY, **{**_DIAMOND, **spread}), "paper"))
    handles += [] if values.few else deviation_handles(GREY)
    look = {"ncols": 3, "handletextpad": 0.5, "columnspacing": 1}
    figure.legend(*zip(*handles, strict=True), loc="outside upper right", **look)
    return figure


def _draw_stage(axes: Any, panel: _Panel, values: pd.DataFrame, look: tuple[str, str, float]) -> None:
    colour, marker, shift = look
    point = {"marker": marker, "markersize": 3.6, "markeredgecolor": "white", "markeredgewidth": 0.4}
    rows = _by_height(panel, values, shift)
    draw_deviations(axes, rows, colour)
    axes.plot([row["mean"] for row in rows.values()], [*rows], color=colour, linestyle="", **point)


def _draw_published(axes: Any, panel: _Panel, values: pd.DataFrame, look: tuple[str, float]) -> None:
    """Draws what a paper says of a stage, with its deviations where it has any."""
    colour, shift = look
    rows = _by_height(panel, values.drop_duplicates("metric"), shift)
    if not rows:
        return
    deviations = spans({y: (row["mean"], row["sd"]) for y, row in rows.items()})
    axes.plot(*deviations, ":", color=colour, linewidth=0.9)
    axes.plot([row["mean"] for row in rows.values()], [*rows], color=colour, **_DIAMOND)


def _by_height(panel: _Panel, values: pd.DataFrame, shift: float) -> dict[float, Record]:
    rows = values.set_index("metric").to_dict("index")
    heights = {y + shift: metric.name for y, metric in enumerate(panel.metrics)}
    return {y: rows[name] for y, name in heights.items() if name in rows}
