"""Stored pixels of both stages: representative cases, and those with the worst artefacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from xferlab.analysis.figures.style import BEFORE, PAGE_IN, TARGET, Picture, drawing
from xferlab.analysis.results import StudyResults
from xferlab.analysis.selection import ChainPair, ordered_pathologies
from xferlab.analysis.tables.notes import data_notes

_AFTER = "#56B4E9"  # the palette's light blue: it stands out on dark lungs
_MAX_CASES = 4
_LICENCES = "The section is not declared shareable: see to its images' licences before passing this on."


@dataclass(frozen=True, eq=False)
class OverlayRequest:
    """Which outputs to show.

    Attributes:
        results: The study.
        pair: The two stages and their hold-out.
        arm: Whose stages.
    """

    results: StudyResults
    pair: ChainPair
    arm: str

    def rows(self, stage: str, metrics: Sequence[str]) -> pd.DataFrame:
        """Returns the case rows of a stage for some metrics, a column per metric."""
        c, pair = self.results.cases, self.pair
        own = (c["arm"] == self.arm) & (c["stage"] == stage) & (c["section"] == pair.section)
        own &= (c["part"] == pair.part) & c["metric"].isin(metrics)
        keys = ["repetition", "trial_id", "case", "name", "pathology", "simulated"]
        frame = c.loc[own, [*keys, "metric", "value"]].astype(dict.fromkeys((*keys, "metric"), object))
        return frame.pivot(index=keys, columns="metric", values="value").reset_index()

    def repetitions(self) -> list[int]:
        """Returns the repetitions that both stages have completed."""
        trials = self.results.trials
        done = trials[(trials["arm"] == self.arm) & (trials["state"] == "complete")]
        sides = [set(done.loc[done["stage"] == s, "repetition"]) for s in (self.pair.before, self.pair.after)]
        return sorted(sides[0] & sides[1])

    def outputs(self, stage: str, repetition: int) -> pd.DataFrame:
        """Returns the stored pixels of one stage and repetition, indexed by case."""
        t = self.results.trials
        own = t[(t["arm"] == self.arm) & (t["stage"] == stage) & (t["repetition"] == repetition)]
        pixels = self.results.outputs(
            str(own["trial_id"].iloc[0]), arm=self.arm, section=self.pair.section, part=self.pair.part
        )
        return pixels.set_index("case") if len(pixels) else pixels


@dataclass(frozen=True, eq=False)
class _Column:
    title: str
    below: tuple[str, str]
    before: Any
    after: Any


def overlay_picture(request: OverlayRequest, *, label: str) -> Picture | None:
    """Returns both outputs for typical cases; None where no pixels are stored.

    Of the stored cases of the first repetition that both stages completed: for each pathology the one with
    the median Dice of the later stage, and in a free column the lowest of the others.
    """
    repetitions = request.repetitions()
    if not repetitions:
        return None
    repetition = repetitions[0]
    before, after = (
        request.outputs(stage, repetition) for stage in (request.pair.before, request.pair.after)
    )
    scores = [
        _scores(request.rows(stage, ["DICE"]), repetition)
        for stage in (request.pair.before, request.pair.after)
    ]
    stored = (
        before.index.intersection(after.index).intersection(scores[0].index).intersection(scores[1].index)
    )
    chosen = _typical(scores[1].loc[stored])
    if not chosen:
        return None
    columns = []
    for case in chosen:
        below = tuple(f"Dice {side['DICE'][case]:.3f}" for side in scores)
        columns.append(
            _Column(str(after["pathology"][case]), (below[0], below[1]), before.loc[case], after.loc[case])
        )
    note = (
        f"Repetition {repetition}; of each pathology's stored cases the one with the median Dice of stage "
        f"{request.pair.after}, and last the one with the lowest Dice of the others."
    )
    return _picture(request, columns, (label, "overlays", "outputs of both stages", note))


def artefact_picture(request: OverlayRequest, *, label: str) -> Picture | None:
    """Returns both outputs for the stored cases with most bridges and islands before; None without any."""
    repetitions = request.repetitions()
    if not repetitions:
        return None
    stored = request.outputs(request.pair.before, repetitions[0]).index
    rows = request.rows(request.pair.before, ["BRIDGES", "ISLANDS"]).reindex(
        columns=["repetition", "case", "pathology", "BRIDGES", "ISLANDS"]
    )
    rows = rows[rows["case"].isin(stored) & rows["repetition"].isin(repetitions)]
    rows["count"] = rows[["BRIDGES", "ISLANDS"]].fillna(0).sum(axis=1)
    worst = rows[rows["count"] > 0].sort_values(
        ["count", "repetition", "case"], ascending=[False, True, True]
    )
    later = request.rows(request.pair.after, ["BRIDGES", "ISLANDS"]).set_index(["repetition", "case"])
    columns = []
    for row in worst.drop_duplicates("case").head(_MAX_CASES).to_dict("records"):
        sides = [
            request.outputs(stage, row["repetition"]) for stage in (request.pair.before, request.pair.after)
        ]
        if all(row["case"] in side.index for side in sides):
            texts = (_artefacts(row), _artefacts(later.loc[(row["repetition"], row["case"])]))
            title = f"{row['pathology']}, repetition {row['repetition']}"
            columns.append(_Column(title, texts, *(side.loc[row["case"]] for side in sides)))
    if not columns:
        return None
    note = (
        f"The stored cases with most bridges and islands in the output of stage {request.pair.before}: "
        "chosen for their artefacts, not typical."
    )
    return _picture(request, columns, (label, "artefacts", "artefacts and what became of them", note))


def _artefacts(row: Any) -> str:
    counts = [(row[name], text) for name, text in (("BRIDGES", "bridge"), ("ISLANDS", "island"))]
    return ", ".join(f"{int(n)} {text}{'' if n == 1 else 's'}" for n, text in counts if n == n)


def _scores(rows: pd.DataFrame, repetition: int) -> pd.DataFrame:
    return rows[rows["repetition"] == repetition].set_index("case")


def _typical(scores: pd.DataFrame) -> list[str]:
    chosen: list[str] = []
    for pathology in ordered_pathologies(scores["pathology"])[:_MAX_CASES]:
        own = scores[scores["pathology"] == pathology].sort_values("DICE", kind="stable")
        chosen.append(str(own.index[(len(own) - 1) // 2]))
    rest = scores.drop(index=chosen).sort_values("DICE", kind="stable")
    return chosen + [str(case) for case in rest.index[: max(0, min(1, _MAX_CASES - len(chosen)))]]


def _picture(request: OverlayRequest, columns: list[_Column], words: tuple[str, str, str, str]) -> Picture:
    label, name, title, note = words
    pair = request.pair
    with drawing():
        figure = _draw(pair, columns)
    shareable = request.results.plan["data"].get(pair.section, {}).get("shareable")
    return Picture(
        name=f"fig{label}_{name}_{pair.before}_to_{pair.after}_{request.arm}",
        title=f"Figure {label}: {title}, {pair.before} and {pair.after} on {pair.section}.{pair.part}, "
        f"arm {request.arm}",
        caption=(
            "Top: the image as the network saw it.",
            "Below: each stage's output at threshold 0.5, filled, with the target's outline "
            "(dotted white: ignored areas).",
            note,
            *([] if shareable else [_LICENCES]),
            *data_notes(request.results, [pair.section], request.results.cases),
        ),
        figure=figure,
    )


def _draw(pair: ChainPair, columns: list[_Column]) -> Figure:
    width = PAGE_IN * max(len(columns), 2) / _MAX_CASES
    height = width / max(len(columns), 2)
    engine = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(width, 3 * height + 0.62), layout=engine)
    grid = figure.subplots(3, len(columns), squeeze=False)
    for place, column in enumerate(columns):
        top, middle, bottom = grid[:, place]
        _image(top, column.after)
        top.set_title(f"({'abcd'[place]}) {column.title}")
        _output(middle, column.before, BEFORE)
        _output(bottom, column.after, _AFTER)
        middle.set_xlabel(column.below[0], labelpad=2)
        bottom.set_xlabel(column.below[1], labelpad=2)
    for axes, text in zip(grid[:, 0], ("Image", pair.before, pair.after), strict=True):
        axes.set_ylabel(text)
    handles = [
        Patch(facecolor=BEFORE, alpha=0.55, label=pair.before),
        Patch(facecolor=_AFTER, alpha=0.55, label=pair.after),
        Line2D([], [], color=TARGET, linewidth=1.2, label="target", path_effects=_casing()),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _casing() -> list[Any]:
    return [patheffects.Stroke(linewidth=2.2, foreground="black"), patheffects.Normal()]


def _image(axes: Any, row: Any) -> None:
    axes.imshow(row["image"], cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _output(axes: Any, row: Any, colour: str) -> None:
    _image(axes, row)
    predicted = (row["probability"] > 127).astype(float)
    target = (row["target"] == 255).astype(float)
    if predicted.any():
        axes.contourf(predicted, levels=[0.5, 1.5], colors=[colour], alpha=0.42)
        if not predicted.all():
            axes.contour(predicted, levels=[0.5], colors=[colour], linewidths=0.9)
    ignored = (row["target"] == 127).astype(float)
    if np.ptp(ignored):
        axes.contour(ignored, levels=[0.5], colors=["white"], linewidths=0.8, linestyles=":")
    if np.ptp(target):
        outline = axes.contour(target, levels=[0.5], colors=[TARGET], linewidths=0.8)
        outline.set_path_effects(
            [patheffects.Stroke(linewidth=1.5, foreground="black"), patheffects.Normal()]
        )
