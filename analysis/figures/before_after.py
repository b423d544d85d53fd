"""Two stages on the same hold-out, metric by metric, for one pathology."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.figures.style import AFTER, BEFORE, COLUMN_IN, GREY, Picture, drawing
from xferlab.analysis.reference import Reference
from xferlab.analysis.results import StudyResults
from xferlab.analysis.selection import ChainPair, ordered_metrics
from xferlab.analysis.tables.model import file_name
from xferlab.analysis.tables.notes import data_notes, incomplete_note
from xferlab.metrics.catalogue import Metric

_SHIFT = 0.17


@dataclass(frozen=True, eq=False)
class BeforeAfter:
    """What a before/after figure is made of.

    Attributes:
        results: The study.
        aggregated: What `aggregate` returned.
        pair: The two stages and their hold-out.
        arm: Whose stages.
        reference: Published values to mark beside, if any.
    """

    results: StudyResults
    aggregated: pd.DataFrame
    pair: ChainPair
    arm: str
    reference: Reference | None = None

    def rows(self, stage: str, pathology: str | None = None) -> pd.DataFrame:
        """Returns the aggregated rows of one stage, with a pathology indexed by metric."""
        a, pair = self.aggregated, self.pair
        own = (a["arm"] == self.arm) & (a["stage"] == stage)
        own &= (a["section"] == pair.section) & (a["part"] == pair.part)
        own &= a["pathology"] == pathology if pathology else True
        return a[own].set_index("metric")


def before_after_picture(request: BeforeAfter, pathology: str, *, label: str) -> Picture | None:
    """Returns the paper's metrics of both stages for one pathology; None where a stage has no result."""
    before, after = (request.rows(stage, pathology) for stage in (request.pair.before, request.pair.after))
    metrics = ordered_metrics(before.index.intersection(after.index), in_paper=True)
    if not metrics:
        return None
    with drawing():
        figure = _draw(request, pathology, metrics, {request.pair.before: before, request.pair.after: after})
    pair = request.pair
    few = after["num_patients"].iloc[0] < MIN_PATIENTS
    return Picture(
        name=f"fig{label}_{file_name(pathology)}_{pair.before}_to_{pair.after}_{request.arm}",
        title=f"Figure {label}: stages {pair.before} and {pair.after} on {pair.section}.{pair.part}, "
        f"{pathology}, arm {request.arm}",
        caption=(
            f"{_counts(request, before, after)}.",
            f"n < {MIN_PATIENTS} patients: no deviations are drawn."
            if few
            else "Thick bars: ± sample SD over repetitions; thin bars: ± sample SD over images "
            "(of an image's mean over repetitions).",
            *_paper_sentence(request, pathology),
            *incomplete_note(request.results, [pair.before, pair.after]),
            *data_notes(request.results, [pair.section], request.results.cases),
        ),
        figure=figure,
    )


def _paper_sentence(request: BeforeAfter, pathology: str) -> list[str]:
    if request.reference is None or not _marked(request, pathology):
        return []
    return [f"Diamonds: {request.reference.name}, Tables 5 and 6, another cohort."]


def _counts(request: BeforeAfter, before: pd.DataFrame, after: pd.DataFrame) -> str:
    first = after.iloc[0]
    done = "; ".join(
        f"{stage}: {own['num_repetitions'].iloc[0]} of {own['num_planned'].iloc[0]} repetitions"
        for stage, own in ((request.pair.before, before), (request.pair.after, after))
    )
    return f"{first['num_images']} images of {first['num_patients']} patients; {done}"


def _draw(
    request: BeforeAfter, pathology: str, metrics: tuple[Metric, ...], sides: dict[str, pd.DataFrame]
) -> Figure:
    figure = Figure(figsize=(COLUMN_IN, 0.62 + 0.29 * len(metrics)), layout="constrained")
    axes = figure.subplots()
    styles = ((BEFORE, "s", -_SHIFT), (AFTER, "o", _SHIFT))
    for (stage, own), (colour, marker, shift) in zip(sides.items(), styles, strict=True):
        for place, metric in enumerate(metrics):
            _point(axes, own.loc[metric.name], place + shift, (colour, marker))
        _published(axes, request, (stage, pathology, shift), metrics)
    axes.set_yticks(range(len(metrics)), [metric.label for metric in metrics])
    axes.set_ylim(len(metrics) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlim(*_limits(request))
    axes.set_xlabel("Value (dimensionless)")
    axes.set_title(pathology, loc="left", fontweight="bold")
    if min(own["num_patients"].iloc[0] for own in sides.values()) < MIN_PATIENTS:
        axes.set_title(f"n < {MIN_PATIENTS} patients", loc="right", color=GREY)
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=4, linestyle="", label=stage)
        for stage, (colour, marker, _) in zip(sides, styles, strict=True)
    ]
    if _marked(request, pathology):
        handles.append(_diamond(GREY, label="paper"))
    figure.legend(
        handles=handles, loc="outside upper right", ncols=len(handles), handletextpad=0.2, columnspacing=1
    )
    return figure


def _point(axes: Any, row: Any, y: float, look: tuple[str, str]) -> None:
    colour, marker = look
    mean = float(row["mean"])
    if row["num_patients"] >= MIN_PATIENTS:
        for column, width, alpha in (("sd_images", 0.9, 1.0), ("sd_repetitions", 3.2, 0.45)):
            sd = float(row[column])
            if sd == sd:
                axes.plot(
                    [mean - sd, mean + sd],
                    [y, y],
                    color=colour,
                    linewidth=width,
                    alpha=alpha,
                    solid_capstyle="butt",
                )
    axes.plot(
        [mean], [y], color=colour, marker=marker, markersize=3.6, markeredgecolor="white", markeredgewidth=0.4
    )


def _published(
    axes: Any, request: BeforeAfter, place: tuple[str, str, float], metrics: tuple[Metric, ...]
) -> None:
    stage, pathology, shift = place
    if request.reference is None:
        return
    rows = request.reference.rows(stage=stage, section=request.pair.section, part=request.pair.part)
    means = rows[rows["pathology"] == pathology].set_index("metric")["mean"]
    for y, metric in enumerate(metrics):
        if metric.name in means.index:
            diamond = _diamond(BEFORE if shift < 0 else AFTER)
            diamond.set_data([float(means[metric.name])], [y + shift])
            axes.add_line(diamond)


def _diamond(colour: str, *, label: str = "") -> Line2D:
    return Line2D(
        [],
        [],
        color=colour,
        marker="D",
        markersize=3,
        markerfacecolor="white",
        markeredgewidth=0.8,
        linestyle="",
        label=label,
    )


def _marked(request: BeforeAfter, pathology: str) -> bool:
    if request.reference is None:
        return False
    pair = request.pair
    rows = request.reference.rows(stage=pair.after, section=pair.section, part=pair.part)
    return bool((rows["pathology"] == pathology).any())


def _limits(request: BeforeAfter) -> tuple[float, float]:
    """Returns the range of all pathologies, so that an arm's figures compare."""
    rows = pd.concat([request.rows(request.pair.before), request.rows(request.pair.after)])
    rows = rows.loc[rows.index.isin([metric.name for metric in ordered_metrics(rows.index, in_paper=True)])]
    spread = (
        rows[["sd_images", "sd_repetitions"]]
        .max(axis=1)
        .where(rows["num_patients"] >= MIN_PATIENTS, 0)
        .fillna(0)
    )
    low, high = float((rows["mean"] - spread).min()), float((rows["mean"] + spread).max())
    if request.reference is not None:
        values = request.reference.values
        held = values[values["part"] == request.pair.part]["mean"]
        low, high = min(low, float(held.min())), max(high, float(held.max()))
    margin = 0.03 * max(high - low, 1e-3)
    return low - margin, high + margin
