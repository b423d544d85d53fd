"""Figures of a report that only this task has: stored masks of two stages on the same images.

They show representative cases, and those with the worst artefacts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import patheffects
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.before_after import detailed_pairs
from xferlab.analysis.figures.style import BEFORE, PAGE_IN, TARGET, Picture, drawing
from xferlab.analysis.results import EvaluationSet, StudyResults
from xferlab.analysis.selection import ChainPair, ordered_pathologies
from xferlab.analysis.tables.notes import data_notes
from xferlab.tasks.segmentation.config import COLOURS

_AFTER = "#56B4E9"  # the palette's light blue: it stands out on dark areas
Pixels = npt.NDArray[Any]
_MAX_CASES = 4
_LICENCES = "The section is not declared shareable: check the licences of its images before you pass this on."
_ARTEFACTS = {"BRIDGES": "bridge", "ISLANDS": "island"}


@dataclass(frozen=True, eq=False)
class _Column:
    """One case: its title, a text below each stage's output, and the stored pixels of each stage."""

    title: str
    below: Sequence[str]
    sides: Sequence[Any]


def pictures(contents: Contents) -> Iterator[Picture]:
    """Yields typical outputs and artefacts of each pair of stages of detailed arms, from stored pixels."""
    for arm, pair in detailed_pairs(contents):
        outputs = _Outputs(contents.results, pair, arm)
        if outputs.repetitions:
            drawn = (build(outputs) for build in (_overlays, _artefacts))
            yield from filter(None, drawn)


class _Outputs:
    """What both stages of an arm output on their hold-out."""

    def __init__(self, results: StudyResults, pair: ChainPair, arm: str):
        self.results, self.pair, self.arm = results, pair, arm
        self.structures = results.several(arm, pair.after)
        """Names, where there are several."""
        trials = results.trials
        done = trials[(trials["arm"] == arm) & (trials["state"] == "complete")]
        self._trial_ids = done.set_index(["stage", "repetition"])["trial_id"]
        before, after = (
            set(done.loc[done["stage"] == stage, "repetition"]) for stage in (pair.before, pair.after)
        )
        self.repetitions = sorted(before & after)
        """The repetitions that both stages have completed."""

    def values(self, evaluated: EvaluationSet, metrics: Sequence[str]) -> pd.DataFrame:
        """Returns a row for each repetition and case of one stage, with its pathology and some metrics."""
        cases = evaluated.rows(self.results.cases)
        cases = cases[(cases["arm"] == self.arm) & cases["metric"].isin(metrics)]
        keys = ["repetition", "case", "pathology"]
        frame = cases[[*keys, "metric", "value"]].astype(dict.fromkeys((*keys, "metric"), object))
        wide = frame.pivot(index=keys, columns="metric", values="value").reindex(columns=list(metrics))
        return wide.reset_index("pathology")

    def artefacts(self, evaluated: EvaluationSet) -> pd.DataFrame:
        """Returns what `values` does of the counts of artefacts, each the sum over all structures."""
        parts = {kind: [f"{kind}_{name}" for name in self.structures] or [kind] for kind in _ARTEFACTS}
        frame = self.values(evaluated, [name for names in parts.values() for name in names])
        sums = {kind: frame[names].sum(axis=1, min_count=1) for kind, names in parts.items()}
        return frame.assign(**sums)

    def planes(self, pixels: pd.Series) -> list[tuple[Pixels, Pixels]]:
        """Returns where each structure is predicted, and its target, of stored pixels."""
        if not self.structures:
            return [(pixels["probability"] > 127, pixels["target"])]
        return [(pixels[f"mask_{name}"] > 127, pixels[f"target_{name}"]) for name in self.structures]

    def pixels(self, repetition: int) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Returns the stored pixels of both stages, a row for each case that both stored."""
        before, after = (
            self.results.outputs(
                str(self._trial_ids[evaluated.stage, repetition]), arm=self.arm, evaluated=evaluated
            )
            for evaluated in self.pair.sets
        )
        if not len(before) or not len(after):
            return pd.DataFrame(), pd.DataFrame()
        before, after = before.set_index("case"), after.set_index("case")
        both = before.index.intersection(after.index)
        return before.loc[both], after.loc[both]


def _overlays(outputs: _Outputs) -> Picture | None:
    """Returns both outputs for typical cases; None where no pixels are stored.

    Of the stored cases of the first repetition that both stages completed: for each pathology the one with
    the median Dice of the later stage, and in a free column the lowest of the others.
    """
    repetition, dice = outputs.repetitions[0], "mean Dice" if outputs.structures else "Dice"
    before, after = outputs.pixels(repetition)
    scores = [outputs.values(evaluated, ["DICE"]).loc[repetition] for evaluated in outputs.pair.sets]
    columns = [
        _Column(
            str(after["pathology"][case]),
            [f"{dice} {side['DICE'][case]:.3f}" for side in scores],
            [side.loc[case] for side in (before, after)],
        )
        for case in _typical(scores[1].loc[after.index.intersection(scores[0].index)])
    ]
    note = (
        f"Repetition {repetition}; of each pathology's stored cases the one with the median Dice of stage "
        f"{outputs.pair.after}, and last the one with the lowest Dice of the others."
    )
    return _picture(outputs, columns, ("overlays", "outputs of both stages", note)) if columns else None


def _typical(scores: pd.DataFrame) -> list[str]:
    chosen: list[str] = []
    scores = scores.sort_values("DICE", kind="stable")
    for pathology in ordered_pathologies(scores["pathology"])[:_MAX_CASES]:
        ranked = scores[scores["pathology"] == pathology]
        chosen.append(str(ranked.index[(len(ranked) - 1) // 2]))
    rest = scores.drop(index=chosen)
    return chosen + list(rest.index[: 1 if len(chosen) < _MAX_CASES else 0])


def _artefacts(outputs: _Outputs) -> Picture | None:
    """Returns both outputs for the stored cases with most bridges and islands before; None without any."""
    stored = outputs.pixels(outputs.repetitions[0])[0].index
    before, after = (outputs.artefacts(evaluated) for evaluated in outputs.pair.sets)
    before["count"] = before[list(_ARTEFACTS)].fillna(0).sum(axis=1)
    worst = before[(before["count"] > 0) & before.index.isin(stored, level="case")].reset_index()
    worst = worst[worst["repetition"].isin(outputs.repetitions)]
    worst = worst.sort_values(["count", "repetition", "case"], ascending=[False, True, True])
    columns = []
    for row in worst.drop_duplicates("case").head(_MAX_CASES).to_dict("records"):
        sides = outputs.pixels(row["repetition"])
        if row["case"] in sides[0].index:
            title = f"{row['pathology']}, repetition {row['repetition']}"
            below = [_counts(row), _counts(after.loc[row["repetition"], row["case"]])]
            columns.append(_Column(title, below, [side.loc[row["case"]] for side in sides]))
    note = (
        f"The stored cases with most bridges and islands in the output of stage {outputs.pair.before}: "
        "chosen for their artefacts, not typical."
    )
    words = ("artefacts", "artefacts and what became of them", note)
    return _picture(outputs, columns, words) if columns else None


def _counts(row: Any) -> str:
    counts = [(row[name], text) for name, text in _ARTEFACTS.items() if not pd.isna(row[name])]
    return ", ".join(f"{int(count)} {text}{'' if count == 1 else 's'}" for count, text in counts)


def _picture(outputs: _Outputs, columns: Sequence[_Column], words: tuple[str, str, str]) -> Picture:
    (kind, title, note), pair, results = words, outputs.pair, outputs.results
    shareable = all(data.get("shareable") for data in results.sections(pair.section))
    return Picture(
        name=f"{kind}_{pair.before}_to_{pair.after}_{outputs.arm}",
        title=f"{title}, {pair.before} and {pair.after} on {pair.sets[1].name}, arm {outputs.arm}",
        caption=(
            "Top: the image as the network saw it.",
            _below(outputs.structures),
            note,
            *([] if shareable else [_LICENCES]),
            *data_notes(results, (), [pair.section]),
        ),
        figure=_draw(outputs, columns),
        subject={"kind": kind, **vars(pair)},
    )


def _below(structures: Sequence[str]) -> str:
    if not structures:
        return (
            "Below: each stage's output at threshold 0.5, filled, with the target's outline (dotted white: "
            "ignored areas)."
        )
    return (
        f"Below: each stage's output, filled in a colour for each of {', '.join(structures)}, with the "
        "outlines of the targets (dotted white: ignored areas)."
    )


@drawing()
def _draw(outputs: _Outputs, columns: Sequence[_Column]) -> Figure:
    stages = (outputs.pair.before, outputs.pair.after)
    width = PAGE_IN * max(len(columns), 2) / _MAX_CASES
    height = width / max(len(columns), 2)
    engine = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(width, 3 * height + 0.62), layout=engine)
    grid = figure.subplots(3, len(columns), squeeze=False)
    of_structures = [to_hex([part / 255 for part in line]) for _, line in COLOURS]
    named = dict(zip(outputs.structures or stages, cycle(of_structures), strict=False))
    named = named if outputs.structures else dict(zip(stages, (BEFORE, _AFTER), strict=True))
    for index, column in enumerate(columns):
        _draw_image(grid[0, index], column.sides[1])
        grid[0, index].set_title(f"({'abcd'[index]}) {column.title}")
        shown = zip(grid[1:, index], column.sides, column.below, stages, strict=True)
        for axes, pixels, text, stage in shown:
            colours = list(named.values()) if outputs.structures else [named[stage]]
            _draw_image(axes, pixels)
            _draw_output(axes, outputs.planes(pixels), colours)
            axes.set_xlabel(text, labelpad=2)
    for axes, text in zip(grid[:, 0], ("Image", *stages), strict=True):
        axes.set_ylabel(text)
    casing = [patheffects.Stroke(linewidth=2.2, foreground="black"), patheffects.Normal()]
    handles: list[Any] = [Patch(facecolor=colour, alpha=0.55, label=name) for name, colour in named.items()]
    handles.append(Line2D([], [], color=TARGET, linewidth=1.2, label="target", path_effects=casing))
    figure.legend(handles=handles, loc="outside lower center", ncols=max(3, len(columns) + 1))
    return figure


def _draw_image(axes: Any, pixels: pd.Series) -> None:
    axes.imshow(pixels["image"], cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _draw_output(axes: Any, planes: Sequence[tuple[Pixels, Pixels]], colours: Sequence[str]) -> None:
    """Draws where structures are predicted, and then their targets."""
    for (mask, _), colour in zip(planes, colours, strict=True):
        predicted = mask.astype(float)
        if predicted.any():
            opacity = 0.42 if len(planes) == 1 else 0.25  # fills may lie on each other
            axes.contourf(predicted, levels=[0.5, 1.5], colors=[colour], alpha=opacity)
            if not predicted.all():
                axes.contour(predicted, levels=[0.5], colors=[colour], linewidths=0.9)
    for _, marked in planes:
        target, ignored = (marked == 255).astype(float), (marked == 127).astype(float)
        if np.ptp(ignored):
            axes.contour(ignored, levels=[0.5], colors=["white"], linewidths=0.8, linestyles=":")
        if np.ptp(target):
            outline = axes.contour(target, levels=[0.5], colors=[TARGET], linewidths=0.8)
            outline.set_path_effects(
                [patheffects.Stroke(linewidth=1.5, foreground="black"), patheffects.Normal()]
            )
