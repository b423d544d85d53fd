"""What foreign objects cost in Dice: the baseline by stage and pathology, and all arms side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xferlab.analysis.figures.style import LOOKS, PAGE_IN, Picture, drawing
from xferlab.analysis.selection import ALL, ordered_pathologies
from xferlab.analysis.tables.inference import INTERVAL, inference_caption, inference_notes
from xferlab.analysis.tables.model import file_name
from xferlab.analysis.tables.notes import data_notes, incomplete_note
from xferlab.analysis.tables.objects import SHOWN, ObjectCosts, object_of

_Points = dict[tuple[str, str, str], dict[Any, Any]]
"""What is known by object, line and stage."""


def object_costs_picture(costs: ObjectCosts, *, label: str) -> Picture | None:
    """Returns the cost of each object to the baseline, by pathology and stage; None where none is known."""
    arm = costs.results.baseline
    points = {
        (object_of(one), str(record["pathology"]), one.second.stage): record
        for (one, frame), arms in zip(costs.found, costs.arms, strict=True)
        if arm in arms
        for record in _records(frame)
    }
    lines = ordered_pathologies({line for _, line, _ in points})
    words = (f"fig{label}_objects", f"Figure {label}: what foreign objects cost arm {arm}, by pathology")
    return _picture(costs, points, lines, words)


def object_arms_picture(costs: ObjectCosts, *, label: str) -> Picture | None:
    """Returns the cost of each object to every arm and stage; None where there is one arm."""
    points = {
        (object_of(one), arm, one.second.stage): record
        for (one, frame), arms in zip(costs.found, costs.arms, strict=True)
        for record in _records(frame)
        if record["pathology"] == ALL
        for arm in arms
    }
    known = {line for _, line, _ in points}
    lines = [arm for arm in costs.results.arms if arm in known]
    if len(lines) < 2:
        return None
    words = (f"fig{label}_objects_by_arm", f"Figure {label}: what foreign objects cost, all arms")
    return _picture(costs, points, lines, words)


def _records(frame: Any) -> list[dict[Any, Any]]:
    found: list[dict[Any, Any]] = frame[(frame["metric"] == SHOWN) & frame["difference"].notna()].to_dict(
        "records"
    )
    return found


def _picture(
    costs: ObjectCosts, points: _Points, lines: Sequence[str], words: tuple[str, str]
) -> Picture | None:
    if not points:
        return None
    name, title = words
    results = costs.results
    stages = [stage for stage in results.stages if any(stage == s for _, _, s in points)]
    with drawing():
        figure = _draw(points, lines, stages)
    return Picture(
        name=f"{name}_on_{file_name(f'{costs.section}_{costs.part}')}",
        title=f"{title}, on {costs.section}.{costs.part}",
        caption=(
            "Difference in Dice: with one object of a kind on every image minus without, the same images and "
            "masks; left of 0 the object does harm.",
            f"Bars: {INTERVAL}, dotted where there is no p. Arms that share the trials of a stage show the "
            "same points in it.",
            *inference_caption(costs.found),
            *inference_notes(pd.DataFrame(list(points.values()))),
            *incomplete_note(results, stages),
            *data_notes(results, [costs.section], results.cases),
        ),
        figure=figure,
    )


def _draw(points: _Points, lines: Sequence[str], stages: Sequence[str]) -> Figure:
    objects = list(dict.fromkeys(kind for kind, _, _ in points))
    figure = Figure(figsize=(PAGE_IN, 0.9 + 0.2 * len(lines)), layout="constrained")
    panels = figure.subplots(1, len(objects), sharex=True, sharey=True, squeeze=False)[0]
    for axes, kind in zip(panels, objects, strict=True):
        axes.axvline(0, color="#333333", linewidth=0.7)
        for order, stage in enumerate(stages):
            shift = (order - (len(stages) - 1) / 2) * 0.3
            for place, line in enumerate(lines):
                if row := points.get((kind, line, stage)):
                    _point(axes, row, place + shift, LOOKS[order % len(LOOKS)])
        axes.set_title(kind, loc="left")
        axes.grid(color="#DDDDDD", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(lines)), lines)
    panels[0].set_ylim(len(lines) - 0.45, -0.55)
    figure.supxlabel("Dice, difference to the same images without (dimensionless)", fontsize=7.5)
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=3.5, linestyle="", label=f"stage {stage}")
        for stage, (colour, marker) in zip(stages, LOOKS, strict=False)
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles))
    return figure


def _point(axes: Any, row: dict[Any, Any], y: float, look: tuple[str, str]) -> None:
    colour, marker = look
    if row["low"] == row["low"]:
        style = ":" if row["no_p"] else "-"
        axes.plot([row["low"], row["high"]], [y, y], style, color=colour, linewidth=0.9)
    axes.plot([row["difference"]], [y], color=colour, marker=marker, markersize=3)
