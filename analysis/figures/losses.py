"""Learning curves of a stage: mean and deviation over repetitions, and how many repetitions are left."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.style import COLUMN_IN, GREY, PAGE_IN, TRAIN, VALIDATION, Picture, drawing
from xferlab.analysis.results import StudyResults
from xferlab.analysis.selection import detailed_arms
from xferlab.analysis.tables.model import file_name
from xferlab.analysis.tables.notes import arm_names, data_notes

_LOOKS = {"train": ("Training", TRAIN, "-"), "validation": ("Validation", VALIDATION, (0, (4, 1.5)))}
_VALUE = r"^(train|validation)_(?!s$)"
"""Columns of a history that are values, and no seconds."""
_ACROSS = 4
_IN_A_COLUMN = 4
"""Values that a figure shows one below the other; of more, two stand side by side."""
_LOG = 10
"""Ratio of the highest to the lowest mean from which their axis is logarithmic."""
_STRIP = 0.16
"""Share of a small panel's height that shows how many repetitions are still training."""


def loss_pictures(contents: Contents) -> Iterator[Picture]:
    """Yields the curves of each stage: a figure of each detailed arm, and panels of all if there are more."""
    results, detailed = contents.results, set(detailed_arms(contents.results))
    for stage in results.stages:
        groups, drawn = results.arms_by_trials(stage), dict[str, list[str]]()
        epochs = results.histories[results.histories["stage"] == stage]
        known = {arms: epochs[epochs["arm"] == arms[0]] for arms in groups}
        for arms, history in known.items():
            drawn |= drawn_columns(history)
            if drawn_columns(history) and detailed & set(arms):
                yield _picture(results, stage, arms, history)
        if any(not detailed & set(arms) for arms in groups):
            for name, columns in drawn.items():
                histories = {arms: known[arms] for arms in groups if name in drawn_columns(known[arms])}
                yield _panels_picture(results, stage, (name, columns), histories)


def drawn_columns(history: pd.DataFrame) -> dict[str, list[str]]:
    """Returns what is drawn of epochs, by name: the loss, what both parts have, and the score as the last.

    Where both parts have nothing in common, they are all values that the task gave of either.
    """
    known = history.dropna(axis="columns", how="all").filter(regex=_VALUE).columns
    columns = {
        name: [f"{part}_{name}" for part in _LOOKS if f"{part}_{name}" in known]
        for name in dict.fromkeys(column.partition("_")[2] for column in known)
    }
    paired, score = [name for name in columns if len(columns[name]) == len(_LOOKS)], score_name(history)
    shown = dict.fromkeys(name for name in ("loss", *paired, score) if name in columns) if paired else columns
    return {name: columns[name] for name in sorted(shown, key=lambda name: (name != "loss", name == score))}


def score_name(history: pd.DataFrame) -> str:
    """Returns the name of the validation value that epochs are judged by; empty where there is none."""
    judged = history[history["score"].notna()]
    values = judged.filter(regex=_VALUE).filter(like="validation_")
    equal = values.columns[values.eq(judged["score"], axis=0).all()] if len(judged) else ()
    return str(next(iter(equal), "")).removeprefix("validation_")


def _words(name: str, columns: Sequence[str] = ()) -> str:
    """Returns a name in words, such as `training and validation loss`."""
    parts = " and ".join(_LOOKS[_part(column)][0].lower() for column in columns)
    words = [word.upper() if word[-1:].isdigit() else word for word in name.split("_")]  # F1, and not f1
    return f"{parts} {' '.join(words)}".strip()


def _title(drawn: Mapping[str, Sequence[str]]) -> str:
    """Returns all that is drawn in words: `training and validation loss, accuracy and mean F1`."""
    texts = list[str]()
    for _, group in itertools.groupby(drawn, key=lambda name: [*map(_part, drawn[name])]):
        first, *others = group
        *more, last = [_words(first, drawn[first]), *map(_words, others)]
        texts.append(" and ".join(filter(None, (", ".join(more), last))))
    return ", ".join(texts)


def _part(column: str) -> str:
    return column.partition("_")[0]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _notes(results: StudyResults, stage: str) -> tuple[str, ...]:
    sections = {trial["data"] for trial in results.plan["trials"] if trial["stage"] == stage}
    return (
        "Values are in the units of the task's own computation; records do not name them.",
        *data_notes(results, [stage], sorted(sections), of_metrics=False),
    )


def _picture(results: StudyResults, stage: str, arms: Sequence[str], history: pd.DataFrame) -> Picture:
    num, planned = history["repetition"].nunique(), results.planned()[arms[0], stage]
    runs, score, drawn = results.runs, score_name(history), drawn_columns(history)
    kept = runs.loc[(runs["arm"] == arms[0]) & (runs["stage"] == stage), "best_epoch"].dropna()
    judged = f"those of the best validation {_words(score)}" if score else "the last ones"
    return Picture(
        name=f"loss_{stage}_{arms[0]}",
        title=f"{_title(drawn)}, stage {stage}, arm {', '.join(arms)}",
        caption=(
            f"Lines: mean over the repetitions left at an epoch ({num} of {planned} repetitions complete).",
            "Bands: ± sample SD over those repetitions, where at least two are left."
            if num > 1
            else "One repetition: no deviation.",
            "Lower panel: repetitions that are still training; they stop at different epochs, so later means "
            "are over fewer.",
            *dict.fromkeys(word for columns in drawn.values() for word in _scale([history], columns)),
            f"Ticks above the epoch axis: epochs whose weights were kept, {judged}.",
            *_notes(results, stage),
        ),
        figure=draw_losses(history, drawn, [int(epoch) for epoch in kept], planned),
        subject={"kind": "loss", "stage": stage},
    )


def _panels_picture(
    results: StudyResults,
    stage: str,
    drawn: tuple[str, Sequence[str]],
    histories: Mapping[tuple[str, ...], pd.DataFrame],
) -> Picture:
    name, columns = drawn
    return Picture(
        name=f"losses_{stage}" if name == "loss" else f"{file_name(name)}_{stage}",
        title=f"{_words(name, columns)}, stage {stage}, all arms",
        caption=(
            "Lines: mean over the repetitions left at an epoch; bands: ± sample SD over them.",
            "Grey strip at the foot: share of the repetitions that are still training.",
            *_scale(histories.values(), columns),
            "Arms of another loss have another scale: their heights do not compare.",
            *_notes(results, stage),
        ),
        figure=draw_losses_of_arms(
            {arm_names(results, arms): epochs for arms, epochs in histories.items()}, *drawn
        ),
        subject={"kind": "losses of all arms", "stage": stage},
    )


@drawing()
def draw_losses_of_arms(histories: Mapping[str, pd.DataFrame], value: str, columns: Sequence[str]) -> Figure:
    """Returns a small panel of the curves of each arm; `value` is the name of what the columns are."""
    rows = math.ceil(len(histories) / _ACROSS)
    across = math.ceil(len(histories) / rows)
    figure = Figure(figsize=(PAGE_IN, 0.5 + 1.25 * rows), layout="constrained")
    panels = list(figure.subplots(rows, across, sharex=True, squeeze=False).flat)
    for axes, (name, history) in zip(panels, histories.items(), strict=False):
        _draw_curves(axes, history, columns, foot=_STRIP)
        _draw_strip(axes, history)
        axes.set_title("\n".join(textwrap.wrap(name, 24)), loc="left", fontsize=6.5)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
    for axes in panels[len(histories) :]:
        axes.set_visible(False)
    for axes in panels[len(histories) - across : len(histories)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("Epoch")
    figure.supylabel(_capital(_words(value)), fontsize=7.5)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


def _draw_curves(axes: Any, history: pd.DataFrame, columns: Sequence[str], *, foot: float) -> None:
    """Draws means and bands; below them, a share of the panel's height stays free."""
    by_epoch, is_log = history.groupby("epoch")[list(columns)], _is_log(history, columns)
    means, deviations = by_epoch.mean(), by_epoch.std()
    for column in columns:
        mean, sd, (name, colour, dashes) = means[column], deviations[column], _LOOKS[_part(column)]
        alone = {"marker": "o", "markersize": 3} if len(mean) == 1 else {}
        axes.plot(mean.index, mean, color=colour, linestyle=dashes, label=name, **alone)
        low = (mean - sd).clip(lower=means.min().min() / 2) if is_log else mean - sd
        axes.fill_between(mean.index, low, mean + sd, color=colour, alpha=0.18, linewidth=0)
    if is_log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    (low, high), more = axes.get_ylim(), foot / (1 - foot)
    axes.set_ylim(low * (low / high) ** more if is_log else low - (high - low) * more, high)


def _is_log(history: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Whether means fall so far that on an even axis all but the first epochs would lie at its foot."""
    means = history.groupby("epoch")[list(columns)].mean()
    return bool(0 < _LOG * means.min().min() < means.max().max())


def _scale(histories: Iterable[pd.DataFrame], columns: Sequence[str]) -> tuple[str, ...]:
    is_log = any(_is_log(history, columns) for history in histories)
    return ("Values that fall more than tenfold have a logarithmic axis.",) if is_log else ()


def _draw_strip(axes: Any, history: pd.DataFrame) -> None:
    """Draws at the foot of a small panel what share of the repetitions is still training."""
    left = history.groupby("epoch")["repetition"].nunique()
    edges, heights = np.append(left.index - 0.5, left.index[-1] + 0.5), 0.8 * _STRIP * left / left.max()
    look = {"fill": True, "color": GREY, "alpha": 0.35, "linewidth": 0}
    axes.stairs(heights, edges, transform=axes.get_xaxis_transform(), **look)


@drawing()
def draw_losses(
    history: pd.DataFrame, drawn: Mapping[str, Sequence[str]], kept: Sequence[int], planned: int | None
) -> Figure:
    """Returns the curves of one arm's stage, and how many repetitions are left at each epoch.

    Args:
        history: The epochs.
        drawn: Columns by the name of their axis.
        kept: Epochs whose weights were kept.
        planned: Number of planned repetitions; None where it is not known.
    """
    across, width = (1, COLUMN_IN) if len(drawn) <= _IN_A_COLUMN else (2, PAGE_IN)
    rows = math.ceil(len(drawn) / across)
    figure = Figure(figsize=(width, 1.3 + 1.6 * rows), layout="constrained")
    shares = [*[4] * rows, 1]
    panels = figure.subplots(rows + 1, across, sharex=True, squeeze=False, height_ratios=shares)
    curves, rest = np.split(panels[:-1].ravel(), [len(drawn)])
    for axes in rest:
        axes.set_visible(False)
    for axes, (name, columns) in zip(curves, drawn.items(), strict=True):
        _draw_curves(axes, history, columns, foot=0.08)  # free for the ticks
        axes.set_ylabel(_capital(_words(name)))
    # In the axis' own height, so that it says nothing about values. The score is drawn last.
    ticks = {"marker": "|", "markersize": 6, "markeredgewidth": 0.8, "color": "#222222", "clip_on": False}
    heights, transform = [0.03] * len(kept), curves[-1].get_xaxis_transform()
    curves[-1].plot(kept, heights, linestyle="", transform=transform, **ticks)
    # Outside, where no curve of any study runs beneath it.
    lines = {line.get_label(): line for axes in curves for line in axes.get_legend_handles_labels()[0]}
    figure.legend(handles=lines.values(), loc="outside upper right", ncols=2)
    left = history.groupby("epoch")["repetition"].nunique()
    edges = np.append(left.index - 0.5, left.index[-1] + 0.5)
    # Not beside the axis: a label of more than two lines would take the height from the curves.
    most, more = (int(left.max()), " (planned repetitions unknown)") if planned is None else (planned, "")
    for bottom in panels[-1]:
        bottom.stairs(left, edges, fill=True, color=GREY, alpha=0.35)
        bottom.stairs(left, edges, color=GREY, linewidth=0.9)
        bottom.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
        bottom.set(ylim=(0, most * 1.15), yticks=[0, most], ylabel="Still\ntraining")
        bottom.set(xlim=(edges[0], edges[-1]), xlabel=f"Epoch{more}")
    figure.align_ylabels(panels.ravel())
    return figure
