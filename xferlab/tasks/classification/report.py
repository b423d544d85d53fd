"""The figures of a report that only this task has: where networks look, outlines, and patches."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.style import PAGE_IN, Picture, drawing
from xferlab.analysis.results import EvaluationSet
from xferlab.analysis.selection import detailed_arms, first_stored
from xferlab.analysis.tables.model import file_name
from xferlab.analysis.tables.notes import data_notes, licence_note
from xferlab.metrics.classes import voted
from xferlab.tasks.classification.figures_heat import class_heats
from xferlab.tasks.classification.figures_markers import marker_pictures

_NAME = "classification"
_MAX_CASES, _MAX_CLASSES = 4, 4


def pictures(contents: Contents) -> Iterator[Picture]:
    """Yields a picture for each stage and set that it is measured on, from stored arrays."""
    for evaluated in contents.plain_sets:
        if contents.results.plan["tasks"][evaluated.stage] == _NAME:
            by_arm = {arm: _stored(contents, arm, evaluated) for arm in detailed_arms(contents.results)}
            by_arm = {arm: rows for arm, rows in by_arm.items() if len(rows)}
            if by_arm:
                cases = _chosen(next(iter(by_arm.values())))
                yield _picture(contents, evaluated, by_arm, cases)
                yield from class_heats(contents, evaluated, by_arm, cases)
    for marked in contents.marked_figures:
        if contents.results.plan["tasks"][marked.stage] == _NAME:
            yield from marker_pictures(contents, marked)


def _stored(contents: Contents, arm: str, evaluated: EvaluationSet) -> pd.DataFrame:
    """The arrays of the first repetition of an arm that stored some, by case; empty where none did."""
    stored = first_stored(contents.results, arm, evaluated)
    if stored is None:
        return pd.DataFrame()
    names = contents.results.trials_by_id[stored.trial_id]["targets"]
    called = [_called(row, names) for row in stored.rows.to_dict("records")]
    return stored.rows.assign(called=called).set_index("case")


def _called(row: Mapping[Hashable, Any], names: Sequence[str]) -> str:
    """The class that an image is called, with its probability."""
    probability, patches = row["probability"], row.get("patches")
    number = (
        int(probability.argmax()) if patches is None or isinstance(patches, float) else voted(patches[:, 4:])
    )
    return f"{names[number]} {probability[number]:.2f}"


def _picture(
    contents: Contents, evaluated: EvaluationSet, by_arm: dict[str, pd.DataFrame], cases: Sequence[str]
) -> Picture:
    results = contents.results
    return Picture(
        name=f"heat_{evaluated.stage}_on_{file_name(evaluated.stem)}",
        title=f"where the network looks, stage {evaluated.stage} on {evaluated.name}",
        caption=(
            "What the network sees, and over it where it looks for the class that it calls the image "
            "(Grad-CAM: from dark, nothing, to bright: the maximum of the image, or, where patches vote, 1). "
            "White: the outline of the masks, where the stage takes any.",
            "First repetition with stored images; of each pathology the first of them. Below: the class "
            "that the image is called, with its probability.",
            *licence_note(results, evaluated.section, by_arm),
            *data_notes(results, (), [evaluated.section]),
        ),
        figure=_draw(by_arm, cases),
        subject={"kind": "heat", **vars(evaluated)},
    )


def _chosen(rows: pd.DataFrame) -> list[str]:
    """Some cases of each pathology, in turn."""
    number = rows.groupby("pathology").cumcount()
    order = rows.assign(number=number).sort_values(["number", "pathology"], kind="stable")
    few = order[order["pathology"].isin(order["pathology"].unique()[:_MAX_CLASSES])].head(_MAX_CASES)
    return [str(case) for case in few.sort_values(["pathology", "number"], kind="stable").index]


@drawing()
def _draw(by_arm: dict[str, pd.DataFrame], cases: Sequence[str]) -> Figure:
    side = PAGE_IN / _MAX_CASES
    engine = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(side * max(len(cases), 2), (side + 0.25) * len(by_arm) + 0.2), layout=engine)
    grid = figure.subplots(len(by_arm), len(cases), squeeze=False)
    for line, (arm, rows) in zip(grid, by_arm.items(), strict=True):
        line[0].set_ylabel(arm)
        for axes, case in zip(line, cases, strict=True):
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if case in rows.index:
                _draw_case(axes, rows.loc[case])
    pathologies = next(iter(by_arm.values()))["pathology"]
    for axes, case, letter in zip(grid[0], cases, "abcd", strict=False):
        axes.set_title(f"({letter}) {pathologies[case]}")
    return figure


def _draw_case(axes: Any, row: Any) -> None:
    image, heat = row["image"], row["heat"]
    height, width = image.shape
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.imshow(
        heat, cmap="inferno", vmin=0, vmax=1, alpha=0.45, interpolation="bilinear",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )  # fmt: skip
    mask = row.get("mask")
    if mask is not None and not isinstance(mask, float) and 0 < mask.mean() < 255:
        axes.contour(mask > 0, levels=[0.5], colors=["white"], linewidths=0.7)
    axes.set_xlabel(row["called"], labelpad=2)
