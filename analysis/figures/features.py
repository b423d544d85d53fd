"""Deep features of an arm: similarity of its stages and how far its weights moved, layer by layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xferlab.analysis.features import CKA, DISTANCE, SHARE_MOVED, DeepFeatures
from xferlab.analysis.figures.style import LOOKS, PAGE_IN, Picture, drawing
from xferlab.analysis.tables.features import reading
from xferlab.analysis.tables.notes import arm_names, data_notes, incomplete_note

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


def features_map(features: DeepFeatures, *, label: str) -> Picture | None:
    """Returns similarity and change of every arm and layer, from the parent to the last stage.

    None where nothing is known.
    """
    results = features.results
    last = results.stages[-1]
    summary = features.summary[features.summary["after"] == last]
    groups = [arms for arms in features.groups if (summary["arm"] == arms[0]).any()]
    if not groups:
        return None
    with drawing():
        figure = _draw_map(features, summary, groups, last)
    return Picture(
        name=f"fig{label}_features_all_arms_{last}",
        title=f"Figure {label}: deep features of stage {last} against what it started from, all arms",
        caption=(
            "Mean over repetitions. White: not defined. The table has the deviations.",
            *reading(features),
            *incomplete_note(results, {last}),
            *data_notes(results, [features.section], results.cases),
        ),
        figure=figure,
    )


def _draw_map(
    features: DeepFeatures, summary: pd.DataFrame, groups: list[tuple[str, ...]], last: str
) -> Figure:
    figure = Figure(figsize=(PAGE_IN, 1.25 + 0.17 * len(groups)), layout="constrained")
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    chains = features.results.plan["arms"]
    for axes, (quantity, name) in zip(panels, _PANELS, strict=True):
        values = np.full((len(groups), len(features.layers)), np.nan)
        for place, arms in enumerate(groups):
            origin = chains[arms[0]]["stages"][last]["starts_from"]
            own = summary[(summary["arm"] == arms[0]) & (summary["quantity"] == quantity)]
            own = own[own["before"] == origin].set_index("layer")["mean"]
            values[place] = own.reindex(features.layers).to_numpy(float)
        top = None if quantity == DISTANCE else 1.0
        drawn = axes.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=top)
        axes.set_xticks(range(len(features.layers)), features.layers, rotation=90)
        axes.set_title(name.replace("\n", " "), fontsize=6.5)
        figure.colorbar(drawn, ax=axes, location="bottom", aspect=25, pad=0.02)
    named = [arm_names(features.results, arms) for arms in groups]
    panels[0].set_yticks(range(len(groups)), named)
    return figure


def _draw(features: DeepFeatures, own: pd.DataFrame, arm: str) -> Figure:
    figure = Figure(figsize=(PAGE_IN, 2.9), layout="constrained")
    panels = figure.subplots(1, len(_PANELS), width_ratios=[1.3, 1, 1])
    pairs = features.pairs(CKA, arm)
    looks = {pair: LOOKS[place % len(LOOKS)] for place, pair in enumerate(pairs)}
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
