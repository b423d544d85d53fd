"""One look for all figures: a journal's column widths, one font, colours safe for colour-blind readers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from xferlab.analysis.aggregation import MIN_PATIENTS
from xferlab.analysis.tables.model import Record
from xferlab.analysis.tables.rendering import visible

COLUMN_IN = 3.5
PAGE_IN = 7.2
DPI = 300
_POINTS = 72
_UNSAID = ("auto", "antialiased")
"""Interpolations by which an image is no smoother than its resolution needs."""

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


def draw_deviations(axes: Any, row: Record, y: float, colour: str, *, thin: str | None = None) -> None:
    """Draws bars of ± the SD over repetitions and, thin and perhaps in a colour of its own, over images.

    None are drawn of too few patients. The ends of the first reach above and below, so that no point hides
    them.
    """
    if row["num_patients"] < MIN_PATIENTS:
        return
    over_repetitions, over_images = (
        [row["mean"] - row[name], row["mean"] + row[name]] for name in ("sd_repetitions", "sd_images")
    )
    if not math.isnan(row["sd_repetitions"]):
        axes.plot(over_repetitions, [y, y], color=colour, **_SD_REPETITIONS)
        axes.plot(over_repetitions, [y, y], color=colour, **_ENDS)
    if not math.isnan(row["sd_images"]):
        axes.plot(over_images, [y, y], color=thin or colour, **_SD_IMAGES)


def deviation_handles(colour: str, *, thin: str | None = None) -> list[tuple[Any, str]]:
    """Returns what a legend shows of the bars that `draw_deviations` draws, each with its name."""
    bar, ends = (Line2D([], [], color=colour, **look) for look in (_SD_REPETITIONS, _ENDS))
    line = Line2D([], [], color=thin or colour, **_SD_IMAGES)
    return [((bar, ends), "SD over repetitions"), (line, "SD over images")]


def value_label(label: str, unit: str) -> str:
    """Returns a name for an axis, with its unit if it has one."""
    return f"{label} ({'number' if unit == 'count' else unit})" if unit else label


def save(picture: Picture, folder: Path) -> tuple[Path, Path, Path]:
    """Writes PNG (300 dpi), SVG and PDF, equal byte for byte for equal data; returns the paths.

    Text in SVG and PDF is outlines, so no font has to be embedded; images that nothing smooths keep their own
    pixels there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figure = picture.figure
    png, svg, pdf = (folder / f"{picture.name}.{ending}" for ending in ("png", "svg", "pdf"))
    with drawing():
        artists = figure.findobj()  # a walk over all ticks, too: a slow one
        for text in (artist for artist in artists if isinstance(artist, Text)):
            text.set_text("\n".join(map(visible, text.get_text().split("\n"))))
        figure.set_dpi(DPI)
        # `savefig` would find the layout, and draw, once more for each file.
        if engine := figure.get_layout_engine():
            engine.execute(figure)
        figure.set_layout_engine("none")
        FigureCanvasAgg(figure).print_png(png, metadata={"Software": None})
        for image in (artist for artist in artists if isinstance(artist, AxesImage)):
            if image.get_interpolation() in _UNSAID:
                image.set_interpolation("none")
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None})
        for text in figure.findobj(Text):
            text.set_path_effects([Normal()])
        figure.set_dpi(_POINTS)  # the unit of a PDF
        FigureCanvasPdf(figure).print_pdf(pdf, metadata={"CreationDate": None})
    return png, svg, pdf
