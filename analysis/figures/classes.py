"""ROC and precision-recall curves with bands over repetitions, and confusion matrices, as figures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.contents import Contents
from xferlab.analysis.figures.style import GREY, LOOKS, PAGE_IN, Picture, drawing
from xferlab.analysis.selection import detailed_arms
from xferlab.analysis.tables.model import file_name
from xferlab.analysis.tables.notes import data_notes
from xferlab.analysis.told import Confusion, Told, counted, mean_and_sd, told
from xferlab.metrics.curves import precision_at, reliability, roc_at
from xferlab.metrics.sets import FUNCTIONS, Floats, SetFunction

_GRID = np.linspace(0, 1, 201)
_PANEL_IN = 2.3
_LETTERS_PER_IN = 9
"""Of a bold title above a matrix."""
_STYLES = ("-", "--", "-.")


@dataclass(frozen=True)
class _Curve:
    """A kind of curve.

    Attributes:
        name: Stem of files, and what papers' figures are found by.
        title: What it is called.
        labels: Of both axes.
        at: Gives it on a grid.
        area: Its area, exact.
        area_name: What that is called.
        sentence: How it is read.
        chance: Gives the line of a classifier that knows nothing, from the share of the class.
    """

    name: str
    title: str
    labels: tuple[str, str]
    at: Callable[[Floats, Floats, Floats], Floats]
    area: SetFunction
    area_name: str
    sentence: str
    chance: Callable[[float], Floats]


_CURVES = (
    _Curve(
        "roc",
        "ROC curves",
        ("1 − specificity", "Sensitivity"),
        roc_at,
        FUNCTIONS["roc_auc"],
        "AUC",
        "Sensitivity at each false positive rate; images of equal probability are joined by a straight line.",
        lambda share: _GRID,
    ),
    _Curve(
        "precision_recall",
        "precision-recall curves",
        ("Sensitivity (recall)", "Precision"),
        precision_at,
        FUNCTIONS["average_precision"],
        "AP",
        "Precision at the highest threshold that reaches each sensitivity; AP: average precision.",
        lambda share: np.full(len(_GRID), share),
    ),
)


@dataclass(frozen=True)
class _Drawn:
    """A figure of an evaluation set.

    Attributes:
        kind: Stem of files, and what papers' figures are found by.
        title: What it shows.
        sentences: How it is read.
        figure: The figure.
    """

    kind: str
    title: str
    sentences: tuple[str, ...]
    figure: Figure


def class_pictures(contents: Contents) -> Iterator[Picture]:
    """Yields curves and confusion matrices of each evaluation set of stages that tell classes."""
    detailed = set(detailed_arms(contents.results))
    for evaluated in contents.plain_sets:
        of_set = [each for each in told(contents, evaluated) if detailed.intersection(each.arms)]
        for number, classes in enumerate(dict.fromkeys(each.classes for each in of_set)):
            shown = [each for each in of_set if each.classes == classes]
            stem = f"{evaluated.stage}_on_{file_name(evaluated.stem)}{f'_{number + 1}' if number else ''}"
            notes = (*_counts(shown), *data_notes(contents.results, [evaluated.stage], [evaluated.section]))
            for drawn in _drawn(shown):
                yield Picture(
                    name=f"{drawn.kind}_{stem}",
                    title=f"{drawn.title}, stage {evaluated.stage} on {evaluated.name}",
                    caption=(*drawn.sentences, *notes),
                    figure=drawn.figure,
                    subject={"kind": drawn.kind, **vars(evaluated)},
                )


def _drawn(shown: Sequence[Told]) -> Iterator[_Drawn]:
    for curve in _CURVES:
        sentences: tuple[str, ...] = (
            "Each class against the rest. Lines: mean over repetitions of their exact curves; bands: ± "
            "sample SD over repetitions.",
            curve.sentence,
            f"{curve.area_name}: mean over repetitions ± sample SD of the exact areas. Dotted: chance.",
        )
        yield _Drawn(curve.name, curve.title, sentences, _draw_curves(curve, shown))
    sentences = (
        "Share of the class among the images whose probability of it lies in a bin, at the mean of these "
        "probabilities; the bins are those of the calibration error (ECE). Points and bars: mean ± "
        "sample SD over the repetitions with images in the bin.",
        "Dotted: perfect calibration; below it, probabilities are too high. ECE: mean over repetitions ± "
        "sample SD.",
    )
    yield _Drawn("reliability", "reliability of probabilities", sentences, draw_reliability(shown))
    sentences = (
        "Share of the images of each class, mean over the repetitions that have such images; in parentheses "
        "their number in a repetition, mean over repetitions. Lines: what images are; columns: what they are "
        "called.",
    )
    yield _Drawn("confusion", "what images of each class are called", sentences, _draw_confusions(shown))


def _counts(shown: Sequence[Told]) -> Iterator[str]:
    yield f"{'; '.join(map(counted, shown))}."
    if any(each.num_patients < MIN_PATIENTS for each in shown):
        yield f"n < {MIN_PATIENTS} patients: no deviations are drawn."


def _grid(num: int, side: float, *, top: float = 0.35) -> tuple[Figure, list[Any]]:
    """Returns a figure with so many square panels, and their axes."""
    rows = math.ceil(num / max(1, int(PAGE_IN / side)))
    columns = math.ceil(num / rows)
    figure = Figure(figsize=(columns * side, rows * side + top), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for unused in axes[num:]:
        unused.set_visible(False)
    return figure, axes[:num]


def _draw_curves(curve: _Curve, shown: Sequence[Told]) -> Figure:
    def chance(name: str) -> Floats:
        shares = [truth.mean() for (truth,) in shown[0].by_repetition(f"IS_{name}") if len(truth)]
        return curve.chance(float(np.mean(shares)))

    return _draw_panels(shown, curve.labels, chance=chance, draw=partial(_draw_curve, curve=curve))


def draw_reliability(shown: Sequence[Told], *, of: str = "class") -> Figure:
    """Returns a panel for each class, with the share of it in each bin of its probability."""
    labels = ("Probability", f"Share of the {of}")
    figure = _draw_panels(shown, labels, chance=lambda name: _GRID, draw=_draw_bins)
    for axes in figure.axes:
        _move_texts_off_curves(axes)
    return figure


def _move_texts_off_curves(axes: Any) -> None:
    """Moves the texts from the lower right to the upper left, if less of the curves lies there."""
    height, rise = _TEXT_STEP * len(axes.texts), 1 - _TEXT_STEP * (len(axes.texts) - 1) - 2 * _TEXT_BOTTOM
    steps = np.linspace(0, 1, 20)
    drawn = [np.column_stack(line.get_data()) for line in axes.lines if line.get_linestyle() != ":"]
    ends = [(begin, end) for line in drawn for begin, end in pairwise(line)]
    x, y = np.concatenate([np.empty((0, 2)), *(a + steps[:, None] * (b - a) for a, b in ends)]).T
    low = np.sum((x > _TEXT_LEFT) & (y < height + _TEXT_BOTTOM))
    high = np.sum((x < 1 - _TEXT_LEFT) & (y > 1 - height - _TEXT_BOTTOM))
    if high < low:
        for text in axes.texts:
            text.set(x=0.03, y=text.get_position()[1] + rise, ha="left")


_TICKS = (0, 0.25, 0.5, 0.75, 1)
_TEXT_BOTTOM, _TEXT_STEP, _TEXT_LEFT = 0.05, 0.085, 0.4
"""Where the lowest text of a panel stands, how far the next is above it, and where the widest begins."""
_BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}


@drawing()
def _draw_panels(
    shown: Sequence[Told],
    labels: tuple[str, str],
    *,
    chance: Callable[[str], Floats],
    draw: Callable[..., None],
) -> Figure:
    """Returns a panel for each class, with a dotted line over the grid and what `draw` draws of each arm."""
    columns = len(shown) if len(shown[0].classes) > 1 else 1  # of the legend; a panel alone is narrow
    figure, panels = _grid(len(shown[0].classes), _PANEL_IN, top=0.35 + 0.12 * (len(shown) - columns))
    looks = [(colour, style) for (colour, _), style in zip(LOOKS, _STYLES, strict=False)]
    for axes, name in zip(panels, shown[0].classes, strict=True):
        axes.plot(_GRID, chance(name), ":", color=GREY, linewidth=0.8)
        for number, (each, look) in enumerate(zip(shown, looks, strict=False)):
            draw(axes, each, name, look=look, y=_TEXT_BOTTOM + _TEXT_STEP * (len(shown) - 1 - number))
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", xticks=_TICKS, yticks=_TICKS)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.set_title(name, loc="left", fontweight="bold")
    handles = [
        Line2D([], [], color=colour, linestyle=style, label=", ".join(each.arms))
        for each, (colour, style) in zip(shown, looks, strict=False)
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=columns, handlelength=2.6)
    return figure


def _draw_curve(axes: Any, shown: Told, name: str, *, curve: _Curve, look: tuple[str, str], y: float) -> None:
    colour, style = look
    pairs = list(shown.by_repetition(f"IS_{name}", f"P_{name}"))
    mean, deviation, num = mean_and_sd(np.array([curve.at(truth, score, _GRID) for truth, score in pairs]))
    few = shown.num_patients < MIN_PATIENTS
    if num > 1 and not few:
        low, high = np.clip(mean - deviation, 0, 1), np.clip(mean + deviation, 0, 1)
        axes.fill_between(_GRID, low, high, color=colour, alpha=0.15, linewidth=0)
        for edge in (low, high):  # where bands overlap, their colours mix
            axes.plot(_GRID, edge, linestyle=style, color=colour, alpha=0.5, linewidth=0.4)
    axes.plot(_GRID, mean, linestyle=style, color=colour)
    text = _valued(curve.area_name, curve.area, pairs, few=few)
    x, side = (0.04, "left") if curve.name == "precision_recall" else (0.97, "right")
    axes.text(x, y, text, color=colour, ha=side, va="center", fontsize=6.5, bbox=_BOX)


def _draw_bins(axes: Any, shown: Told, name: str, *, look: tuple[str, str], y: float) -> None:
    colour, style = look
    pairs = list(shown.by_repetition(f"IS_{name}", f"P_{name}"))
    bins = np.array([reliability(truth, score) for truth, score in pairs])
    of_bins = [mean_and_sd(bins[..., number]) for number in range(bins.shape[-1])]
    drawn = [(mean, deviation) for mean, deviation, num in of_bins if num]
    few = shown.num_patients < MIN_PATIENTS
    for mean, deviation in drawn:
        if not few and not np.isnan(deviation[1]):
            low, high = np.clip([mean[1] - deviation[1], mean[1] + deviation[1]], 0, 1)
            axes.plot([mean[0]] * 2, [low, high], color=colour, alpha=0.5, linewidth=0.6)
    points = np.array([mean for mean, _ in drawn]).reshape(-1, 2)
    axes.plot(*points.T, linestyle=style, marker="o", markersize=2.5, color=colour)
    text = _valued("ECE", FUNCTIONS["expected_calibration_error"], pairs, few=few)
    axes.text(0.97, y, text, color=colour, ha="right", va="center", fontsize=6.5, bbox=_BOX)


def _valued(name: str, function: SetFunction, pairs: Sequence[Sequence[Floats]], *, few: bool) -> str:
    """Returns a value of sets as mean and SD over repetitions; `few` patients have no SD."""
    mean, deviation, num = mean_and_sd(np.array([function(*pair) for pair in pairs]))
    spread = "" if few or num < 2 else f" ± {float(deviation):.3f}"
    return f"{name} {float(mean):.3f}{spread}" if num else "undefined"


@drawing()
def _draw_confusions(shown: Sequence[Told]) -> Figure:
    matrices = [(each, matrix) for each in shown for matrix in each.confusions()]
    side = min(PAGE_IN, 1.05 + 0.34 * len(matrices[0][1].true))
    figure, panels = _grid(len(matrices), side, top=0.1)
    for axes, (each, matrix) in zip(panels, matrices, strict=True):
        arms = ", ".join(each.arms) if len(shown) > 1 or not matrix.of else ""
        title = ": ".join(filter(None, (arms, matrix.of)))
        _draw_confusion(axes, matrix)
        axes.set_title(
            "\n".join(textwrap.wrap(title, int(_LETTERS_PER_IN * side))), loc="left", fontweight="bold"
        )
    return figure


def _draw_confusion(axes: Any, matrix: Confusion) -> None:
    shares = np.array([matrix.shares_of(line)[0] for line in range(len(matrix.true))])
    counts = matrix.counts.mean(axis=0)
    axes.imshow(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=1)
    for edge in range(1, len(matrix.true)):  # cells of equal shares are told apart
        axes.axhline(edge - 0.5, color="white", linewidth=0.8)
    for edge in range(1, len(matrix.called)):
        axes.axvline(edge - 0.5, color="white", linewidth=0.8)
    for (row, column), share in np.ndenumerate(shares):
        text = "–" if np.isnan(share) else f"{share:.2f}\n({counts[row, column]:.1f})"
        colour = "white" if share > 0.6 else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=6.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    axes.set(xticks=range(len(matrix.called)), yticks=range(len(matrix.true)))
    axes.set_xticklabels(matrix.called, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticklabels(matrix.true)
    axes.set(xlabel="Called", ylabel="Class")
