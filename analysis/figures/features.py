"""Deep features of an arm: similarity of its stages and how far its weights moved, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xferlab.analysis.contents import Contents
from xferlab.analysis.features import CKA, DISTANCE, SHARE_MOVED, DeepFeatures
from xferlab.analysis.figures.style import LOOKS, PAGE_IN, Picture, drawing, legend
from xferlab.analysis.selection import detailed_arms
from xferlab.analysis.tables.features import reading
from xferlab.analysis.tables.notes import arm_names, data_notes

_PANELS = {
    CKA: "CKA",
    DISTANCE: "Distance of weights\n||W − W0|| / ||W0||",
    SHARE_MOVED: "Share of filters\nthat moved",
}
_BAR = 0.7
_TOP = {CKA: 1.02, SHARE_MOVED: 1.02}
"""Where axes of shares end."""
_SHIFT = 0.2
"""Between points of one layer, in steps from layer to layer: equal values stay apart."""


def features_pictures(contents: Contents) -> Iterator[Picture]:
    """Yields the layers of each detailed arm, and one map of all arms where there are more."""
    features, detailed = contents.deep, set(detailed_arms(contents.results))
    for arms in features.groups:
        if detailed & set(arms):
            yield _picture(features, arms)
    last = contents.results.stages[-1]
    summary = features.summary[features.summary["after"] == last]
    groups = [arms for arms in features.groups if arms[0] in set(summary["arm"])]
    if groups and any(not detailed & set(arms) for arms in features.groups):
        yield _map_picture(features, groups, last)


def _picture(features: DeepFeatures, arms: tuple[str, ...]) -> Picture:
    summary = features.summary[features.summary["arm"] == arms[0]]
    low, high = int(summary["num_repetitions"].min()), int(summary["num_repetitions"].max())
    several = "Bars: ± sample SD over them." if high > 1 else "One repetition: no deviation."
    return Picture(
        name=f"features_{arms[0]}",
        title=f"deep features of stages compared, arm {', '.join(arms)}",
        caption=(
            f"Points: mean over {low if low == high else f'{low} to {high}'} repetitions. {several}",
            *reading(features),
            *data_notes(features.results, summary["after"], [features.section], of_metrics=False),
        ),
        figure=_draw(features, summary, features.pairs(CKA, arms[0])),
        subject={"kind": "features"},
    )


def _map_picture(features: DeepFeatures, groups: list[tuple[str, ...]], last: str) -> Picture:
    """Returns similarity and change of every arm and layer, from the parent to the last stage."""
    return Picture(
        name=f"features_all_arms_{last}",
        title=f"deep features of stage {last} against what it started from, all arms",
        caption=(
            "Mean over repetitions. White: not defined. The table has the deviations.",
            *reading(features),
            *data_notes(features.results, [last], [features.section], of_metrics=False),
        ),
        figure=_draw_map(features, groups, last),
        subject={"kind": "features of all arms"},
    )


@drawing()
def _draw_map(features: DeepFeatures, groups: list[tuple[str, ...]], last: str) -> Figure:
    figure = Figure(figsize=(PAGE_IN, 1.25 + 0.17 * len(groups)), layout="constrained")
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    chains, summary = features.results.plan["arms"], features.summary
    origins = {arms[0]: chains[arms[0]]["stages"][last]["starts_from"] for arms in groups}
    last_step = summary[(summary["after"] == last) & (summary["before"] == summary["arm"].map(origins))]
    for axes, (quantity, name) in zip(panels, _PANELS.items(), strict=True):
        means = last_step[last_step["quantity"] == quantity].pivot(
            index="arm", columns="layer", values="mean"
        )
        values = means.reindex(index=list(origins), columns=features.layers).to_numpy(float)
        top = None if quantity == DISTANCE else 1.0
        image = axes.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=top)
        axes.set_xticks(range(len(features.layers)), features.layers, rotation=90)
        axes.set_title(name.replace("\n", " "), fontsize=6.5)
        figure.colorbar(image, ax=axes, location="bottom", aspect=25, pad=0.06)
    panels[0].set_yticks(range(len(groups)), [arm_names(features.results, arms) for arms in groups])
    return figure


@drawing()
def _draw(features: DeepFeatures, summary: pd.DataFrame, pairs: list[tuple[str, str]]) -> Figure:
    figure = Figure(figsize=(PAGE_IN, 2.9), layout="constrained")
    panels = figure.subplots(1, len(_PANELS), width_ratios=[1.3, 1, 1])
    looks = {pair: LOOKS[order % len(LOOKS)] for order, pair in enumerate(pairs)}
    for axes, (quantity, name) in zip(panels, _PANELS.items(), strict=True):
        for order, (before, after) in enumerate(pairs):
            rows = summary[
                (summary["quantity"] == quantity)
                & (summary["before"] == before)
                & (summary["after"] == after)
            ]
            shift = (order - (len(pairs) - 1) / 2) * _SHIFT
            by_layer = rows.set_index("layer").reindex(features.layers)
            _draw_line(axes, by_layer, looks[before, after], shift, top=_TOP.get(quantity, np.inf))
        axes.set_xticks(range(len(features.layers)), features.layers, rotation=90)
        axes.set(xlim=(-0.5, len(features.layers) - 0.5), ylabel=name, axisbelow=True)
        axes.set_ylim(0, _TOP.get(quantity))
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.5)
    bars = [(Line2D([], [], color="black", linewidth=_BAR), "SD over repetitions")]
    known = summary["sd_repetitions"].notna().any()
    names = {f"{before} to {after}": look for (before, after), look in looks.items()}
    legend(figure, names, linestyle="-", more=bars if known else ())
    return figure


def _draw_line(axes: Any, rows: pd.DataFrame, look: tuple[str, str], shift: float, *, top: float) -> None:
    """Draws means with deviations, which end where the axes end."""
    if rows["mean"].notna().any():
        style = {"markersize": 3.8, "linewidth": 1, "elinewidth": _BAR, "clip_on": False}
        edge = {"markeredgecolor": "white", "markeredgewidth": 0.4}
        x, deviation = np.arange(len(rows)) + shift, rows["sd_repetitions"].fillna(0)
        ends = [np.minimum(deviation, rows["mean"]), np.minimum(deviation, top - rows["mean"])]
        axes.errorbar(x, rows["mean"], yerr=ends, color=look[0], marker=look[1], **style, **edge)
