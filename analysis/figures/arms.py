"""Arms against the baseline on one hold-out: difference in Dice with both intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.comparison import MIN_PATIENTS, MIN_REPETITIONS
from analysis.figures.style import AFTER, COLUMN_IN, GREY, Picture, drawing
from analysis.results import StudyResults
from analysis.selection import ALL
from analysis.tables.differences import Found
from analysis.tables.model import file_name
from analysis.tables.notes import data_notes, incomplete_note
from analysis.tuning import tuned_notes

_SHIFT = 0.14


def arms_picture(results: StudyResults, found: Sequence[Found], *, label: str) -> Picture | None:
    """Returns the differences in Dice to the baseline of all arms; None where none is known."""
    rows = []
    for comparison, frame in found:
        own = frame[(frame["pathology"] == ALL) & (frame["metric"] == "DICE") & frame["difference"].notna()]
        rows += [(comparison.second.arm, record) for record in own.to_dict("records")]
    if not rows:
        return None
    comparison = found[0][0]
    baseline, stage = comparison.first.arm, comparison.second.stage
    where = f"{comparison.section}.{comparison.part}"
    with drawing():
        figure = _draw(rows, baseline)
    few = [arm for arm, row in rows if row["num_repetitions"] < MIN_REPETITIONS]
    record: Any = pd.DataFrame([row for _, row in rows])
    return Picture(
        name=f"fig{label}_arms_{stage}_on_{file_name(f'{comparison.section}_{comparison.part}')}",
        title=f"Figure {label}: difference in Dice to arm {baseline}, stage {stage} on {where}",
        caption=(
            f"Paired by repetition ({_range(record['num_repetitions'])}) and image "
            f"({_range(record['num_images'])} of {_range(record['num_patients'])} patients).",
            "Upper bar: 95 % t interval over repetitions; lower bar: 95 % bootstrap interval over patients; "
            "neither is adjusted for the number of arms.",
            *(
                [f"No interval over repetitions below {MIN_REPETITIONS} of them: {', '.join(few)}."]
                if few
                else []
            ),
            f"No interval over patients below {MIN_PATIENTS} of them.",
            *tuned_notes(results, stage, [arm for arm, _ in rows]),
            *incomplete_note(results, [stage]),
            *data_notes(results, [comparison.section], results.cases),
        ),
        figure=figure,
    )


def _range(values: Any) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _draw(rows: list[tuple[str, Any]], baseline: str) -> Figure:
    figure = Figure(figsize=(COLUMN_IN, 0.85 + 0.27 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="#333333", linewidth=0.7)
    for place, (_, row) in enumerate(rows):
        for unit, colour, shift in (("repetition", AFTER, -_SHIFT), ("patient", GREY, _SHIFT)):
            low, high = row[f"{unit}_low"], row[f"{unit}_high"]
            if low == low:
                axes.plot([low, high], [place + shift] * 2, color=colour, solid_capstyle="butt")
        axes.plot([row["difference"]], [place], "o", color="black", markersize=3.2)
    axes.set_yticks(range(len(rows)), [arm for arm, _ in rows])
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.margins(x=0.08)
    axes.set_xlabel(f"Dice, difference to {baseline} (dimensionless)")
    handles = [
        Line2D([], [], color=AFTER, label="over repetitions"),
        Line2D([], [], color=GREY, label="over patients"),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=2, columnspacing=1)
    return figure
