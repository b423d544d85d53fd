"""What each arm reaches, with an interval over repetitions: where the study's paper has such a figure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.contents import Contents
from xferlab.analysis.estimates import CONFIDENCE
from xferlab.analysis.figures.style import (
    AFTER,
    GREY,
    PAGE_IN,
    Picture,
    drawing,
    legend,
    style_lines,
    value_label,
)
from xferlab.analysis.published.paper import Shows, is_shown
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import ALL
from xferlab.analysis.tables.model import Record, heading_of
from xferlab.analysis.tables.notes import data_notes
from xferlab.metrics.metric import Metric

_KIND = "reached"
_LEVEL = f"{100 * CONFIDENCE:g} %"


def reached_pictures(contents: Contents) -> Iterator[Picture]:
    """Yields a figure for each that the study's paper has of one metric on a part of a section."""
    for shows in contents.paper.figures.values() if contents.paper else ():
        if shows["kind"] == _KIND:
            metric = contents.results.metrics.named(shows["metric"])
            sets = [each for each in contents.plain_sets if is_shown(shows, {**shows, **vars(each)})]
            if lines := [line for evaluated in sets for line in _lines(contents, evaluated, metric)]:
                yield _picture(contents, lines, (metric, shows))


def _lines(contents: Contents, evaluated: EvaluationSet, metric: Metric) -> Iterator[Record]:
    """Yields names, mean, ends of the interval, and the paper's mean of each group of arms."""
    rows = evaluated.rows(contents.aggregated)
    is_shown = (rows["metric"] == metric.name) & (rows["pathology"] == ALL) & rows["mean"].notna()
    reached = rows[is_shown].set_index("arm").to_dict("index")
    published = contents.published(evaluated)
    published = published[published["metric"] == metric.name]
    means = dict(zip(published["arm"], published["mean"], strict=True))
    for arms in contents.results.arms_by_evaluations(evaluated):
        if row := reached.get(arms[0]):
            paper = next((means[arm] for arm in arms if arm in means), math.nan)
            yield {"name": f"{evaluated.stage}: {', '.join(arms)}", "paper": paper, **_interval(row)}


def _interval(row: Record) -> Record:
    """Returns the mean of a row with the ends of its t interval over repetitions; NaN where there is none."""
    from scipy import special

    num, half = int(row["num_repetitions"]), math.nan
    if num > 1 and row["num_patients"] >= MIN_PATIENTS:
        half = float(special.stdtrit(num - 1, (1 + CONFIDENCE) / 2)) * row["sd_repetitions"] / math.sqrt(num)
    return {"mean": row["mean"], "low": row["mean"] - half, "high": row["mean"] + half}


def _picture(contents: Contents, lines: Sequence[Record], what: tuple[Metric, Shows]) -> Picture:
    metric, shows = what
    place = f"{shows['section']}.{shows['part']}"
    return Picture(
        name=f"{_KIND}_{metric.name}_on_{shows['section']}_{shows['part']}",
        title=f"{heading_of(metric)} of each arm on {place}",
        caption=(
            f"Points: mean over repetitions. Bars: {_LEVEL} t interval over repetitions.",
            "Repetitions share training patients, so that these bars are too short to compare arms by.",
            "Diamonds: the paper's means, of another cohort.",
            *data_notes(contents.results, (), [shows["section"]]),
        ),
        figure=_draw(lines, value_label(metric.label, metric.unit)),
        subject=shows,
    )


@drawing()
def _draw(lines: Sequence[Record], label: str) -> Figure:
    figure = Figure(figsize=(PAGE_IN, 1.0 + 0.24 * len(lines)), layout="constrained")
    axes = figure.subplots()
    for y, line in enumerate(lines):
        axes.plot([line["low"], line["high"]], [y, y], color=AFTER, linewidth=1.4)
    heights = range(len(lines))
    axes.plot([line["mean"] for line in lines], heights, "o", color="black", markersize=3.2)
    axes.plot([line["paper"] for line in lines], heights, "D", color=GREY, markersize=3, fillstyle="none")
    style_lines(axes, [line["name"] for line in lines])
    axes.set(xmargin=0.06, xlabel=label)
    bars = [(Line2D([], [], color=AFTER), f"{_LEVEL} interval over repetitions")]
    legend(figure, {"Mean": ("black", "o"), "paper": (GREY, "D")}, more=bars)
    return figure
