"""Loss curves of a stage: mean and deviation over repetitions, and how many repetitions are left."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.style import COLUMN_IN, GREY, PAGE_IN, TRAIN, VALIDATION, Picture, drawing
from xferlab.analysis.results import StudyResults
from xferlab.analysis.selection import detailed_arms
from xferlab.analysis.tables.notes import arm_names, data_notes

_CURVES = {
    "train_loss": ("Training", TRAIN, "-"),
    "validation_loss": ("Validation", VALIDATION, (0, (4, 1.5))),
}
_ACROSS = 5


def loss_pictures(contents: Contents) -> Iterator[Picture]:
    """Yields the curves of each stage: a figure of each detailed arm, and panels of all if there are more."""
    results, detailed = contents.results, set(detailed_arms(contents.results))
    for stage in results.stages:
        groups = results.arms_by_trials(stage)
        histories = {arms: _history(results, stage, arms[0]) for arms in groups}
        known = {arms: history for arms, history in histories.items() if len(history)}
        yield from (_picture(results, stage, arms, known[arms]) for arms in known if detailed & set(arms))
        if known and any(not detailed & set(arms) for arms in groups):
            yield _panels_picture(results, stage, {arm_names(results, arms): known[arms] for arms in known})


def _history(results: StudyResults, stage: str, arm: str) -> pd.DataFrame:
    histories = results.histories
    return histories[(histories["arm"] == arm) & (histories["stage"] == stage)]


def _picture(results: StudyResults, stage: str, arms: Sequence[str], history: pd.DataFrame) -> Picture:
    num, planned = history["repetition"].nunique(), results.planned()[arms[0], stage]
    runs = results.runs
    kept = runs.loc[(runs["arm"] == arms[0]) & (runs["stage"] == stage), "best_epoch"].dropna()
    return Picture(
        name=f"loss_{stage}_{arms[0]}",
        title=f"training and validation loss, stage {stage}, arm {', '.join(arms)}",
        caption=(
            f"Lines: mean over the repetitions left at an epoch ({num} of {planned} repetitions complete).",
            "Bands: ± sample SD over those repetitions, where at least two are left."
            if num > 1
            else "One repetition: no deviation.",
            "Lower panel: repetitions left; they stop at different epochs, so later means are over fewer.",
            "Ticks above the epoch axis: epochs whose weights were kept.",
            *data_notes(results, [stage], _sections(results, stage)),
        ),
        figure=_draw(history, [int(epoch) for epoch in kept], planned),
        subject={"kind": "loss", "stage": stage},
    )


def _panels_picture(results: StudyResults, stage: str, histories: dict[str, pd.DataFrame]) -> Picture:
    return Picture(
        name=f"losses_{stage}",
        title=f"training and validation loss, stage {stage}, all arms",
        caption=(
            "Lines: mean over the repetitions left at an epoch; bands: ± sample SD over them.",
            "Arms of another loss have another scale: their heights do not compare.",
            *data_notes(results, [stage], _sections(results, stage)),
        ),
        figure=_draw_panels(histories),
        subject={"kind": "losses of all arms", "stage": stage},
    )


@drawing()
def _draw_panels(histories: dict[str, pd.DataFrame]) -> Figure:
    columns = min(_ACROSS, len(histories))
    rows = -(-len(histories) // columns)
    figure = Figure(figsize=(PAGE_IN, 0.5 + 1.05 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, sharex=True, squeeze=False).flat)
    for axes, (name, history) in zip(panels, histories.items(), strict=False):
        _draw_curves(axes, history)
        axes.set_title("\n".join(textwrap.wrap(name, 24)), loc="left", fontsize=6.5)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
    for axes in panels[len(histories) :]:
        axes.set_visible(False)
    for axes in panels[len(histories) - columns : len(histories)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("Epoch")
    figure.supylabel("Loss (dimensionless)", fontsize=7.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


def _draw_curves(axes: Any, history: pd.DataFrame) -> None:
    by_epoch, known = history.groupby("epoch"), [column for column in _CURVES if column in history]
    for column in known:
        mean, sd, (name, colour, dashes) = by_epoch[column].mean(), by_epoch[column].std(), _CURVES[column]
        alone = {"marker": "o", "markersize": 3} if len(mean) == 1 else {}
        axes.plot(mean.index, mean, color=colour, linestyle=dashes, label=name, **alone)
        axes.fill_between(mean.index, mean - sd, mean + sd, color=colour, alpha=0.18, linewidth=0)
    if float(history[known].min().min()) >= 0:
        axes.set_ylim(0, axes.get_ylim()[1] * 1.02)


@drawing()
def _draw(history: pd.DataFrame, kept: list[int], planned: int) -> Figure:
    figure = Figure(figsize=(COLUMN_IN, 2.9), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    _draw_curves(top, history)
    top.set_ylabel("Loss (dimensionless)")
    # In the axis' own height, so that it says nothing about loss.
    ticks = {"marker": "|", "markersize": 6, "markeredgewidth": 0.8, "color": "#222222", "clip_on": False}
    top.plot(kept, [0.03] * len(kept), linestyle="", transform=top.get_xaxis_transform(), **ticks)
    # Outside, where no curve of any study runs beneath it.
    figure.legend(*top.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    left = history.groupby("epoch")["repetition"].nunique()
    edges = np.append(left.index - 0.5, left.index[-1] + 0.5)
    bottom.stairs(left, edges, fill=True, color=GREY, alpha=0.35)
    bottom.stairs(left, edges, color=GREY, linewidth=0.9)
    bottom.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
    bottom.set(ylim=(0, planned * 1.15), yticks=[0, planned], ylabel="Repetitions\nleft")
    bottom.set(xlim=(edges[0], edges[-1]), xlabel="Epoch")
    figure.align_ylabels([top, bottom])
    return figure


def _sections(results: StudyResults, stage: str) -> list[str]:
    return sorted({trial["data"] for trial in results.plan["trials"] if trial["stage"] == stage})
