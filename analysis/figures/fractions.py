"""What a stage reaches by the share of its training patients: as it is, and relative to all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.style import LOOKS, PAGE_IN, Picture, drawing, legend, value_label
from xferlab.analysis.fractions import Series
from xferlab.analysis.tables.fractions import Fractions, fractions
from xferlab.analysis.tables.model import Record, heading_of
from xferlab.analysis.tables.notes import INTERVAL, data_notes, inference_caption, inference_notes

_ASIDE = 0.035
"""Share of the axis' decade by which the points of a series stand beside those of the next."""


class _Point(NamedTuple):
    """A value, the ends of its bar, and how the bar is drawn."""

    value: float
    low: float
    high: float
    style: str = "-"


_Points = Mapping[float, _Point]
"""Points of a series by share."""


def fractions_pictures(contents: Contents) -> Iterator[Picture]:
    """Yields a figure for each set on which arms of several shares are measured."""
    for known in fractions(contents):
        if len(known.differences):
            yield _picture(known)


def _picture(known: Fractions) -> Picture:
    results, evaluated, metric = known.contents.results, known.evaluated, known.metrics[0]
    return Picture(
        name=known.name,
        title=(
            f"{heading_of(metric)} by the share of the labels, stage {evaluated.stage} on {evaluated.name}"
        ),
        caption=(
            f"(a) {metric.label}: mean over repetitions; bars: ± sample SD over repetitions. (b) The same "
            "relative to the mean with most labels, paired by repetition and image.",
            f"Bars in (b): {INTERVAL} of the difference, over that mean, which is held to be known; dotted "
            "where there is no p.",
            "Each line is a series: arms that differ in nothing but the share of the training patients. "
            "Shares have a logarithmic axis; points that would hide each other stand side by side.",
            *inference_caption(list(known.contrasts.values())),
            *inference_notes(known.differences),
            *data_notes(results, [evaluated.stage], [evaluated.section]),
        ),
        figure=_draw(known),
        subject=known.subject,
    )


@drawing()
def _draw(known: Fractions) -> Figure:
    metric = known.metrics[0]
    figure = Figure(figsize=(PAGE_IN, 2.7), layout="constrained")
    left, right = figure.subplots(1, 2)
    right.axhline(1, color="#333333", linewidth=0.5, linestyle=":")
    shares = sorted({share for series in known.series for share in series.arms})
    looks = {series.whole: LOOKS[at % len(LOOKS)] for at, series in enumerate(known.series)}
    for at, series in enumerate(known.series):
        aside = 10 ** (_ASIDE * (at - (len(known.series) - 1) / 2))
        look = looks[series.whole]
        _draw_series(left, _reached(known, series), look, aside=aside)
        _draw_series(right, _relative(known, series), look, aside=aside)
    for axes, letter in ((left, "a"), (right, "b")):
        _style(axes, shares)
        axes.set_title(f"({letter})", loc="left")
    left.set_ylabel(value_label(metric.label, metric.unit))
    right.set_ylabel(f"{metric.label}, relative")
    bars = [(Line2D([], [], color="black"), f"(a) SD over repetitions, (b) {INTERVAL}")]
    legend(figure, looks, linestyle="-", more=bars)
    return figure


def _style(axes: Any, shares: Sequence[float]) -> None:
    """Names the shares on a logarithmic axis, on which no share (0) lies at its left end."""
    least = min(share for share in shares if share > 0)
    axes.set_xscale("symlog", linthresh=least, linscale=0.3)
    axes.set_xticks(shares, [f"{100 * share:.3g}" for share in shares])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlim=(min(shares) / 1.25 if min(shares) else -0.3 * least, max(shares) * 1.25), axisbelow=True)
    axes.set_xlabel("Share of the training patients (%)")
    axes.grid(color="#DDDDDD", linewidth=0.5)


def _reached(known: Fractions, series: Series) -> _Points:
    rows = known.rows[known.rows["metric"] == known.metrics[0].name].set_index("arm").to_dict("index")
    return {share: _with_sd(rows[arm]) for share, arm in series.arms.items() if arm in rows}


def _with_sd(row: Record) -> _Point:
    """Returns a mean with the ends of its deviation; no bar where too few patients have one."""
    deviation = row["sd_repetitions"] if row["num_patients"] >= MIN_PATIENTS else float("nan")
    return _Point(row["mean"], row["mean"] - deviation, row["mean"] + deviation)


def _relative(known: Fractions, series: Series) -> _Points:
    rows = known.differences.set_index("arm").to_dict("index")
    points = {
        share: _Point(row["relative"], row["relative_low"], row["relative_high"], ":" if row["no_p"] else "-")
        for share, arm in series.arms.items()
        if (row := rows.get(arm))
    }
    return {next(iter(series.arms)): _Point(1.0, 1.0, 1.0), **points} if points else {}


def _draw_series(axes: Any, points: _Points, look: tuple[str, str], *, aside: float) -> None:
    colour, marker = look
    x = [share * aside for share in points]
    axes.plot(x, [point.value for point in points.values()], color=colour, marker=marker, markersize=4)
    for place, point in zip(x, points.values(), strict=True):
        ends = [point.low, point.high]
        axes.plot([place] * 2, ends, point.style, color=colour, linewidth=1.4, solid_capstyle="butt")
