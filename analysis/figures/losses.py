"""Loss curves of a stage: mean and deviation over repetitions, and how many repetitions are left."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from xferlab.analysis.figures.style import COLUMN_IN, GREY, PAGE_IN, TRAIN, VALIDATION, Picture, drawing
from xferlab.analysis.results import StudyResults
from xferlab.analysis.tables.notes import arm_names, data_notes, incomplete_note

_CURVES = (
    ("train_loss", "Training", TRAIN, "-"),
    ("validation_loss", "Validation", VALIDATION, (0, (4, 1.5))),
)
_ACROSS = 5


def loss_picture(results: StudyResults, stage: str, arms: Sequence[str], *, label: str) -> Picture | None:
    """Returns the loss curves of a stage of arms that share its trials; None without a complete trial."""
    own = (results.histories["arm"] == arms[0]) & (results.histories["stage"] == stage)
    history = results.histories[own]
    if not len(history):
        return None
    num = history["repetition"].nunique()
    planned = results.planned()[arms[0], stage]
    with drawing():
        figure = _draw(history, _kept(results, stage, arms[0]), planned)
    names = ", ".join(arms)
    return Picture(
        name=f"fig{label}_loss_{stage}_{arms[0]}",
        title=f"Figure {label}: training and validation loss, stage {stage}, arm {names}",
        caption=(
            f"Lines: mean over the repetitions left at an epoch ({num} of {planned} repetitions complete).",
            "Bands: ± sample SD over those repetitions, where at least two are left."
            if num > 1
            else "One repetition: no deviation.",
            "Lower panel: repetitions left; they stop at different epochs, so later means are over fewer.",
            "Ticks above the epoch axis: epochs whose weights were kept.",
            *incomplete_note(results, [stage]),
            *data_notes(results, _sections(results, stage), results.cases),
        ),
        figure=figure,
    )


def losses_picture(
    results: StudyResults, stage: str, groups: Sequence[tuple[str, ...]], *, label: str
) -> Picture | None:
    """Returns the loss curves of all arms of a stage, a panel each; None without a complete trial."""
    own = results.histories[results.histories["stage"] == stage]
    known = [(arms, own[own["arm"] == arms[0]]) for arms in groups]
    known = [(arms, history) for arms, history in known if len(history)]
    if not known:
        return None
    with drawing():
        figure = _draw_panels([(arm_names(results, arms), history) for arms, history in known])
    return Picture(
        name=f"fig{label}_losses_{stage}",
        title=f"Figure {label}: training and validation loss, stage {stage}, all arms",
        caption=(
            "Lines: mean over the repetitions left at an epoch; bands: ± sample SD over them.",
            "Arms of another loss have another scale: their heights do not compare.",
            *incomplete_note(results, [stage]),
            *data_notes(results, _sections(results, stage), results.cases),
        ),
        figure=figure,
    )


def _draw_panels(known: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    columns = min(_ACROSS, len(known))
    rows = -(-len(known) // columns)
    figure = Figure(figsize=(PAGE_IN, 0.5 + 1.05 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for axes, (name, history) in zip(grid.flat, known, strict=False):
        _curves(axes, history)
        axes.set_title("\n".join(textwrap.wrap(name, 24)), loc="left", fontsize=6.5)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
    for axes in grid.flat[len(known) :]:
        axes.set_visible(False)
    for place in range(len(known) - columns, len(known)):
        grid.flat[place].set_xlabel("Epoch")
        grid.flat[place].tick_params(labelbottom=True)
    figure.supylabel("Loss (dimensionless)", fontsize=7.5)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return figure


def _curves(axes: Any, history: pd.DataFrame) -> None:
    by_epoch = history.groupby("epoch")
    for column, name, colour, dashes in _CURVES:
        mean, sd = by_epoch[column].mean(), by_epoch[column].std()
        alone = {"marker": "o", "markersize": 3} if len(mean) == 1 else {}
        axes.plot(mean.index, mean, color=colour, linestyle=dashes, label=name, **alone)
        axes.fill_between(mean.index, mean - sd, mean + sd, color=colour, alpha=0.18, linewidth=0)
    if float(history[["train_loss", "validation_loss"]].min().min()) >= 0:
        axes.set_ylim(0, axes.get_ylim()[1] * 1.02)


def _draw(history: pd.DataFrame, kept: list[int], planned: int) -> Figure:
    figure = Figure(figsize=(COLUMN_IN, 2.9), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    left = history.groupby("epoch")["repetition"].nunique()
    _curves(top, history)
    top.set_ylabel("Loss (dimensionless)")
    # Outside, where no curve of any study runs beneath it.
    figure.legend(*top.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    _rug(top, kept)
    edges = np.append(left.index - 0.5, left.index[-1] + 0.5)
    bottom.stairs(left, edges, fill=True, color=GREY, alpha=0.35)
    bottom.stairs(left, edges, color=GREY, linewidth=0.9)
    bottom.set_ylim(0, planned * 1.15)
    bottom.set_yticks([0, planned])
    bottom.set_ylabel("Repetitions\nleft")
    bottom.set_xlabel("Epoch")
    bottom.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
    bottom.set_xlim(edges[0], edges[-1])
    figure.align_ylabels([top, bottom])
    return figure


def _rug(axes: Any, kept: list[int]) -> None:
    # In the axis' own height, so that it says nothing about loss.
    axes.plot(
        kept,
        [0.03] * len(kept),
        linestyle="",
        marker="|",
        markersize=6,
        markeredgewidth=0.8,
        color="#222222",
        transform=axes.get_xaxis_transform(),
        clip_on=False,
    )


def _kept(results: StudyResults, stage: str, arm: str) -> list[int]:
    own = (results.runs["arm"] == arm) & (results.runs["stage"] == stage)
    return [int(epoch) for epoch in results.runs.loc[own, "best_epoch"].dropna()]


def _sections(results: StudyResults, stage: str) -> list[str]:
    return sorted({trial["data"] for trial in results.plan["trials"] if trial["stage"] == stage})
