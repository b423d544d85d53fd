"""Deep features of an arm: similarity of its stages and how far its weights moved, layer by layer."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.features import CKA, DISTANCE, SHARE_MOVED, DeepFeatures
from analysis.figures.style import PAGE_IN, Picture, drawing
from analysis.tables.features import reading
from analysis.tables.notes import data_notes, incomplete_note

# Okabe and Ito's palette; the shape tells lines apart without colour.
_LOOKS = (
    ("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"),
    ("#56B4E9", "P"), ("#6B6B6B", "X"),
)  # fmt: skip
_PANELS = (
    (CKA, "CKA (dimensionless)"),
    (DISTANCE, "Distance of weights\n||W − W0|| / ||W0||"),
    (SHARE_MOVED, "Share of filters\nthat moved"),
)
_SHIFT = 0.09


def features_picture(features: DeepFeatures, arms: tuple[str, ...], *, label: str) -> Picture | None:
    """Returns the layers of arms that share their trials; None where nothing of them is known."""
    own = features.summary[features.summary["arm"] == arms[0]]
    if not len(own):
        return None
    results, stages = features.results, set(own["after"])
    with drawing():
        figure = _draw(features, own, arms[0])
    low, high = int(own["num_repetitions"].min()), int(own["num_repetitions"].max())
    several = "Bars: ± sample SD over them." if high > 1 else "One repetition: no deviation."
    return Picture(
        name=f"fig{label}_features_{arms[0]}",
        title=f"Figure {label}: deep features of stages compared, arm {', '.join(arms)}",
        caption=(
            f"Points: mean over {low if low == high else f'{low} to {high}'} repetitions. {several}",
            *reading(features),
            *incomplete_note(results, stages),
            *data_notes(results, [features.section], results.cases),
        ),
        figure=figure,
    )


def _draw(features: DeepFeatures, own: pd.DataFrame, arm: str) -> Figure:
    figure = Figure(figsize=(PAGE_IN, 2.9), layout="constrained")
    panels = figure.subplots(1, len(_PANELS), width_ratios=[1.3, 1, 1])
    pairs = features.pairs(CKA, arm)
    looks = {pair: _LOOKS[place % len(_LOOKS)] for place, pair in enumerate(pairs)}
    for axes, (quantity, name) in zip(panels, _PANELS, strict=True):
        for place, pair in enumerate(pairs):
            rows = own[(own["quantity"] == quantity) & (own["before"] == pair[0]) & (own["after"] == pair[1])]
            shift = (place - (len(pairs) - 1) / 2) * _SHIFT
            _line(axes, rows.set_index("layer").reindex(features.layers), looks[pair], shift)
        _dress(axes, features.layers, name, is_share=quantity != DISTANCE)
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=3.5, label=f"{before} to {after}")
        for (before, after), (colour, marker) in looks.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def _line(axes: Any, rows: pd.DataFrame, look: tuple[str, str], shift: float) -> None:
    if not rows["mean"].notna().any():
        return
    places = [place + shift for place in range(len(rows))]
    axes.errorbar(
        places,
        rows["mean"],
        yerr=rows["sd_repetitions"].fillna(0),
        color=look[0],
        marker=look[1],
        markersize=3.2,
        linewidth=1,
        elinewidth=0.7,
        clip_on=False,
    )


def _dress(axes: Any, layers: tuple[str, ...], name: str, *, is_share: bool) -> None:
    axes.set_xticks(range(len(layers)), layers, rotation=90)
    axes.set_xlim(-0.5, len(layers) - 0.5)
    axes.set_ylabel(name)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_ylim(0, 1.02 if is_share else None)
