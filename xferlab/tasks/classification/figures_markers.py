"""Figures of markers from stored arrays: outlines with the lines of the cardiothoracic ratio, and patches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.markers import Dots, dots_caption, draw_dots
from xferlab.analysis.figures.style import PAGE_IN, Picture, drawing, value_label
from xferlab.analysis.markers import Marked
from xferlab.analysis.selection import first_stored
from xferlab.analysis.tables.markers import markers_notes
from xferlab.analysis.tables.model import file_name
from xferlab.analysis.tables.notes import licence_note
from xferlab.metrics.markers import HEART, PATCH_MEAN, PATCH_SD, cardiothoracic, told_right

_MASK = "mask_"
_MAX_CLASSES = 6
_REGION, _HEART = "#56B4E9", "#E69F00"
"""Sky blue and orange of the palette: both stand out on dark areas."""
_CASING = (patheffects.Stroke(linewidth=2.4, foreground="black"), patheffects.Normal())
Mask = npt.NDArray[np.bool_]


def marker_pictures(contents: Contents, marked: Marked) -> Iterator[Picture]:
    """Yields a figure of outlines and one of patches, where arrays of them are stored."""
    stored = _stored(contents, marked)
    if any(str(name).startswith(_MASK) for name in stored):
        yield _outlines_picture(contents, marked, _typical(stored, marked.classes))
    if "patches" in stored and stored["patches"].notna().any():
        yield from _patches_pictures(contents, marked, stored[stored["patches"].notna()])


def _stored(contents: Contents, marked: Marked) -> pd.DataFrame:
    """The arrays of the first repetition that stored some, of all parts, by case, with its class `of`."""
    sets = [
        evaluated
        for evaluated in contents.plain_sets
        if (evaluated.stage, evaluated.section) == (marked.stage, marked.section)
    ]
    stored = first_stored(contents.results, marked.arm, *sets) if sets else None
    if stored is None:
        return pd.DataFrame()
    rows = stored.rows.set_index("case")
    of = marked.cases.set_index("case")["of"]
    rows = rows[~rows.index.duplicated() & rows.index.isin(of.index)]
    return rows.assign(of=of.reindex(rows.index))


def _masks(row: Mapping[Any, Any]) -> dict[str, Mask]:
    """The masks of the structures of a stored case by name."""
    names = [str(name) for name in row if str(name).startswith(_MASK)]
    return {name.removeprefix(_MASK): row[name] > 0 for name in names if isinstance(row[name], np.ndarray)}


def _typical(stored: pd.DataFrame, classes: Sequence[str]) -> dict[str, Mapping[Any, Any]]:
    """The stored case of each class with the median cardiothoracic ratio; else the first one."""
    chosen: dict[str, Mapping[Any, Any]] = {}
    for name in classes[:_MAX_CLASSES]:
        rows = stored[stored["of"] == name].to_dict("records")
        lines = [cardiothoracic(_masks(row)) for row in rows]
        ranked = sorted((each.ratio, number) for number, each in enumerate(lines) if each)
        if rows:
            chosen[name] = rows[ranked[(len(ranked) - 1) // 2][1] if ranked else 0]
    return chosen


def _outlines_picture(contents: Contents, marked: Marked, cases: Mapping[str, Mapping[Any, Any]]) -> Picture:
    return Picture(
        name=f"outlines_{marked.stage}_on_{file_name(marked.section)}",
        title=f"outlines and cardiothoracic ratio, stage {marked.stage} on {marked.section}",
        caption=(
            "Top: the image before masking. Middle: outlines of the masks that the stage takes, with the "
            "lines of the cardiothoracic ratio (CTR): widest extent of the heart, and extent from the outer "
            "edge of one lung to that of the other. Bottom: what the network sees.",
            f"Arm {marked.arm}, first repetition with stored images; of each class the image with the median "
            "ratio, at the size of the stored pixels.",
            *licence_note(contents.results, marked.section, [marked.arm]),
            *markers_notes(contents, marked),
        ),
        figure=_draw_outlines(cases),
        subject={"kind": "outlines", **marked.subject},
    )


@drawing()
def _draw_outlines(cases: Mapping[str, Mapping[Any, Any]]) -> Figure:
    side = PAGE_IN / max(len(cases), 4)
    engine = ConstrainedLayoutEngine(w_pad=0.015, h_pad=0.015, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(side * max(len(cases), 3), 3 * side + 0.6), layout=engine)
    grid = figure.subplots(3, len(cases), squeeze=False)
    for letter, column, (name, row) in zip("abcdef", grid.T, cases.items(), strict=False):
        column[0].set_title(f"({letter}) {name}")
        whole = row.get("whole")
        whole = row["image"] if not isinstance(whole, np.ndarray) else whole.reshape(row["image"].shape)
        for axes, image in zip(column, (whole, whole, row["image"]), strict=True):
            axes.imshow(image, cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        _draw_masks(column[1], _masks(row))
    for axes, label in zip(grid[:, 0], ("Image", "Outlines", "Seen by the network"), strict=True):
        axes.set_ylabel(label)
    structures = dict.fromkeys(name for row in cases.values() for name in _masks(row))
    others = ", ".join(name for name in structures if name != HEART)
    names = {**({HEART: _HEART} if HEART in structures else {}), **({others: _REGION} if others else {})}
    handles = [Line2D([], [], color=colour, path_effects=_CASING, label=n) for n, colour in names.items()]
    figure.legend(handles=handles, loc="outside lower right", ncols=2)
    return figure


def _draw_masks(axes: Any, masks: Mapping[str, Mask]) -> None:
    for name, mask in masks.items():
        if mask.any() and not mask.all():
            colour = _HEART if name == HEART else _REGION
            axes.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=0.9)
    lines = cardiothoracic(masks)
    for line, colour in zip(lines or (), (_HEART, _REGION), strict=False):
        ends = [line.first - 0.5, line.last + 0.5]
        axes.plot(ends, [line.row] * 2, "-|", color=colour, markersize=5, linewidth=1.2, path_effects=_CASING)
    axes.set_xlabel(f"CTR {lines.ratio:.3f}" if lines else "no CTR", labelpad=2)


def _patches_pictures(contents: Contents, marked: Marked, stored: pd.DataFrame) -> Iterator[Picture]:
    cases = contents.cases
    is_of = (cases["arm"] == marked.arm) & (cases["stage"] == marked.stage) & (cases["metric"] == "LABEL")
    labels = cases[is_of & (cases["section"] == marked.section)]
    truth = labels.drop_duplicates("case").set_index("case")["value"]
    frame = pd.concat(
        pd.DataFrame(row["patches"][told_right(row["patches"], int(truth[row["case"]])), 2:4])
        .set_axis(["mean", "sd"], axis=1)
        .assign(**{name: row[name] for name in ("case", "patient", "of")})
        for row in stored.reset_index().to_dict("records")
    )
    if len(frame):
        yield _patches_picture(contents, marked, frame)


def _patches_picture(contents: Contents, marked: Marked, frame: pd.DataFrame) -> Picture:
    classes = [name for name in marked.classes if name in set(frame["of"])]
    patients = frame.groupby("of")["patient"].nunique()
    few = frozenset((str(of), 0) for of in patients[patients < MIN_PATIENTS].index)
    panels = [
        Dots(
            value_label(label, metric.unit),
            {of: [np.sort(frame.loc[frame["of"] == of, name].to_numpy(np.float64))] for of in classes},
            few,
        )
        for metric, name, label in (
            (PATCH_MEAN, "mean", "Mean intensity of a patch"),
            (PATCH_SD, "sd", "SD of intensity within a patch"),
        )
    ]
    counts = (
        f"{len(frame)} patches of {frame['case'].nunique()} images of {frame['patient'].nunique()} patients"
    )
    return Picture(
        name=f"patches_{marked.stage}_on_{file_name(marked.section)}",
        title=f"patches by class, stage {marked.stage} on {marked.section}",
        caption=(
            f"A dot for each patch of stored images that is told right: {counts}. Left: its mean grey level, "
            "without masked pixels (inter-patch). Right: its SD (intra-patch).",
            *dots_caption(),
            f"Arm {marked.arm}, first repetition with stored images. Patches of one image overlap: "
            "neither they nor images of one patient are independent.",
            *markers_notes(contents, marked),
        ),
        figure=draw_dots(panels, {"patch": None}),
        subject={"kind": "patches", **marked.subject},
    )
