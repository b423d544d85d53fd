"""One look for all figures: a journal's column widths, one font, colours safe for colour-blind readers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.tables.model import Record

COLUMN_IN = 3.5
PAGE_IN = 7.2

# Okabe and Ito's palette: distinct for all common kinds of colour blindness.
BEFORE, AFTER, TRAIN, VALIDATION = "#D55E00", "#0072B2", "#0072B2", "#D55E00"
TARGET, GREY = "#F0E442", "#6B6B6B"
# The shape tells lines apart without colour.
LOOKS = (
    ("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#E69F00", "v"),
    ("#56B4E9", "P"), ("#6B6B6B", "X"),
)  # fmt: skip

_SD_IMAGES: Mapping[str, Any] = {"linewidth": 0.9, "solid_capstyle": "butt"}
_SD_REPETITIONS: Mapping[str, Any] = {"linewidth": 3.2, "alpha": 0.4, "solid_capstyle": "butt"}
_ENDS: Mapping[str, Any] = {"marker": "|", "markersize": 7, "markeredgewidth": 0.9, "linestyle": ""}

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # shipped with matplotlib: equal on every machine
    "font.size": 7.5,
    "text.parse_math": False,  # names from data may hold dollar signs
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": "#333333",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "svg.hashsalt": "xferlab",  # ids that do not change from run to run
    "figure.facecolor": "white",
}


@dataclass(frozen=True, eq=False)
class Picture:
    """A drawn figure with its words.

    Attributes:
        name: File stem.
        title: What it shows.
        caption: Sentences that say what is shown.
        figure: The drawing.
        subject: What it shows, as names and values. A paper's figure with the same subject gives the number.
    """

    name: str
    title: str
    caption: tuple[str, ...]
    figure: Figure
    subject: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Picture({self.name!r}: {self.title})"


@contextmanager
def drawing() -> Iterator[None]:
    """Applies the style within a block or, as `@drawing()`, a function; nothing outside changes."""
    with mpl.rc_context(_STYLE):
        yield


def legend(
    figure: Figure,
    looks: Mapping[str, tuple[str, str]],
    *,
    linestyle: str = "",
    more: Sequence[tuple[Any, str]] = (),
) -> None:
    """Names the colour and marker of each entry, and the handles of `more`, above a figure."""
    entries: list[tuple[Any, str]] = [
        (Line2D([], [], color=colour, marker=marker, markersize=3.5, linestyle=linestyle), label)
        for label, (colour, marker) in looks.items()
    ]
    handles, labels = zip(*entries, *more, strict=True)
    place = f"outside upper {'center' if linestyle else 'right'}"
    figure.legend(handles, labels, loc=place, ncols=len(handles))


def style_lines(
    axes: Any, names: Sequence[str], *, grid: Literal["both", "x"] = "both", num_ticks: int = 6
) -> None:
    """Names horizontal lines of points, the first at the top, on a light grid behind them.

    At most so many numbers stand on the axis below that they do not touch.
    """
    axes.xaxis.set_major_locator(MaxNLocator(nbins=num_ticks - 1, steps=[1, 2, 5, 10]))
    axes.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.45, -0.55), axisbelow=True)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis=grid, color="#DDDDDD", linewidth=0.5)


def draw_interval(
    axes: Any, row: Mapping[Any, Any], y: float, colour: str, *, linewidth: float = 1.2
) -> None:
    """Draws the interval of a difference, if it has one; dotted where there is no p."""
    if not math.isnan(row["low"]):
        style = ":" if row["no_p"] else "-"
        span = [row["low"], row["high"]]
        axes.plot(span, [y, y], style, color=colour, linewidth=linewidth, solid_capstyle="butt")


def draw_deviations(
    axes: Any, lines: Mapping[float, Record], colour: str, *, thin: str | None = None
) -> None:
    """Draws bars of ± the SD over repetitions and, thin and perhaps in a colour of its own, over images.

    None are drawn of too few patients. The ends of the first reach above and below, so that no point hides
    them.

    Args:
        axes: Where.
        lines: Mean, deviations and number of patients, by height.
        colour: Of the bars.
        thin: Of the thin ones, if it is another.
    """
    shown = {y: row for y, row in lines.items() if row["num_patients"] >= MIN_PATIENTS}
    over_repetitions, over_images = (
        spans({y: (row["mean"], row[name]) for y, row in shown.items()})
        for name in ("sd_repetitions", "sd_images")
    )
    axes.plot(*over_repetitions, color=colour, **_SD_REPETITIONS)
    axes.plot(*over_repetitions, color=colour, **_ENDS)
    axes.plot(*over_images, color=thin or colour, **_SD_IMAGES)


def spans(values: Mapping[float, tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Returns x and y of horizontal lines from mean - SD to mean + SD at some heights.

    They are one line with gaps, since a figure of many single lines takes long.
    """
    x = [end for mean, sd in values.values() for end in (mean - sd, mean + sd, math.nan)]
    return x, [height for y in values for height in (y, y, math.nan)]


def deviation_handles(colour: str, *, thin: str | None = None) -> list[tuple[Any, str]]:
    """Returns what a legend shows of the bars that `draw_deviations` draws, each with its name."""
    bar, ends = (Line2D([], [], color=colour, **look) for look in (_SD_REPETITIONS, _ENDS))
    line = Line2D([], [], color=thin or colour, **_SD_IMAGES)
    return [((bar, ends), "SD over repetitions"), (line, "SD over images")]


def value_label(label: str, unit: str) -> str:
    """Returns a name for an axis, with its unit if it has one."""
    return f"{label} ({'number' if unit == 'count' else unit})" if unit else label
