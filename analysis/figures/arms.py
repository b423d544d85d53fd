"""Arms at a glance on one hold-out: what each reaches in Dice, and its paired difference to the baseline."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.figures.style import AFTER, PAGE_IN, Picture, drawing
from xferlab.analysis.selection import ALL
from xferlab.analysis.tables.arms import MAIN, ArmsRequest
from xferlab.analysis.tables.inference import INTERVAL, inference_caption, inference_notes
from xferlab.analysis.tables.model import file_name
from xferlab.analysis.tables.notes import data_notes, incomplete_note
from xferlab.analysis.tuning import tuned_notes

_Line = tuple[str, dict[Any, Any] | str, dict[Any, Any] | None]
"""Names of arms, what they reach (or `0 of m` repetitions), and their difference to the baseline."""


def arms_picture(request: ArmsRequest, *, label: str) -> Picture | None:
    """Returns all arms on a hold-out, all pathologies together; None where no difference is known."""
    lines = _lines(request)
    compared = [found for _, _, found in lines if found]
    if not compared:
        return None
    results, evaluated = request.results, request.evaluated
    with drawing():
        figure = _draw(lines, results.baseline)
    return Picture(
        name=f"fig{label}_arms_{evaluated.stage}_on_{file_name(f'{evaluated.section}_{evaluated.part}')}",
        title=f"Figure {label}: arms at a glance, stage {evaluated.stage} on {evaluated.name}",
        caption=(
            "Left: Dice, mean over repetitions; thick bars: ± sample SD over repetitions; thin bars: ± SD "
            "over images.",
            *(["0 of m: no repetition is complete."] if request.unmeasured else []),
            f"Right: difference to {results.baseline}, paired by repetition "
            f"({_range(compared, 'num_repetitions')}) and image "
            f"({_range(compared, 'num_images')} of {_range(compared, 'num_patients')} patients).",
            f"Bars: {INTERVAL}, dotted where there is no p; not adjusted for the number of arms.",
            *inference_caption(request.found),
            *inference_notes(pd.DataFrame(compared)),
            *tuned_notes(results, evaluated.stage, results.arms),
            *incomplete_note(results, [evaluated.stage]),
            *data_notes(results, [evaluated.section], results.cases),
        ),
        figure=figure,
    )


def _lines(request: ArmsRequest) -> list[_Line]:
    rows, differences = request.rows, request.differences()
    rows = rows[(rows["metric"] == MAIN) & (rows["pathology"] == ALL)].set_index("arm")
    apart = differences[differences["pathology"] == ALL].set_index("arm")
    return [
        (
            request.name(arms),
            rows.loc[arms[0]].to_dict() if arms[0] in rows.index else request.repetitions(arms),
            apart.loc[arms[0]].to_dict() if arms[0] in apart.index else None,
        )
        for arms in request.groups
    ]


def _range(compared: list[dict[Any, Any]], name: str) -> str:
    values = [int(row[name]) for row in compared]
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _draw(lines: list[_Line], baseline: str) -> Figure:
    figure = Figure(figsize=(PAGE_IN, 0.8 + 0.22 * len(lines)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    right.axvline(0, color="#333333", linewidth=0.7)
    for place, (_, reached, apart) in enumerate(lines):
        if isinstance(reached, str):
            left.text(0.5, place, reached, transform=left.get_yaxis_transform(), ha="center", va="center")
            continue
        if place == 0:  # the baseline
            left.axvline(reached["mean"], color="#333333", linewidth=0.5, linestyle=":")
        _reached(left, reached, place)
        if apart:
            _apart(right, apart, place)
    left.set_yticks(range(len(lines)), [arm for arm, _, _ in lines])
    left.set_ylim(len(lines) - 0.45, -0.55)
    for axes, name in ((left, "Dice"), (right, f"Dice, difference to {baseline}")):
        axes.tick_params(axis="y", length=0)
        axes.grid(color="#DDDDDD", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.margins(x=0.06)
        axes.set_xlabel(f"{name} (dimensionless)")
    return figure


def _reached(axes: Any, row: dict[Any, Any], y: float) -> None:
    mean = float(row["mean"])
    if row["num_patients"] >= MIN_PATIENTS:
        for column, look in (
            ("sd_images", {"color": "#333333", "linewidth": 0.7}),
            ("sd_repetitions", {"color": AFTER, "linewidth": 3.2, "alpha": 0.5}),
        ):
            if (sd := float(row[column])) == sd:
                axes.plot([mean - sd, mean + sd], [y, y], solid_capstyle="butt", **look)
    axes.plot([mean], [y], "o", color="black", markersize=3.2)


def _apart(axes: Any, row: dict[Any, Any], y: float) -> None:
    if row["low"] == row["low"]:
        style = ":" if row["no_p"] else "-"
        axes.plot([row["low"], row["high"]], [y, y], style, color=AFTER, solid_capstyle="butt")
    axes.plot([row["difference"]], [y], "o", color="black", markersize=3.2)
