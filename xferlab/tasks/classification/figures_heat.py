"""The figure of what patches see of every class: one map a class, all on one scale (oh2020, figure 8)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.style import PAGE_IN, Picture, drawing
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.tables.model import file_name
from xferlab.analysis.tables.notes import data_notes, licence_note

_STEP = 0.1
"""The scale ends at a multiple of it."""
_OPACITY = 0.6


def class_heat_picture(
    contents: Contents, evaluated: EvaluationSet, arm: str, rows: pd.DataFrame, classes: Sequence[str]
) -> Picture:
    """Returns the maps of every class of some images.

    Args:
        contents: The study.
        evaluated: What the images are of.
        arm: The arm.
        rows: Stored arrays with `heats`, a row for each image, at least one.
        classes: Names of the classes, in the order of the maps.
    """
    highest = max(float(heats.max()) for heats in rows["heats"])
    top = max(_STEP, math.ceil(round(highest / _STEP, 6)) * _STEP)
    return Picture(
        name=f"class_heat_{evaluated.stage}_on_{file_name(evaluated.stem)}_{arm}",
        title=f"where patches see each class, stage {evaluated.stage} on {evaluated.name}, arm {arm}",
        caption=(
            "Top: what the network sees of an image. Below: for each class the mean, over the patches that "
            "cover a pixel, of their Grad-CAM times their probability of the class. All maps are on the one "
            "scale at the right, so that images and classes compare by their level.",
            "First repetition with stored images; of each pathology the first of them. Below each image: the "
            "most probable class with its probability, the mean over the patches.",
            *licence_note(contents.results, evaluated.section, [arm]),
            *data_notes(contents.results, (), [evaluated.section]),
        ),
        figure=_draw(rows, classes, top),
        subject={"kind": "class_heat", "arm": arm, **vars(evaluated)},
    )


@drawing()
def _draw(rows: pd.DataFrame, classes: Sequence[str], top: float) -> Figure:
    lines, width = 1 + len(classes), 4
    side = PAGE_IN / (width + 0.6)
    engine = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(side * (len(rows) + 0.6), side * lines + 0.5), layout=engine)
    grid = figure.subplots(lines, len(rows), squeeze=False)
    shown: Any = None
    for column, (letter, (_, row)) in enumerate(zip("abcdefgh", rows.iterrows(), strict=False)):
        for axes in grid[:, column]:
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        whole = row["whole"][0] if isinstance(row.get("whole"), np.ndarray) else row["image"]
        for axes, image in zip(grid[:, column], (row["image"], *[whole] * len(classes)), strict=True):
            axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        height, across = whole.shape
        for axes, heat in zip(grid[1:, column], row["heats"], strict=True):
            shown = axes.imshow(
                heat, cmap="inferno", vmin=0, vmax=top, alpha=_OPACITY, interpolation="bilinear",
                extent=(-0.5, across - 0.5, height - 0.5, -0.5),
            )  # fmt: skip
        grid[0, column].set_title(f"({letter}) {row['pathology']}")
        grid[0, column].set_xlabel(row["called"], labelpad=2)
    for axes, name in zip(grid[1:, 0], classes, strict=True):
        axes.set_ylabel(f"map of {name}")
    bar = figure.colorbar(shown, ax=grid[1:, :], shrink=0.6, pad=0.01)
    if bar.solids is not None:
        bar.solids.set_alpha(1.0)
    bar.set_label("mean of Grad-CAM x probability")
    return figure


def class_heats(
    contents: Contents, evaluated: EvaluationSet, by_arm: dict[str, pd.DataFrame], cases: Sequence[str]
) -> Iterator[Picture]:
    """Yields a picture for each arm whose network takes patches, of images that it did not train on.

    Args:
        contents: The study.
        evaluated: What the images are of.
        by_arm: Stored arrays of each arm, by case.
        cases: The images to show.
    """
    if evaluated.plain.part in ("train", "validation"):
        return
    for arm, rows in by_arm.items():
        if "heats" in rows and rows["heats"].notna().all():
            trial = next(t for t in contents.results.trials_by_id.values() if _is_of(t, arm, evaluated.stage))
            kept = rows.loc[[case for case in cases if case in rows.index]]
            yield class_heat_picture(contents, evaluated, arm, kept, trial["targets"])


def _is_of(trial: Any, arm: str, stage: str) -> bool:
    return trial["stage"] == stage and arm in trial["arms"]
